// Reading the extended attributes of files of every kind.
#pragma once

#include <string>
#include <vector>

#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// All attributes of an open file that this process may list, sorted by key. `path` is for
/// messages.
std::vector<format::XattrRecord> read_xattrs(int fd, const std::string& path);

/// As read_xattrs() for the file `name` in the open directory `directory`, which may be of any
/// kind; a symbolic link is not followed. Needs /proc.
std::vector<format::XattrRecord> read_xattrs_at(int directory, const std::string& name,
                                                const std::string& path);

}  // namespace puzzlefs::build
