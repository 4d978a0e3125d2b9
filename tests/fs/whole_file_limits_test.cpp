// How many files are read whole at a time.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "whole_files_test.h"

namespace puzzlefs::fs {
namespace {

using test::read_file;

/// An image of files "0", "1" and so on, for all of which the same whole file is on offer.
class WholeFileLimits : public test::WholeFilesTest {
 protected:
  void mount_files(std::uint64_t count, SessionOptions options = {}) {
    whole_files_.offer(make_whole());
    const auto chunk = image_.whole_chunk(pieces_text());
    test::Entries entries;
    std::vector<format::InodeRecord> inodes;
    for (std::uint64_t i = 0; i < count; ++i) {
      entries.emplace_back(i + 2, std::to_string(i));
      inodes.push_back(test::file(i + 2, {chunk}));
    }
    inodes.push_back(test::directory(1, entries));
    options.whole_files = &whole_files_;
    image_.mount(inodes, options);
  }
  fetch::FileDescriptor open_file(std::uint64_t number) const {
    const std::string path = image_ / std::to_string(number);
    return fetch::FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  }
  std::string text_of(std::uint64_t number) const {
    return read_file(image_ / std::to_string(number));
  }
};

TEST_F(WholeFileLimits, ReadPiecesBeyondThem) {
  mount_files(4, {.max_whole_files = 2});
  auto first = open_file(0);
  const auto second = open_file(1);
  EXPECT_EQ(read_all(first), whole_text());
  EXPECT_EQ(read_all(second), whole_text());
  const auto third = open_file(2);
  ASSERT_TRUE(third);
  EXPECT_EQ(read_all(third), pieces_text());
  EXPECT_EQ(whole_files_.opens(), 2U) << "nobody is asked for the third";
  EXPECT_EQ(text_of(1), whole_text()) << "which is open already";

  first = {};
  // The kernel tells of a close some time after it.
  while (text_of(3) != whole_text()) std::this_thread::yield();
  EXPECT_EQ(text_of(2), pieces_text()) << "which is open in pieces still";
}

TEST_F(WholeFileLimits, CountNoFileTwiceNorAnyThatIsClosed) {
  mount_files(2, {.max_whole_files = 1});
  for (int i = 0; i < 50; ++i) {
    auto first = open_file(0);
    const auto second = open_file(0);
    EXPECT_EQ(read_all(second), whole_text());
    first = {};
    EXPECT_EQ(text_of(1), pieces_text());
  }
  while (text_of(1) != whole_text()) std::this_thread::yield();
}

TEST_F(WholeFileLimits, CountNoFileInPiecesAndNoneThatFails) {
  mount_files(4, {.max_whole_files = 1});
  whole_files_.offer({});
  const auto pieces = open_file(0);
  EXPECT_EQ(read_all(pieces), pieces_text());
  whole_files_.fail_with(EIO);
  EXPECT_FALSE(open_file(1));
  whole_files_.offer(make_whole());
  EXPECT_EQ(text_of(2), whole_text());
}

/// Several wait for the answer while there is room for one.
TEST_F(WholeFileLimits, HoldForAnswersThatCome) {
  whole_files_.hold();
  mount_files(2, {.max_whole_files = 1});
  std::vector<std::future<fetch::FileDescriptor>> opening;
  for (const std::uint64_t number : {0, 1}) {
    opening.push_back(std::async(std::launch::async, [=, this] { return open_file(number); }));
  }
  whole_files_.wait_for_opens(2);
  whole_files_.let_go();
  const auto first = opening[0].get();
  const auto second = opening[1].get();
  const std::vector<std::string> texts{read_all(first), read_all(second)};
  EXPECT_THAT(texts, testing::UnorderedElementsAre(whole_text(), pieces_text()));
}

/// In a process of its own, as who has lowered a hard limit may not be permitted to raise it again.
class HalfOfTheHardLimit : public WholeFileLimits {
 protected:
  static constexpr rlim_t kHard = 100;
  static constexpr int kFailure = 255;

  /// Ends with the number of files that are read whole if one program opens more than may be.
  [[noreturn]] void mount_and_end() {
    const rlimit low{kHard - 10, kHard};
    if (::setrlimit(RLIMIT_NOFILE, &low) != 0) ::_exit(kFailure);
    mount_files(kHard * 3 / 4);
    rlimit raised{};
    ::getrlimit(RLIMIT_NOFILE, &raised);
    const int count = raised.rlim_cur == kHard ? count_whole(kHard * 3 / 4) : kFailure;
    log_of_session();
    ::_exit(count);
  }
  int count_whole(std::uint64_t file_count) const {
    std::vector<std::string> paths;
    for (std::uint64_t i = 0; i < file_count; ++i) paths.push_back(image_ / std::to_string(i));
    const pid_t program = ::fork();
    if (program == 0) open_all(paths);
    int status = 0;
    if (::waitpid(program, &status, 0) != program || !WIFEXITED(status)) return kFailure;
    return WEXITSTATUS(status);
  }
  [[noreturn]] static void open_all(const std::vector<std::string>& paths) {
    ::close_range(3, ~0U, 0);  // to have all of the limit for itself
    int whole_count = 0;
    for (const auto& path : paths) {
      char first = '\0';
      if (::read(::open(path.c_str(), O_RDONLY), &first, 1) != 1) ::_exit(kFailure);
      if (first != 'p') ++whole_count;
    }
    ::_exit(whole_count);
  }
};

TEST_F(HalfOfTheHardLimit, IsForWholeFiles) {
  EXPECT_EXIT(mount_and_end(), testing::ExitedWithCode(kHard / 2), "");
}

}  // namespace
}  // namespace puzzlefs::fs
