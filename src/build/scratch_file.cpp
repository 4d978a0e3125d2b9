#include "build/scratch_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "format/error.h"

namespace puzzlefs::build {
namespace {

std::uint64_t round_up_to_pages(std::uint64_t size) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

fetch::FileDescriptor make_unnamed_file(const std::filesystem::path& directory) {
  fetch::FileDescriptor file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file) return file;
  // Not every file system has such: FUSE and NFS do not. If it is something else, this fails too.
  std::string name = directory / ".tmp-XXXXXX";
  file = fetch::FileDescriptor(::mkostemp(name.data(), O_CLOEXEC));
  if (file) ::unlink(name.c_str());
  return file;
}

}  // namespace

ScratchFile::ScratchFile(const std::filesystem::path& directory)
    : directory_(directory), file_(make_unnamed_file(directory)) {
  if (!file_) throw_errno("create a file in " + directory.native());
}

void ScratchFile::append(ByteView bytes) {
  while (!bytes.empty()) {
    const auto written =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno("write a temporary file in " + directory_.native());
    size_ += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void ScratchFile::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  fetch::read_at(file_, offset, bytes, directory_ / "(temporary file)");
}

std::span<std::byte> ScratchFile::map_more(std::uint64_t size) {
  const std::uint64_t offset = round_up_to_pages(size_);
  reserve(offset, size);
  void* const start = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(),
                             static_cast<off_t>(offset));
  if (start == MAP_FAILED) return {};
  size_ = offset + size;
  return {static_cast<std::byte*>(start), size};
}

// Without room on the disk a write to the mapping would be a SIGBUS.
void ScratchFile::reserve(std::uint64_t offset, std::uint64_t size) {
  int error = 0;
  do {
    error = ::posix_fallocate(file_.get(), static_cast<off_t>(offset), static_cast<off_t>(size));
  } while (error == EINTR);
  if (error != 0) throw_errno("write a temporary file in " + directory_.native(), error);
}

ScratchSegments::~ScratchSegments() {
  for (const auto mapping : mappings_) ::munmap(mapping.data(), mapping.size());
}

std::span<std::uint64_t> ScratchSegments::allocate(std::size_t words) {
  mappings_.reserve(mappings_.size() + 1);
  const auto mapping = file_.map_more(words * sizeof(std::uint64_t));
  if (mapping.empty()) return in_memory_.allocate(words);
  mappings_.push_back(mapping);
  return {reinterpret_cast<std::uint64_t*>(mapping.data()), words};
}

void ScratchSegments::release() {
  for (const auto mapping : mappings_) ::madvise(mapping.data(), mapping.size(), MADV_DONTNEED);
}

}  // namespace puzzlefs::build
