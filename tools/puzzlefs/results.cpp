#include "puzzlefs/results.h"

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "fetch/file_descriptor.h"
#include "format/bytes.h"
#include "format/error.h"

namespace puzzlefs::tools {

namespace fs = std::filesystem;

namespace {

fs::path directory_of(const fs::path& file) {
  return fs::absolute(file).parent_path();
}

}  // namespace

void write_json(Terminal& terminal, const nlohmann::ordered_json& document) {
  terminal.out << document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

void check_result_file(const fs::path& file) {
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) {
    throw Error(EISDIR, "Cannot write " + file.string() + ": it is a directory.");
  }
  if (fs::is_directory(directory_of(file), ignored)) return;
  throw Error(ENOENT, "Cannot write " + file.string() + ": there is no directory " +
                          directory_of(file).string() + ".");
}

void write_result_file(const fs::path& file, const std::string& text) {
  std::error_code ignored;
  const auto status = fs::status(file, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    if (!(std::ofstream(file) << text << std::flush)) throw_errno("write " + file.string());
    return;
  }
  // The file that a link points to is replaced, not the link.
  const auto target = fs::exists(status) ? fs::canonical(file) : file;
  constexpr unsigned kMode = 0666;  // less the umask, as for any file that a user makes
  fetch::write_file_atomically(target, directory_of(target), as_bytes(text), kMode);
}

void DigestFile::add_to(Arguments& arguments) {
  arguments.option("--digestfile", path_, "FILE",
                   "Write the digest of the image's manifest or index into this file");
}

void DigestFile::check() const {
  if (!path_.empty()) check_result_file(path_);
}

void DigestFile::write(const format::Digest& digest) const {
  if (!path_.empty()) write_result_file(path_, digest.to_string());
}

}  // namespace puzzlefs::tools
