#include "fetch/verity_reader.h"

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "format/bytes.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kReadSize = 64 << 10;

}  // namespace

std::optional<format::Digest> VerityReader::read(const FileDescriptor& file, std::uint64_t size) {
  Bytes buffer(kReadSize);
  for (std::uint64_t done = 0; done < size;) {
    const auto got = ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(offset_));
    if (got == 0) return hasher_.finish();
    if (got > 0) {
      const auto count = static_cast<std::size_t>(got);
      hasher_.update(ByteView(buffer).first(count));
      offset_ += count;
      done += count;
    } else if (errno != EINTR) {
      throw_errno("read a file of the cache");
    }
  }
  return std::nullopt;
}

format::Digest read_verity_digest(const FileDescriptor& file) {
  constexpr auto kToTheEnd = std::numeric_limits<std::uint64_t>::max();
  return VerityReader().read(file, kToTheEnd).value();
}

}  // namespace puzzlefs::fetch
