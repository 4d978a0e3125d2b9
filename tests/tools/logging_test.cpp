// Where messages go, and that they cannot steer what shows them.
#include "puzzlefs/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>

#include "../support/temp_dir.h"
#include "format/error.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {
namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;

std::string failure(const fs::path& file) {
  try {
    open_log_file(file);
  } catch (const Error& error) {
    return error.what();
  }
  return "no failure";
}

class Logging : public testing::Test {
 protected:
  Logging() {
    set_log_level(0);
    log_to_stderr();
  }
  ~Logging() override { log_to_stderr(); }

  std::string logged() const {
    std::ifstream file(file_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const test::TempDir scratch_;
  const fs::path file_ = scratch_ / "log";
};

TEST_F(Logging, KeepsMessagesOutOfTheProgressLine) {
  std::ostringstream err;
  Terminal terminal(std::cout, err);
  terminal.shows_progress = true;
  Progress progress(terminal, "Pushing");
  progress.update({.bytes = 1});
  testing::internal::CaptureStderr();
  spdlog::warn("warning");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "puzzlefs: warning: warning\n");
  EXPECT_TRUE(err.str().ends_with("\r\x1b[K")) << err.str();
}

TEST_F(Logging, MakesMessagesOnStandardErrorHarmless) {
  testing::internal::CaptureStderr();
  spdlog::warn("a\x1b[31m\npuzzlefs: error: b");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "puzzlefs: warning: a?[31m?puzzlefs: error: b\n");
}

TEST_F(Logging, MakesMessagesInAFileHarmless) {
  open_log_file(file_)();
  spdlog::warn("a\x1b[31m\nb");
  EXPECT_THAT(logged(), EndsWith("] warning: a?[31m?b\n"));
}

TEST_F(Logging, GoesOnWhereItDoesUntilTheFileIsToBeUsed) {
  const auto use = open_log_file(file_);
  testing::internal::CaptureStderr();
  spdlog::warn("before");
  use();
  spdlog::warn("after");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "puzzlefs: warning: before\n");
  EXPECT_THAT(logged(), EndsWith("] warning: after\n"));
}

TEST_F(Logging, MakesNoDirectoryForAFileThatIsChosen) {
  EXPECT_THAT(failure(scratch_ / "missing/log"), HasSubstr("no directory"));
  EXPECT_FALSE(fs::exists(scratch_ / "missing"));
  EXPECT_THAT(failure(scratch_.path()), HasSubstr("Cannot log to " + scratch_.path().string()));
}

}  // namespace
}  // namespace puzzlefs::tools
