#include "fetch/blob_source.h"

#include <spdlog/fmt/fmt.h>

#include "format/error.h"

namespace puzzlefs::fetch {

void check_range(const format::Descriptor& blob, ByteRange range) {
  if (range.offset <= blob.size && range.size <= blob.size - range.offset) return;
  throw CorruptError(fmt::format("The {} bytes from {} on do not lie within blob {}, which has {}.",
                                 range.size, range.offset, blob.digest.to_string(), blob.size));
}

}  // namespace puzzlefs::fetch
