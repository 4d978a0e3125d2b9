// Small reads at random, and what the kernel then has of the file.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "format/chunk_codec.h"
#include "fs/unmount.h"
#include "mounted_image.h"

namespace puzzlefs::fs {
namespace {

using test::directory;
using test::file;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = 64;
constexpr std::size_t kCut = 20 * kPage + 1000;  // where one piece ends and the next one begins
constexpr std::size_t kSize = kPages * kPage - 700;

/// Which can be compressed, and repeats nowhere.
std::string random_text(std::size_t size) {
  std::mt19937 random(1);
  std::string text(size, '\0');
  for (auto& letter : text) letter = static_cast<char>('a' + random() % 4);
  return text;
}

std::string read_at(const fetch::FileDescriptor& file, std::size_t offset, std::size_t size) {
  std::string bytes(size, '\0');
  const auto count = ::pread(file.get(), bytes.data(), size, static_cast<off_t>(offset));
  bytes.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return bytes;
}

/// A file of two pieces, neither of them of whole pages: a part of a chunk that has more, and a
/// compressed chunk.
class UnaskedPagesMount : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::MountedImage::is_possible()) GTEST_SKIP() << "FUSE cannot be used here";
  }

  void mount(bool has_local_chunks = true) {
    image_.mount({directory(1, {{2, "f"}}), file(2, {first_, second_})},
                 {.has_local_chunks = has_local_chunks});
  }
  fetch::FileDescriptor open(int flags = 0) {
    return fetch::FileDescriptor(::open((image_ / "f").c_str(), O_RDONLY | O_CLOEXEC | flags));
  }
  /// Those that the kernel has, which is not asked to read any by this.
  std::vector<std::size_t> pages_in_kernel(const fetch::FileDescriptor& file) {
    void* const start = ::mmap(nullptr, text_.size(), PROT_READ, MAP_SHARED, file.get(), 0);
    EXPECT_NE(start, MAP_FAILED);
    std::vector<unsigned char> present(kPages);
    EXPECT_EQ(::mincore(start, text_.size(), present.data()), 0);
    ::munmap(start, text_.size());
    std::vector<std::size_t> pages;
    for (std::size_t page = 0; page < kPages; ++page) {
      if ((present[page] & 1U) != 0) pages.push_back(page);
    }
    return pages;
  }
  /// Returns when the kernel has so many pages, or has not for too long.
  std::size_t wait_for_pages(const fetch::FileDescriptor& file, std::size_t count) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (pages_in_kernel(file).size() < count && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return pages_in_kernel(file).size();
  }
  /// Returns what is wrong with a reader's random places, or nothing.
  std::string read_at_random(unsigned seed) {
    const auto file = open();
    std::mt19937 random(seed);
    for (int i = 0; i < 300; ++i) {
      const std::size_t offset = random() % text_.size();
      const std::size_t size = random() % (5 * kPage) + 1;
      if (i % 50 == 0) ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
      if (read_at(file, offset, size) != text_.substr(offset, size)) {
        return std::to_string(size) + " bytes at " + std::to_string(offset) + " are wrong.";
      }
    }
    return {};
  }

  /// How often the kernel asked for something of a chunk.
  std::uint64_t chunk_reads() const {
    const auto counts = image_.stats().snapshot();
    return counts.chunks_from_memory + counts.chunks_from_disk + counts.chunks_from_network;
  }

  const std::string text_ = random_text(kSize);
  test::MountedImage image_;
  const format::ChunkRef first_{image_.chunk("before" + text_.substr(0, kCut) + "after"), 6, kCut,
                                false};
  const format::ChunkRef second_{
      image_.chunk(std::string(
          as_text(format::ChunkCompressor().compress(as_bytes(text_).subspan(kCut)).value()))),
      0, kSize - kCut, true};
};

TEST_F(UnaskedPagesMount, AreTheRestOfThePieceThatWasReadOf) {
  mount();
  const auto file = open();
  EXPECT_EQ(read_at(file, 5 * kPage, kPage), text_.substr(5 * kPage, kPage));
  EXPECT_EQ(wait_for_pages(file, 20), 20U);  // not the page that the next piece has a part of
  EXPECT_EQ(read_at(file, 40 * kPage, kPage), text_.substr(40 * kPage, kPage));
  EXPECT_EQ(wait_for_pages(file, kPages - 2), kPages - 2);  // and not the last one, of part of it
}

TEST_F(UnaskedPagesMount, NeedNotBeAskedFor) {
  mount();
  const auto file = open();
  read_at(file, 5 * kPage, kPage);
  ASSERT_EQ(wait_for_pages(file, 20), 20U);
  read_at(file, 40 * kPage, kPage);
  ASSERT_EQ(wait_for_pages(file, kPages - 2), kPages - 2);
  EXPECT_EQ(chunk_reads(), 2U);
  for (std::size_t page = 0; page < kPages - 1; ++page) {
    if (page == kCut / kPage) continue;  // of both pieces
    EXPECT_EQ(read_at(file, page * kPage, kPage), text_.substr(page * kPage, kPage));
  }
  EXPECT_EQ(chunk_reads(), 2U);
}

TEST_F(UnaskedPagesMount, LeaveTheFileItsSize) {
  mount();
  const auto file = open();
  read_at(file, 40 * kPage, kPage);
  ASSERT_EQ(wait_for_pages(file, kPages - 22), kPages - 22);
  EXPECT_EQ(std::filesystem::file_size(image_ / "f"), kSize);
  EXPECT_EQ(read_at(file, kSize - 10, 1000), text_.substr(kSize - 10));
  void* const start = ::mmap(nullptr, kSize, PROT_READ, MAP_SHARED, file.get(), 0);
  ASSERT_NE(start, MAP_FAILED);
  const std::string last(static_cast<const char*>(start) + kSize, 700);
  ::munmap(start, kSize);
  EXPECT_EQ(last, std::string(700, '\0'));  // the rest of the last page
}

TEST_F(UnaskedPagesMount, AreNoneWhereChunksComeFromElsewhere) {
  mount(false);
  const auto file = open();
  read_at(file, 5 * kPage, kPage);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(pages_in_kernel(file), std::vector<std::size_t>{5});
}

TEST_F(UnaskedPagesMount, AreNoneForAReaderPastThePageCache) {
  mount();
  const auto file = open(O_DIRECT);
  EXPECT_EQ(read_at(file, 5 * kPage, kPage), text_.substr(5 * kPage, kPage));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_TRUE(pages_in_kernel(file).empty());
}

TEST_F(UnaskedPagesMount, AreRightForManyReaders) {
  mount();
  std::vector<std::future<std::string>> readers;
  for (unsigned seed = 0; seed < 8; ++seed) {
    readers.push_back(std::async(std::launch::async, [=, this] { return read_at_random(seed); }));
  }
  for (auto& reader : readers) EXPECT_EQ(reader.get(), "");
}

TEST_F(UnaskedPagesMount, AreNotStoredBesideOnesThatAreBeingRead) {
  image_.source().hold(second_.blob);
  mount();
  const auto file = open();
  // Pages of the first piece, and of the second, which does not come.
  auto reader =
      std::async(std::launch::async, [&] { return read_at(file, 18 * kPage, 5 * kPage); });
  image_.source().wait_for_reader(second_.blob);
  read_at(file, 5 * kPage, kPage);
  EXPECT_EQ(wait_for_pages(file, 6), 6U);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(pages_in_kernel(file).size(), 6U);
  ::kill(::getpid(), SIGTERM);
  image_.wait_for_end();
  image_.source().let_go(second_.blob);
  EXPECT_EQ(reader.get(), text_.substr(18 * kPage, 5 * kPage));
  image_.end_session();
}

/// The server is a process of its own, which is killed.
class UnaskedPagesKilled : public UnaskedPagesMount {
 protected:
  ~UnaskedPagesKilled() override {
    if (server_ <= 0) return;
    ::kill(server_, SIGKILL);
    ::umount2(image_.path().c_str(), MNT_FORCE);  // which ends it if nothing else does
    ::waitpid(server_, nullptr, 0);
  }

  /// Returns when it serves the mount.
  void start_server() {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    told_ = fetch::FileDescriptor(ends[0]);
    const fetch::FileDescriptor telling(ends[1]);
    server_ = ::fork();
    if (server_ == 0) serve(telling);
    wait_until_told();
  }
  /// The server tells when it serves, and when it is asked for the second piece.
  void wait_until_told() {
    char byte = 0;
    EXPECT_EQ(::read(told_.get(), &byte, 1), 1);
  }
  bool has_ended() {
    for (int i = 0; i < 500; ++i) {
      if (::waitpid(server_, nullptr, WNOHANG) == server_) {
        server_ = 0;
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  pid_t server_ = 0;
  fetch::FileDescriptor told_;

 private:
  [[noreturn]] void serve(const fetch::FileDescriptor& telling) {
    image_.source().hold(second_.blob);
    mount();
    if (::write(telling.get(), "m", 1) != 1) ::_exit(1);
    image_.source().wait_for_reader(second_.blob);
    if (::write(telling.get(), "r", 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
};

TEST_F(UnaskedPagesKilled, LeaveNobodyWaiting) {
  start_server();
  const auto file = open();
  auto reader =
      std::async(std::launch::async, [&] { return read_at(file, 18 * kPage, 5 * kPage); });
  wait_until_told();
  read_at(file, 5 * kPage, kPage);
  EXPECT_EQ(wait_for_pages(file, 6), 6U);
  ::kill(server_, SIGKILL);
  EXPECT_TRUE(has_ended());
  if (server_ > 0) ::umount2(image_.path().c_str(), MNT_FORCE);
  EXPECT_EQ(reader.get(), "");
}

}  // namespace
}  // namespace puzzlefs::fs
