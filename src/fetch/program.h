// Running another program to its end.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace puzzlefs::fetch {

struct ProgramResult {
  int status = 0;  // as from wait(2)
  std::string output;
  std::string errors;

  bool succeeded() const { return status == 0; }
};

/// Runs `arguments[0]`, sought in $PATH, with `input` as its standard input, and waits for its end.
/// Signals that this process blocks are not blocked in it, and SIGPIPE and SIGXFSZ are not ignored.
/// Of each of its outputs 64 KiB are kept; what it leaves running in the background is not waited
/// for. A program that takes longer than `timeout` is killed with all that it started: it then runs
/// in a process group of its own. Throws NotFoundError if there is no such program, Error if it
/// cannot be run, `input` does not fit a pipe (4 KiB always do), or it took too long. Blocks.
ProgramResult run_program(const std::vector<std::string>& arguments, std::string_view input = {},
                          std::optional<std::chrono::seconds> timeout = std::nullopt);

}  // namespace puzzlefs::fetch
