// What a person types in answer to a question, and what comes through a pipe in place of it.
#pragma once

#include <cstddef>
#include <ostream>
#include <string>

namespace puzzlefs::tools {

/// Whether somebody at a terminal can answer.
bool can_ask();

/// Whether what is typed is shown.
enum class Echo { kOn, kOff };

/// Writes `question` and reads a line from the terminal that is standard input. A signal that ends
/// or stops this process meanwhile does so after the terminal is as it was before. Throws Error at
/// the end of the input and for a line that is longer than a terminal takes.
std::string ask(std::ostream& out, const std::string& question, Echo echo);

/// All of standard input, without the end of its last line. UsageError for more than `max_size`
/// bytes.
std::string read_standard_input(std::size_t max_size);

}  // namespace puzzlefs::tools
