// Which signals mean that a program is to stop, and of whom that is known.
#include "fs/interruption.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace puzzlefs::fs {
namespace {

/// A program that the kernel has stopped, so that its signals stay pending. It catches SIGUSR2 and
/// SIGINT, and ignores SIGUSR1.
class Interruption : public testing::Test {
 protected:
  void SetUp() override {
    program_ = ::fork();
    if (program_ == 0) run_program();
    ASSERT_GT(program_, 0);
    int status = 0;
    ASSERT_EQ(::waitpid(program_, &status, WUNTRACED), program_);
    ASSERT_TRUE(WIFSTOPPED(status));
  }
  void TearDown() override { end_program(); }

  /// Its number is nobody's then.
  void end_program() {
    if (program_ <= 0) return;
    ::kill(program_, SIGKILL);
    ::waitpid(program_, nullptr, 0);
    program_ = -1;
  }
  [[noreturn]] static void run_program() {
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    struct sigaction action {};
    action.sa_handler = [](int) {};
    for (const int caught : {SIGUSR2, SIGINT}) ::sigaction(caught, &action, nullptr);
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGUSR1, &action, nullptr);
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  bool stops_for(int signal) const {
    ::kill(program_, signal);
    return is_told_to_stop(program_);
  }

  pid_t program_ = -1;
};

TEST_F(Interruption, IsNothingForSignalsThatDoNotEndTheProgram) {
  EXPECT_FALSE(is_told_to_stop(program_));
  for (const int signal : {SIGCHLD, SIGWINCH, SIGUSR1, SIGUSR2}) {
    EXPECT_FALSE(stops_for(signal)) << signal;
  }
}

TEST_F(Interruption, IsToStopForASignalThatTheProgramDiesOf) {
  EXPECT_TRUE(stops_for(SIGALRM));
}

TEST_F(Interruption, IsToStopForACaughtSignalThatTellsTo) {
  EXPECT_TRUE(stops_for(SIGINT));
}

/// The kernel's number for those in other pid namespaces is 0.
TEST_F(Interruption, IsNothingForWhoCannotBeLookedAt) {
  EXPECT_FALSE(is_told_to_stop(0));
  const auto gone = program_;
  end_program();
  EXPECT_FALSE(is_told_to_stop(gone));
}

}  // namespace
}  // namespace puzzlefs::fs
