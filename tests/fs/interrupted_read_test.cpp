// Programs that are told to stop while they read.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

#include "mounted_image.h"

namespace puzzlefs::fs {
namespace {

using test::directory;
using test::file;
using test::read_file;

constexpr std::size_t kPage = 4096;

class InterruptedRead : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::MountedImage::is_possible()) GTEST_SKIP() << "FUSE cannot be used here";
  }
  void TearDown() override {
    for (const auto& chunk : chunks_) image_.source().let_go(chunk.blob);
    take_late_interrupts();
  }
  /// libfuse puts aside an interrupt that it reads after the answer to its request. Each further
  /// request takes one away; those that are there at the session's end are never freed, as the leak
  /// sanitizer finds.
  void take_late_interrupts() const {
    struct statfs ignored {};
    for (int i = 0; i < 5; ++i) ::statfs(image_.path().c_str(), &ignored);
  }

  /// Files "0" to `count` - 1, each of one chunk, which waits for the test.
  void mount(std::uint64_t count) {
    format::InodeRecord root = directory(1, {});
    std::vector<format::InodeRecord> inodes;
    for (std::uint64_t i = 0; i < count; ++i) {
      chunks_.push_back(image_.whole_chunk(text(i)));
      image_.source().hold(chunks_.back().blob);
      root.entries.push_back({format::InodeNumber{2 + i}, std::to_string(i)});
      inodes.push_back(file(2 + i, {chunks_.back()}));
    }
    inodes.insert(inodes.begin(), root);
    image_.mount(inodes);
  }
  static std::string text(std::uint64_t number) { return "text " + std::to_string(number); }
  std::string path(std::uint64_t number) const { return image_ / std::to_string(number); }

  /// A program that reads past the kernel's cache: of its read-ahead the kernel tells nobody. Ends
  /// with the error, or 0.
  pid_t fork_reader(std::uint64_t number) const {
    const auto name = path(number);
    const pid_t program = ::fork();
    if (program == 0) run_reader(name.c_str());
    EXPECT_GT(program, 0);
    return program;
  }
  pid_t start_reader(std::uint64_t number) {
    const auto program = fork_reader(number);
    image_.source().wait_for_reader(chunks_[number].blob);
    return program;
  }
  [[noreturn]] static void run_reader(const char* path) {
    alignas(kPage) static std::array<char, kPage> buffer;
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGINT, &action, nullptr);
    const int descriptor = ::open(path, O_RDONLY | O_DIRECT);
    ::_exit(::read(descriptor, buffer.data(), buffer.size()) < 0 ? errno : 0);
  }
  static int end_of(pid_t program) {
    int status = 0;
    EXPECT_EQ(::waitpid(program, &status, 0), program);
    return status;
  }

  test::MountedImage image_;
  std::vector<format::ChunkRef> chunks_;
};

TEST_F(InterruptedRead, EndsWhenItsProgramIsKilled) {
  mount(1);
  const auto program = start_reader(0);
  ::kill(program, SIGKILL);
  EXPECT_EQ(WTERMSIG(end_of(program)), SIGKILL);  // though the chunk does not come
  image_.source().let_go(chunks_[0].blob);
  EXPECT_EQ(read_file(path(0)), text(0));
}

TEST_F(InterruptedRead, FailsWhenItsProgramIsToldToStop) {
  mount(1);
  const auto program = start_reader(0);
  ::kill(program, SIGINT);
  EXPECT_EQ(WEXITSTATUS(end_of(program)), EINTR);
}

TEST_F(InterruptedRead, DoesNoHarmToOthersOfTheSameChunk) {
  mount(1);
  const auto program = start_reader(0);
  const auto other = fork_reader(0);
  ::kill(program, SIGKILL);
  EXPECT_EQ(WTERMSIG(end_of(program)), SIGKILL);
  image_.source().let_go(chunks_[0].blob);
  EXPECT_EQ(end_of(other), 0);
}

TEST_F(InterruptedRead, EndsWhenASignalAndTheAnswerMeet) {
  constexpr std::uint64_t kTimes = 100;  // to have them meet in all ways
  mount(kTimes);
  for (std::uint64_t i = 0; i < kTimes; ++i) {
    const auto program = start_reader(i);
    std::thread killer([&] { ::kill(program, SIGKILL); });
    image_.source().let_go(chunks_[i].blob);
    killer.join();
    end_of(program);
    EXPECT_EQ(read_file(path(i)), text(i));
  }
}

}  // namespace
}  // namespace puzzlefs::fs
