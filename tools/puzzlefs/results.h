// How results leave a command: as JSON, and as a file with a digest.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "format/digest.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

/// Prints a document, for people too. Names that are not UTF-8, which JSON cannot hold, come with
/// replacement characters.
void write_json(Terminal& terminal, const nlohmann::ordered_json& document);

/// Before the work: throws Error if the file is a directory, or there is none to write it into.
void check_result_file(const std::filesystem::path& file);
/// Writes the file all at once; what is no regular file (a pipe, /dev/stdout) is written to. Throws
/// Error.
void write_result_file(const std::filesystem::path& file, const std::string& text);

/// --digestfile.
class DigestFile {
 public:
  void add_to(Arguments& arguments);
  /// As check_result_file().
  void check() const;
  /// Writes "sha256:…", without an end of line as skopeo does, as write_result_file(). Nothing if
  /// the option was not given.
  void write(const format::Digest& digest) const;

 private:
  std::filesystem::path path_;
};

}  // namespace puzzlefs::tools
