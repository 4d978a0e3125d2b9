// Running other programs.
#include "fetch/program.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>

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
