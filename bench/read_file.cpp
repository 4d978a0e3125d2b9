// read_file sequential|random|map FILE: reads a file and writes how many MiB it read in a second.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <span>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kBlock = 1 << 20;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kRandomReads = 100'000;
constexpr std::size_t kReadsBetweenLooks = 256;
constexpr std::chrono::seconds kPatience{3};  // with who is slow, fewer reads tell as much

std::size_t read_sequentially(int file, std::size_t) {
  std::vector<std::byte> block(kBlock);
  std::size_t total = 0;
  ssize_t count = 0;
  while ((count = ::read(file, block.data(), block.size())) > 0) {
    total += static_cast<std::size_t>(count);
  }
  return count < 0 ? 0 : total;
}

std::size_t read_randomly(int file, std::size_t size) {
  std::vector<std::byte> page(kPage);
  std::mt19937_64 random;  // the same places each time
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (std::size_t i = 0; i < kRandomReads; ++i) {
    const bool looks = i > 0 && i % kReadsBetweenLooks == 0;
    if (looks && std::chrono::steady_clock::now() > end) return i * kPage;
    const auto place = random() % (size / kPage) * kPage;
    if (::pread(file, page.data(), kPage, static_cast<off_t>(place)) != ssize_t{kPage}) return 0;
  }
  return kRandomReads * kPage;
}

std::size_t read_mapped(int file, std::size_t size) {
  void* const start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  if (start == MAP_FAILED) return 0;
  const std::span words(static_cast<const std::uint64_t*>(start), size / sizeof(std::uint64_t));
  volatile auto sum = std::accumulate(words.begin(), words.end(), std::uint64_t{0});
  static_cast<void>(sum);
  ::munmap(start, size);
  return size;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string_view way = argv[1];
  const auto read = way == "sequential" ? read_sequentially
                    : way == "random"   ? read_randomly
                                        : read_mapped;
  const int file = ::open(argv[2], O_RDONLY);
  struct stat status {};
  if (file < 0 || ::fstat(file, &status) != 0) {
    std::perror(argv[2]);
    return 1;
  }
  const auto start = std::chrono::steady_clock::now();
  const auto bytes = read(file, static_cast<std::size_t>(status.st_size));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (bytes == 0) {
    std::perror(argv[2]);
    return 1;
  }
  std::printf("%.1f\n", static_cast<double>(bytes) / kBlock / seconds.count());
  return 0;
}
