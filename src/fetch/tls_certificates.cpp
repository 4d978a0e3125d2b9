#include "fetch/tls_certificates.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxFileSize = 4 << 20;  // the system's bundle has 200 KiB
constexpr std::array<std::string_view, 3> kBeginnings{"-----BEGIN CERTIFICATE-----",
                                                      "-----BEGIN TRUSTED CERTIFICATE-----",
                                                      "-----BEGIN X509 CERTIFICATE-----"};

std::vector<fs::path> default_directories() {
  std::vector<fs::path> directories;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    directories.push_back(fs::path(home) / ".config/containers/certs.d");
  }
  directories.insert(directories.end(), {"/etc/containers/certs.d", "/etc/docker/certs.d"});
  return directories;
}

/// Whether it has one of the beginnings that OpenSSL knows.
bool has_certificate(std::string_view text) {
  return std::any_of(kBeginnings.begin(), kBeginnings.end(), [&](std::string_view beginning) {
    return text.find(beginning) != std::string_view::npos;
  });
}

std::string read_certificates(const fs::path& file) {
  const auto bytes = read_file(file, kMaxFileSize);
  const auto text = as_text(bytes);
  if (!has_certificate(text)) {
    throw CorruptError(
        fmt::format("{} holds no certificate in PEM form, which starts with \"-----BEGIN "
                    "CERTIFICATE-----\".",
                    file.native()));
  }
  return std::string(text) + "\n";
}

/// The entries in the order of their names.
std::vector<fs::path> files_in(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (fs::directory_iterator entry(directory, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    files.push_back(entry->path());
  }
  if (failure) throw_errno("read the directory " + directory.native(), failure.value());
  std::sort(files.begin(), files.end());
  return files;
}

/// The other half of a client's pair.
fs::path partner(fs::path file, const char* extension) {
  const auto other = fs::path(file).replace_extension(extension);
  std::error_code ignored;
  if (!fs::exists(other, ignored)) {
    throw NotFoundError(fmt::format("There is {0}, but not {1}: a client's certificate needs both.",
                                    file.native(), other.native()));
  }
  return other;
}

}  // namespace

TlsCertificates::TlsCertificates(fs::path authority, std::vector<fs::path> directories)
    : authority_(std::move(authority)),
      directories_(directories.empty() ? default_directories() : std::move(directories)) {}

ServerCertificates TlsCertificates::find(const std::string& server) const {
  ServerCertificates found;
  if (!authority_.empty()) found.authorities = read_certificates(authority_);
  if (server == "." || server == "..") return found;  // hosts that a redirect can name
  for (const auto& directory : directories_) {
    std::error_code ignored;
    const auto own = directory / server;
    if (!fs::is_directory(own, ignored)) continue;
    for (const auto& file : files_in(own)) {
      if (file.extension() == ".crt") found.authorities += read_certificates(file);
      if (file.extension() == ".key") partner(file, ".cert");
      if (file.extension() != ".cert" || !found.client_chain.empty()) continue;
      found.client_key = partner(file, ".key");
      found.client_chain = file;
    }
    break;
  }
  return found;
}

}  // namespace puzzlefs::fetch
