// How it is decided whether a file is read whole or piece by piece, and who waits for that.
#include "whole_files_test.h"

#include <sys/wait.h>

#include <csignal>
#include <future>
#include <thread>
#include <utility>
#include <vector>

namespace puzzlefs::fs {
namespace {

using test::read_error;
using test::read_file;
using testing::ElementsAre;
using testing::IsEmpty;

class WholeFileModes : public test::WholeFilesTest {};

TEST_F(WholeFileModes, ReadsPiecesWhereThereIsNoWholeFile) {
  mount();
  EXPECT_EQ(read_file(image_ / "f"), pieces_text());
  EXPECT_EQ(whole_files_.last_opened(), pieces_);
}

TEST_F(WholeFileModes, ReadsPiecesOfAFileWhoseOtherOpenWasClosed) {
  mount();
  auto first = open_f();
  const auto second = open_f();
  first = {};
  std::string text(pieces_text().size(), '\0');
  ASSERT_EQ(::pread(second.get(), text.data(), text.size(), 0), std::ssize(text));
  EXPECT_EQ(text, pieces_text());
}

TEST_F(WholeFileModes, ReadsTheWholeFileInPlaceOfItsPieces) {
  whole_files_.offer(make_whole());
  mount();
  EXPECT_EQ(read_file(image_ / "f"), whole_text());
}

TEST_F(WholeFileModes, ReadsPiecesWhereTheWholeFileHasAnotherSize) {
  mount();
  for (const std::size_t size : {5, 7, 0}) {
    whole_files_.offer(make_whole(size));
    EXPECT_EQ(read_file(image_ / "f"), pieces_text());
  }
  EXPECT_THAT(log_of_session(), testing::HasSubstr("whole file of inode 2 does not have its size"));
}

/// Without the error the kernel takes what it gets too little of for the end of the file.
TEST_F(WholeFileModes, FailsAReadOfAWholeFileThatWasCutShort) {
  constexpr std::size_t kSize = 300000;
  whole_files_.offer(make_whole(kSize));
  mount({.passthrough = false}, kSize);
  auto f = open_f();
  std::string text(1000, '?');
  ASSERT_EQ(::pread(f.get(), text.data(), text.size(), 0), 1000);
  std::filesystem::resize_file(directory_ / "whole", kSize - 1500);
  EXPECT_EQ(::pread(f.get(), text.data(), text.size(), kSize - 2000), -1);
  EXPECT_EQ(errno, EIO);
  std::filesystem::resize_file(directory_ / "whole", 0);
  EXPECT_EQ(::pread(f.get(), text.data(), text.size(), kSize - 1000), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(read_file(image_ / "empty"), "") << "the session goes on";
  f = {};
  EXPECT_THAT(log_of_session(), testing::HasSubstr("read of inode 2: Somebody has changed"));
}

TEST_F(WholeFileModes, NeverAsksForAnEmptyFile) {
  whole_files_.fail_with(EIO);
  mount();
  EXPECT_EQ(read_file(image_ / "empty"), "");
  EXPECT_EQ(whole_files_.opens(), 0U);
}

TEST_F(WholeFileModes, FailsTheOpenWithTheErrorAndAsksAnewAtTheNext) {
  whole_files_.fail_with(EHOSTDOWN);
  mount();
  EXPECT_FALSE(open_f());
  EXPECT_EQ(errno, EHOSTDOWN);
  whole_files_.offer(make_whole());
  EXPECT_EQ(read_file(image_ / "f"), whole_text());
  EXPECT_THAT(log_of_session(), testing::HasSubstr("open of inode 2: The test has no such file."));
}

TEST_F(WholeFileModes, KeepsPiecesUntilTheLastClose) {
  mount();
  auto first = open_f();
  whole_files_.offer(make_whole());
  auto second = open_f();
  ASSERT_TRUE(second);
  EXPECT_EQ(read_all(second), pieces_text());
  first = {};
  EXPECT_EQ(read_file(image_ / "f"), pieces_text());
  EXPECT_EQ(whole_files_.opens(), 1U);
  EXPECT_THAT(whole_files_.closed(), IsEmpty());
  second = {};
  whole_files_.wait_for_closed(1);
  EXPECT_EQ(read_file(image_ / "f"), whole_text());
  EXPECT_EQ(whole_files_.opens(), 2U);
}

/// The kernel tells of a close some time after it: what is open then is not decided anew.
TEST_F(WholeFileModes, KeepsTheWholeFileUntilTheLastClose) {
  whole_files_.offer(make_whole());
  mount();
  auto first = open_f();
  ASSERT_EQ(read_all(first), whole_text());
  whole_files_.offer({});
  auto second = open_f();
  ASSERT_TRUE(second);
  EXPECT_EQ(read_all(second), whole_text());
  first = {};
  EXPECT_EQ(read_all(second), whole_text());
  EXPECT_EQ(read_file(image_ / "f"), whole_text());
  EXPECT_EQ(whole_files_.opens(), 1U);
  second = {};
  while (read_file(image_ / "f") != pieces_text()) std::this_thread::yield();
  EXPECT_EQ(whole_files_.opens(), 2U);
}

TEST_F(WholeFileModes, TellsOfTheLastCloseOfAFileInPiecesOnly) {
  whole_files_.offer(make_whole());
  mount();
  read_file(image_ / "f");
  read_file(image_ / "empty");
  whole_files_.offer({});
  while (read_file(image_ / "f") != pieces_text()) std::this_thread::yield();
  whole_files_.wait_for_closed(1);
  EXPECT_THAT(whole_files_.closed(), ElementsAre(pieces_));
}

TEST_F(WholeFileModes, AsksOnceForAllWhoWait) {
  whole_files_.hold();
  mount();
  auto first = std::async(std::launch::async, [this] { return open_f(); });
  whole_files_.wait_for_opens(1);
  std::vector<std::future<std::string>> readers;
  for (int i = 0; i < 16; ++i) {
    readers.push_back(std::async(std::launch::async, read_file, image_ / "f"));
  }
  EXPECT_EQ(read_file(image_ / "empty"), "") << "others are served meanwhile";
  whole_files_.offer(make_whole());
  whole_files_.let_go();
  const auto keeps_it_open = first.get();
  for (auto& reader : readers) EXPECT_EQ(reader.get(), whole_text());
  EXPECT_EQ(whole_files_.opens(), 1U);
}

/// So that each finds no table of the many pieces, and makes one.
TEST_F(WholeFileModes, AsksOnceForAllWhoComeAtOnce) {
  pieces_.assign(20000, image_.whole_chunk("p"));
  mount({.threads = 8});
  for (int i = 0; i < 10; ++i) {
    const auto opens_before = whole_files_.opens();
    const auto closed_before = whole_files_.closed().size();
    std::vector<std::future<fetch::FileDescriptor>> openings;
    for (int j = 0; j < 8; ++j) {
      openings.push_back(std::async(std::launch::async, [this] { return open_f(); }));
    }
    std::vector<fetch::FileDescriptor> all;
    for (auto& opening : openings) all.push_back(opening.get());
    for (const auto& f : all) EXPECT_TRUE(f);
    EXPECT_EQ(whole_files_.opens(), opens_before + 1);
    EXPECT_EQ(read_all(all.back(), 3).substr(0, 3), "ppp");
    all.clear();
    whole_files_.wait_for_closed(closed_before + 1);
  }
}

TEST_F(WholeFileModes, FailsAllWhoWait) {
  whole_files_.hold();
  mount({.threads = 1});
  std::vector<std::future<int>> readers;
  for (int i = 0; i < 4; ++i) {
    readers.push_back(std::async(std::launch::async, read_error, image_ / "f"));
  }
  whole_files_.wait_for_opens(1);
  whole_files_.fail_with(EHOSTDOWN);
  whole_files_.let_go();
  for (auto& reader : readers) EXPECT_EQ(reader.get(), EHOSTDOWN);
}

TEST_F(WholeFileModes, FailsWhoWaitsAtTheEndOfTheSession) {
  whole_files_.hold();
  mount({.cancel_reads = [this] {
    whole_files_.fail_with(EIO);
    whole_files_.let_go();
  }});
  auto reader = std::async(std::launch::async, read_error, image_ / "f");
  whole_files_.wait_for_opens(1);
  ::kill(::getpid(), SIGTERM);
  image_.wait_for_end();
  image_.end_session();
  EXPECT_EQ(reader.get(), EIO);
}

/// A program that opens "f", and waits.
class WaitingProgram : public WholeFileModes {
 protected:
  /// Returns when it waits, or when its open has ended already, since somebody else had the file
  /// open.
  void start_program() {
    whole_files_.hold();
    const auto opens_before = whole_files_.opens();
    fork_program();
    while (whole_files_.opens() == opens_before && !has_ended()) std::this_thread::yield();
  }
  void fork_program() {
    const std::string path = image_ / "f";
    program_ = ::fork();
    if (program_ == 0) run_program(path.c_str());
    ASSERT_GT(program_, 0);
  }
  /// Ends with the error of the open, or 0. Does something about the signals in `caught_`.
  [[noreturn]] void run_program(const char* path) const {
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    struct sigaction action {};
    action.sa_handler = [](int) {};
    for (const int signal : caught_) ::sigaction(signal, &action, nullptr);
    ::_exit(::open(path, O_RDONLY) < 0 ? errno : 0);
  }
  /// Returns when the program has woken from its wait and the session has heard of it, if that has
  /// one thread.
  void signal_program(int signal) {
    ::kill(program_, signal);
    // The kernel tells of the interruption before the program waits on, for its death only (D), and
    // before it passes other requests.
    while (state_of_program() == 'S') std::this_thread::yield();
    read_file(image_ / "empty");
  }
  /// Returns when the session has heard of the open, if that has one thread.
  void wait_until_it_waits() {
    while (state_of_program() != 'S') std::this_thread::yield();
    read_file(image_ / "empty");
  }
  char state_of_program() const {
    std::ifstream status("/proc/" + std::to_string(program_) + "/status");
    for (std::string word; status >> word;) {
      if (word == "State:" && status >> word) return word.front();
    }
    return '?';
  }
  bool has_ended() const {
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(program_), &info, WEXITED | WNOHANG | WNOWAIT);
    return info.si_pid == program_;
  }
  void kill_program() const { ::kill(program_, SIGKILL); }
  int end_of_program() const {
    int status = 0;
    EXPECT_EQ(::waitpid(program_, &status, 0), program_);
    return status;
  }

  std::vector<int> caught_;
  pid_t program_ = -1;
};

TEST_F(WaitingProgram, CanBeKilled) {
  mount();
  start_program();
  kill_program();
  EXPECT_EQ(WTERMSIG(end_of_program()), SIGKILL);
  // Nobody has the file open: the answer that comes now is of no use.
  whole_files_.offer(make_whole());
  whole_files_.let_go();
  whole_files_.offer({});
  EXPECT_EQ(read_file(image_ / "f"), pieces_text());
  EXPECT_EQ(whole_files_.opens(), 2U);
}

TEST_F(WaitingProgram, LeavesNothingToBeMadeWhenItIsKilled) {
  mount();
  start_program();
  kill_program();
  EXPECT_EQ(WTERMSIG(end_of_program()), SIGKILL);
  whole_files_.wait_for_given_up(1);
  EXPECT_THAT(whole_files_.given_up(), ElementsAre(pieces_));
  whole_files_.fail_given_up();
  whole_files_.offer(make_whole());
  EXPECT_EQ(read_file(image_ / "f"), whole_text());
}

TEST_F(WaitingProgram, LeavesTheFileToWhoComesAfterItIsKilled) {
  mount({.threads = 1});
  start_program();
  kill_program();
  EXPECT_EQ(WTERMSIG(end_of_program()), SIGKILL);
  whole_files_.wait_for_given_up(1);
  fork_program();
  wait_until_it_waits();
  whole_files_.offer(make_whole());
  whole_files_.fail_given_up();
  EXPECT_EQ(end_of_program(), 0);
  EXPECT_EQ(whole_files_.opens(), 2U);
}

TEST_F(WaitingProgram, LeavesTheFileToOthersWhoWaitWhenItIsKilled) {
  mount({.threads = 1});
  start_program();
  const auto killed = program_;
  fork_program();
  wait_until_it_waits();
  const auto other = std::exchange(program_, killed);
  kill_program();
  EXPECT_EQ(WTERMSIG(end_of_program()), SIGKILL);
  read_file(image_ / "empty");
  EXPECT_THAT(whole_files_.given_up(), IsEmpty());
  whole_files_.let_go();
  program_ = other;
  EXPECT_EQ(end_of_program(), 0);
  EXPECT_EQ(whole_files_.opens(), 1U);
}

TEST_F(WaitingProgram, IsKilledWithoutHarmToOthersWhoWait) {
  mount();
  start_program();
  auto other = std::async(std::launch::async, read_file, image_ / "f");
  kill_program();
  EXPECT_EQ(WTERMSIG(end_of_program()), SIGKILL);
  auto third = std::async(std::launch::async, read_file, image_ / "f");
  whole_files_.offer(make_whole());
  whole_files_.let_go();
  EXPECT_EQ(other.get(), whole_text());
  EXPECT_EQ(third.get(), whole_text());
}

TEST_F(WaitingProgram, DiesOfASignalThatItDoesNothingAbout) {
  mount();
  start_program();
  ::kill(program_, SIGUSR1);
  EXPECT_EQ(WTERMSIG(end_of_program()), SIGUSR1);
}

TEST_F(WaitingProgram, IsInterruptedWhenItIsToldToStop) {
  caught_ = {SIGINT};
  mount();
  start_program();
  ::kill(program_, SIGINT);
  EXPECT_EQ(WEXITSTATUS(end_of_program()), EINTR);
}

TEST_F(WaitingProgram, IsNotInterruptedByOtherSignals) {
  caught_ = {SIGCHLD, SIGALRM};
  mount({.threads = 1});
  start_program();
  ::kill(program_, SIGCHLD);
  signal_program(SIGALRM);
  EXPECT_FALSE(has_ended());
  whole_files_.let_go();
  const int status = end_of_program();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

/// Whatever the session has done of the open by then, which takes a while for many pieces.
TEST_F(WaitingProgram, IsNotInterruptedByOtherSignalsAtItsBeginning) {
  caught_ = {SIGALRM};
  pieces_.assign(20000, image_.whole_chunk("p"));
  mount({.threads = 4});
  for (int i = 0; i < 20; ++i) {
    const auto opens_before = whole_files_.opens();
    const auto closed_before = whole_files_.closed().size();
    whole_files_.hold();
    fork_program();
    while (state_of_program() != 'S') std::this_thread::yield();
    ::kill(program_, SIGALRM);
    whole_files_.wait_for_opens(opens_before + 1);
    read_file(image_ / "empty");
    whole_files_.let_go();
    const int status = end_of_program();
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    whole_files_.wait_for_closed(closed_before + 1);
  }
}

TEST_F(WaitingProgram, IsInterruptedAtItsBeginning) {
  caught_ = {SIGINT};
  pieces_.assign(20000, image_.whole_chunk("p"));
  mount({.threads = 4});
  for (int i = 0; i < 20; ++i) {
    const auto opens_before = whole_files_.opens();
    whole_files_.hold();
    fork_program();
    while (state_of_program() != 'S') std::this_thread::yield();
    while (!has_ended()) ::kill(program_, SIGINT);  // one may come before it waits for the session
    EXPECT_EQ(WEXITSTATUS(end_of_program()), EINTR);
    whole_files_.wait_for_opens(opens_before + 1);  // it is asked all the same
    whole_files_.let_go();
  }
}

TEST_F(WaitingProgram, EndsWhenASignalAndTheAnswerMeet) {
  whole_files_.offer(make_whole());
  mount();
  for (int i = 0; i < 200; ++i) {  // to have them meet in all ways
    start_program();
    std::thread killer([this] { kill_program(); });
    whole_files_.let_go();
    killer.join();
    end_of_program();
  }
  EXPECT_EQ(read_file(image_ / "f"), whole_text());
}

}  // namespace
}  // namespace puzzlefs::fs
