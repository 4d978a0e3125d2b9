// Two processes and what the one tells the other.
#include "fs/daemon.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

using Ready = std::function<void()>;
using testing::HasSubstr;

/// What a background process that is ready has to say, until it ends.
class Report {
 public:
  Report() {
    if (::pipe(ends_.data()) != 0) throw_errno("make a pipe");
  }
  ~Report() { ::close(ends_[0]); }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  void write(const std::string& text) const {
    if (::write(ends_[1], text.data(), text.size()) < 0) std::abort();
  }
  /// In the first process.
  std::string read() const {
    ::close(ends_[1]);
    std::string text;
    for (char c = 0; ::read(ends_[0], &c, 1) == 1;) text += c;
    return text;
  }

 private:
  std::array<int, 2> ends_{};
};

TEST(OpenMissingStreams, PutsNullWhereAStreamIsClosed) {
  const Report report;
  run_in_background([&](const Ready& ready) {
    ::close(STDIN_FILENO);
    open_missing_streams();
    report.write(std::filesystem::read_symlink("/proc/self/fd/0"));
    ready();
  });
  EXPECT_EQ(report.read(), "/dev/null");
}

TEST(RunInBackground, ReturnsOnceTheTaskIsReadyAndLetsItRunOn) {
  const Report report;
  run_in_background([&](const Ready& ready) {
    ready();
    report.write("still here");
  });
  EXPECT_EQ(report.read(), "still here");
}

TEST(RunInBackground, RunsInASessionOfItsOwnAtTheRoot) {
  const Report report;
  run_in_background([&](const Ready& ready) {
    ready();
    report.write(::getsid(0) == ::getpid() ? "own " : "inherited ");
    report.write(std::filesystem::current_path());
  });
  EXPECT_EQ(report.read(), "own /");
}

TEST(RunInBackground, LetsGoOfTheTerminalOnceReady) {
  const Report report;
  run_in_background([&](const Ready& ready) {
    ready();
    for (const auto* stream : {"0", "1", "2"}) {
      report.write(std::filesystem::read_symlink(std::string("/proc/self/fd/") + stream));
    }
  });
  EXPECT_EQ(report.read(), "/dev/null/dev/null/dev/null");
}

TEST(RunInBackground, ThrowsTheErrorOfATaskThatFailed) {
  try {
    run_in_background([](const Ready&) { throw Error(ENODEV, "There is no /dev/fuse."); });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ENODEV);
    EXPECT_STREQ(error.what(), "There is no /dev/fuse.");
  }
}

TEST(RunInBackground, ThrowsAUsageErrorAsOne) {
  EXPECT_THROW(run_in_background([](const Ready&) { throw UsageError("No."); }), UsageError);
}

TEST(RunInBackground, ThrowsALongErrorWhole) {
  const std::string sentence(100000, 'x');
  try {
    run_in_background([&](const Ready&) { throw Error(EIO, sentence); });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), sentence);
  }
}

TEST(RunInBackground, ReportsATaskThatWasKilled) {
  try {
    run_in_background([](const Ready&) { std::raise(SIGKILL); });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("unexpectedly (Killed)"));
  }
}

TEST(RunInBackground, ReportsATaskThatEndedWithoutBecomingReady) {
  EXPECT_THROW(run_in_background([](const Ready&) {}), Error);
}

TEST(RunInBackground, IsNotDisturbedByAnErrorAfterReady) {
  const Report report;
  EXPECT_NO_THROW(run_in_background([&](const Ready& ready) {
    ready();
    report.write("ready");
    throw Error(EIO, "Too late.");
  }));
  EXPECT_EQ(report.read(), "ready");
}

}  // namespace
}  // namespace puzzlefs::fs
