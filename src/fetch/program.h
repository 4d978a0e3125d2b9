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
/// Signals that this process blocks are not blocked in it. Of each of its outputs 64 KiB are kept.
/// A program that takes longer than `timeout` is killed. Throws NotFoundError if there is no such
/// program, Error if it cannot be run or took too long. Blocks.
ProgramResult run_program(const std::vector<std::string>& arguments, std::string_view input = {},
                          std::optional<std::chrono::seconds> timeout = std::nullopt);

}  // namespace puzzlefs::fetch
