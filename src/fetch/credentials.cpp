// Which of the files and helpers has the credential for a repository.
#include "fetch/credentials.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "fetch/auth_file.h"
#include "fetch/credential_helper.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

// A helper that fails is no reason to fail: much can be read by anybody.
std::optional<Credential> ask(const std::optional<HostHelper>& helper, const fs::path& file) {
  if (!helper) return std::nullopt;
  try {
    for (const auto& server : helper->servers) {
      if (auto credential = ask_credential_helper(helper->name, server)) return credential;
    }
    return std::nullopt;
  } catch (const Error& error) {
    spdlog::warn("{} (It is named by {}.)", error.what(), file.native());
    return std::nullopt;
  }
}

std::optional<Credential> find_in(const AuthDocument& document, const format::RegistryName& name,
                                  const fs::path& file) {
  if (auto credential = ask(document.helper_for(name.host), file)) return credential;
  if (auto credential = document.find(name)) return credential;
  return ask(document.helper_for_all(name.host), file);
}

}  // namespace

Credentials::Credentials(fs::path authfile) {
  if (auto file = named_auth_file(std::move(authfile)); !file.empty()) {
    named_ = true;
    files_.push_back(std::move(file));
  } else {
    files_ = default_auth_files();
  }
}

Credentials::Credentials(Credential credential) : fixed_(std::move(credential)) {}

std::optional<Credential> Credentials::find(const format::RegistryName& name) const {
  if (fixed_) return fixed_;
  for (const auto& file : files_) {
    std::optional<AuthDocument> document;
    try {
      document = AuthDocument::read(file);
    } catch (const Error& error) {
      // What is malformed is an error wherever it is.
      if (named_ || dynamic_cast<const CorruptError*>(&error) != nullptr) throw;
      spdlog::debug("No credentials from {}: {}", file.string(), error.what());
      continue;
    }
    if (auto credential = find_in(*document, name, file)) return credential;
  }
  return std::nullopt;
}

}  // namespace puzzlefs::fetch
