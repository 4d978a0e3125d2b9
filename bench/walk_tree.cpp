// walk_tree stat|read DIRECTORY…: visits all names below directories, asks for the attributes of
// each as find does, or reads all files too, and writes seconds, names and bytes read.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kBlock = 128 << 10;

struct Totals {
  std::uint64_t names = 0;
  std::uint64_t bytes = 0;
};

[[noreturn]] void fail(const char* name) {
  std::perror(name);
  std::exit(1);
}

void read_file(int folder, const char* name, std::vector<std::byte>& block, Totals& totals) {
  const int file = ::openat(folder, name, O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(name);
  ssize_t count = 0;
  while ((count = ::read(file, block.data(), block.size())) > 0) {
    totals.bytes += static_cast<std::uint64_t>(count);
  }
  if (count < 0) fail(name);
  ::close(file);
}

// A depth-first walk with one open directory for each level, as of find and ls.
void walk(int folder, bool read, std::vector<std::byte>& block, Totals& totals) {
  DIR* const stream = ::fdopendir(folder);
  if (stream == nullptr) fail("fdopendir");
  while (const dirent* const entry = ::readdir(stream)) {
    const char* const name = entry->d_name;
    if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
    struct stat status {};
    if (::fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0) fail(name);
    ++totals.names;
    if (S_ISDIR(status.st_mode)) {
      const int inner = ::openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (inner < 0) fail(name);
      walk(inner, read, block, totals);
    } else if (read && S_ISREG(status.st_mode)) {
      read_file(folder, name, block, totals);
    }
  }
  ::closedir(stream);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const bool read = std::string_view(argv[1]) == "read";
  std::vector<std::byte> block(kBlock);
  Totals totals;
  const auto start = std::chrono::steady_clock::now();
  for (const char* const name : std::span(argv, static_cast<std::size_t>(argc)).subspan(2)) {
    const int root = ::open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) fail(name);
    walk(root, read, block, totals);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%.6f %llu %llu\n", seconds.count(), static_cast<unsigned long long>(totals.names),
              static_cast<unsigned long long>(totals.bytes));
  return 0;
}
