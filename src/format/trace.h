// Traces: which chunks of an image were used, in the order of first use (doc/format.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::format {

/// What somebody needed of an image.
struct Trace {
  /// In the order of first use: digests of the uncompressed chunks of a packed image, of the blobs
  /// of a chunked one. What an image does not have means nothing for it.
  std::vector<Digest> chunks;

  bool operator==(const Trace&) const = default;
};

/// The trace that a text file holds: a line `puzzlefs-trace 1`, then one `sha256:<hex>` a line.
/// Throws CorruptError, naming `name` and the line, for anything else.
Trace parse_trace(ByteView document, std::string_view name);

/// The text that parse_trace() reads.
std::string to_text(const Trace& trace);

}  // namespace puzzlefs::format
