// Giving an extracted file its owner, extended attributes, mode and time.
#pragma once

#include <string>

#include "build/left_out.h"
#include "format/metadata.h"

namespace puzzlefs::build {

/// Gives the file open at `fd` (O_PATH suffices) what `inode` says, in the order that keeps all of
/// it: a change of owner clears capabilities and set-id bits, the mode may forbid everything else.
/// The time of modification, and of access with it, comes last, if the image records one.
/// Where the caller may not give files away the owner stays, and set-id bits are left out, which
/// would otherwise lend the caller's rights to others; so are attributes that a caller other than
/// root may not set. `left_out` counts these. Throws Error, naming `path`.
void apply_attributes(int fd, const format::Inode& inode, const std::string& path,
                      LeftOut& left_out);

}  // namespace puzzlefs::build
