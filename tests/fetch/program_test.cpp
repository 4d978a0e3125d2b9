// Running other programs.
#include "fetch/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "../support/temp_dir.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::seconds;

TEST(Program, GetsItsInputAndGivesItsOutputs) {
  const auto result = run_program({"sh", "-c", "cat; echo complaint >&2; exit 3"}, "text");
  EXPECT_EQ(result.output, "text");
  EXPECT_EQ(result.errors, "complaint\n");
  EXPECT_FALSE(result.succeeded());
  EXPECT_EQ(WEXITSTATUS(result.status), 3);
}

TEST(Program, NeedNotReadItsInput) {
  EXPECT_TRUE(run_program({"true"}, "text").succeeded());
}

TEST(Program, OfEndlessOutputOnlySoMuchIsKept) {
  const auto result = run_program({"sh", "-c", "head -c 1000000 /dev/zero"});
  EXPECT_TRUE(result.succeeded());
  EXPECT_EQ(result.output.size(), 65536U);
}

TEST(Program, ThatDoesNotExistIsNamed) {
  EXPECT_THROW(run_program({"no-such-program-at-all"}), NotFoundError);
}

TEST(Program, IsKilledWhenItTakesTooLong) {
  try {
    run_program({"sleep", "1000"}, {}, seconds(1));
    FAIL() << "it ended";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ETIMEDOUT);
  }
}

/// Whether a process that says its number in `file` is gone within some seconds.
bool ends(const std::filesystem::path& file) {
  pid_t pid = 0;
  std::ifstream(file) >> pid;
  if (pid <= 0) return false;
  for (int i = 0; i < 500; ++i) {
    // What init has not yet reaped counts as gone.
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    const std::string text{std::istreambuf_iterator<char>(stat), {}};
    if (text.empty() || text.find(") Z ") != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(Program, IsKilledWhenItClosesItsOutputsAndTakesTooLong) {
  EXPECT_THROW(run_program({"sh", "-c", "exec sleep 1000 >&- 2>&-"}, {}, seconds(1)), Error);
}

TEST(Program, IsKilledWithAllThatItStarted) {
  const test::TempDir directory;
  const auto file = (directory.path() / "pid").string();
  EXPECT_THROW(run_program({"sh", "-c", "sleep 60 & echo $! >" + file + "; wait"}, {}, seconds(1)),
               Error);
  EXPECT_TRUE(ends(file));
}

TEST(Program, IsNotWaitedForByWhatItLeavesInTheBackground) {
  const test::TempDir directory;
  const auto file = (directory.path() / "pid").string();
  for (const auto& timeout : {std::optional<seconds>(20), std::optional<seconds>()}) {
    const auto before = std::chrono::steady_clock::now();
    const auto result = run_program(
        {"sh", "-c",
         "sleep 30 & echo $! >" + file + "; head -c 50000 /dev/zero; echo no >&2; exit 3"},
        {}, timeout);
    EXPECT_LT(std::chrono::steady_clock::now() - before, seconds(10));
    EXPECT_EQ(result.output.size(), 50000U);
    EXPECT_EQ(result.errors, "no\n");
    EXPECT_EQ(WEXITSTATUS(result.status), 3);
    pid_t left = 0;
    std::ifstream(file) >> left;
    ASSERT_GT(left, 0);
    EXPECT_EQ(::kill(left, SIGKILL), 0) << "it was not left alone";
  }
}

TEST(Program, ThatGoesOnWritingInTheBackgroundIsNotReadForever) {
  const test::TempDir directory;
  const auto file = (directory.path() / "pid").string();
  const auto result = run_program({"sh", "-c", "yes & echo $! >" + file + "; sleep 0.2"});
  EXPECT_TRUE(result.succeeded());
  EXPECT_TRUE(ends(file)) << "SIGPIPE did not end it";
}

TEST(Program, IsToldSoWhenItsInputDoesNotFit) {
  try {
    errno = 0;
    run_program({"cat"}, std::string(1 << 20, 'x'));
    FAIL() << "it fitted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), EMSGSIZE);
    EXPECT_THAT(error.what(), testing::HasSubstr("1048576 bytes"));
  }
}

TEST(Program, DoesNotInheritIgnoredBrokenPipes) {
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  const auto result = run_program({"sh", "-c", "kill -PIPE $$; sleep 10"});
  std::signal(SIGPIPE, before);
  EXPECT_TRUE(WIFSIGNALED(result.status));
}

TEST(Program, DoesNotInheritBlockedSignals) {
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, &before);
  const auto result = run_program({"sh", "-c", "kill -TERM $$; sleep 10"});
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_TRUE(WIFSIGNALED(result.status));
}

}  // namespace
}  // namespace puzzlefs::fetch
