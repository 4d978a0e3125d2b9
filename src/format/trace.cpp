#include "format/trace.h"

#include <optional>

#include "format/error.h"

namespace puzzlefs::format {
namespace {

constexpr std::string_view kFirstLine = "puzzlefs-trace 1";
constexpr std::string_view kAnyVersion = "puzzlefs-trace ";

// Takes the first line, without its end, off the text; nothing if no text is left.
std::optional<std::string_view> take_line(std::string_view& text) {
  if (text.empty()) return std::nullopt;
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

void check_first_line(std::string_view line, std::string_view name) {
  if (line == kFirstLine) return;
  if (line.starts_with(kAnyVersion)) {
    throw CorruptError(std::string(name) +
                       ", line 1: a trace of a version that this program does not read; it reads "
                       "version 1.");
  }
  throw CorruptError(std::string(name) + ", line 1: not a trace, which begins with the line \"" +
                     std::string(kFirstLine) + "\".");
}

}  // namespace

Trace parse_trace(ByteView document, std::string_view name) {
  std::string_view text = as_text(document);
  check_first_line(take_line(text).value_or(std::string_view()), name);
  Trace trace;
  for (std::size_t number = 2; const auto line = take_line(text); ++number) {
    try {
      trace.chunks.push_back(Digest::parse(*line));
    } catch (const CorruptError&) {
      throw CorruptError(std::string(name) + ", line " + std::to_string(number) +
                         ": not the digest of a chunk, \"sha256:\" and 64 hexadecimal digits.");
    }
  }
  return trace;
}

std::string to_text(const Trace& trace) {
  std::string text(kFirstLine);
  text += '\n';
  for (const Digest& chunk : trace.chunks) {
    text += chunk.to_string();
    text += '\n';
  }
  return text;
}

}  // namespace puzzlefs::format
