// The command, run in this process as a shell would run it.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "puzzlefs/command_line.h"

namespace puzzlefs::tools {

struct Result {
  int code = 0;
  std::string out;
  std::string err;
};

inline Result puzzlefs(std::vector<std::string> arguments, bool shows_progress = false) {
  std::vector<const char*> argv = {"puzzlefs"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out;
  std::ostringstream err;
  Terminal terminal(out, err);
  terminal.shows_progress = shows_progress;
  const int code = run(static_cast<int>(argv.size()), argv.data(), terminal);
  return {code, out.str(), err.str()};
}

}  // namespace puzzlefs::tools
