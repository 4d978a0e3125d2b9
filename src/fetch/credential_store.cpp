// Keeping credentials where Credentials finds them.
#include "fetch/credential_store.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

#include "fetch/credential_helper.h"
#include "fetch/credentials.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

// In a directory that others can open, such as /tmp, they can hold the lock for as long as they
// like.
DirectoryLock lock_for_writing(const fs::path& directory) {
  constexpr int kTries = 100;
  constexpr std::chrono::milliseconds kPause{100};
  for (int i = 0; i < kTries; ++i) {
    if (auto lock = DirectoryLock::try_lock(directory)) return std::move(*lock);
    std::this_thread::sleep_for(kPause);
  }
  throw Error(EAGAIN, "Another program keeps the directory " + directory.native() +
                          " locked. Try again, or name a file elsewhere with --authfile.");
}

constexpr int kMaxLinks = 40;  // as the kernel follows
constexpr unsigned kOwnerOnly = 0600;

// What a chain of symbolic links leads to, whether that exists or not: rename(2) would replace the
// link.
fs::path behind_links(fs::path path) {
  std::error_code failure;
  for (int links = 0; links < kMaxLinks; ++links) {
    const auto target = fs::read_symlink(path, failure);
    if (failure) return path;  // no link
    path = target.is_absolute() ? target : path.parent_path() / target;
  }
  throw_errno("follow the links of " + path.native(), ELOOP);
}

void make_directories(const fs::path& directory) {
  if (directory.empty() || ::mkdir(directory.c_str(), 0700) == 0 || errno == EEXIST) return;
  if (errno == ENOENT && directory.has_relative_path()) {
    make_directories(directory.parent_path());
    if (::mkdir(directory.c_str(), 0700) == 0 || errno == EEXIST) return;
  }
  const int code = errno;
  throw Error(code, "Cannot make the directory " + directory.native() +
                        " for credentials: " + std::generic_category().message(code) +
                        ". Name a file in another one with --authfile.");
}

// The helper that keeps what is for the host. As Credentials asks them.
std::optional<HostHelper> keeper(const AuthDocument& document, const std::string& host) {
  if (auto helper = document.helper_for(host)) return helper;
  return document.helper_for_all(host);
}

// Lets a helper forget the host by all its names. Returns whether it knew it.
bool erase_from(const std::optional<HostHelper>& helper) {
  if (!helper) return false;
  bool known = false;
  for (const auto& server : helper->servers) {
    if (!ask_credential_helper(helper->name, server)) continue;
    erase_from_credential_helper(helper->name, server);
    known = true;
  }
  return known;
}

}  // namespace

CredentialStore::CredentialStore(fs::path authfile) : file_(named_auth_file(std::move(authfile))) {
  named_ = !file_.empty();
  if (!named_) file_ = default_auth_files().front();
}

// Nothing if it is missing.
std::optional<AuthDocument> CredentialStore::read() const {
  try {
    return AuthDocument::read(file_);
  } catch (const NotFoundError&) {
    return std::nullopt;
  }
}

// Writes the file anew if `change` returns true.
void CredentialStore::edit(const std::function<bool(AuthDocument&)>& change) const {
  const auto target = behind_links(file_);
  const auto directory = target.parent_path();
  make_directories(directory);
  const auto lock = lock_for_writing(directory);
  auto document = read().value_or(AuthDocument(file_));
  if (!change(document)) return;
  const auto text = document.text();
  try {
    write_file_atomically(target, directory, as_bytes(text), kOwnerOnly, Durability::kFlushed);
  } catch (const Error& error) {
    throw Error(error.code(), "The credentials file " + file_.native() + " cannot be written: " +
                                  error.what() + " Name another one with --authfile.");
  }
}

std::string CredentialStore::store(const LoginTarget& target, const Credential& credential) const {
  std::optional<HostHelper> helper;
  if (const auto document = read()) helper = keeper(*document, target.host);
  if (!helper) {
    edit([&](AuthDocument& document) {
      document.put(target, credential);
      return true;
    });
    return {};
  }
  if (!target.path.empty()) {
    throw UsageError(file_.native() + " has the credential helper " + helper->name +
                     " for registry " + target.host +
                     ", which keeps nothing for a part of it. Log in to " + target.host +
                     ", or name another file with --authfile.");
  }
  store_in_credential_helper(helper->name, helper->servers.front(), credential);
  // What stands there would be found before what the helper for all hosts has.
  edit([&](AuthDocument& document) {
    return document.remove(target, AuthDocument::Entries::kSecret);
  });
  return helper->name;
}

bool CredentialStore::erase(const LoginTarget& target) const {
  const auto document = named_ ? std::optional(AuthDocument::read(file_)) : read();
  if (!document) return false;
  bool erased = false;
  edit([&](AuthDocument& current) {
    return erased = current.remove(target, AuthDocument::Entries::kAll);
  });
  if (!target.path.empty()) return erased;
  const bool by_host = erase_from(document->helper_for(target.host));
  const bool by_store = erase_from(document->helper_for_all(target.host));
  return erased || by_host || by_store;
}

std::vector<std::string> CredentialStore::erase_all() const {
  const auto document = named_ ? std::optional(AuthDocument::read(file_)) : read();
  if (!document) return {};
  std::vector<std::string> erased;
  edit([&](AuthDocument& current) {
    erased = current.remove_all();
    return !erased.empty();
  });
  // A helper that fails keeps none from being asked.
  std::exception_ptr failure;
  const auto attempt = [&](const auto& action) {
    try {
      action();
    } catch (const Error&) {
      if (!failure) failure = std::current_exception();
    }
  };
  for (const auto& host : document->hosts_with_helper()) {
    attempt([&] {
      if (erase_from(document->helper_for(host))) erased.push_back(host);
    });
  }
  if (const auto helper = document->helper_for_all({})) {
    attempt([&] {
      for (const auto& server : list_credential_helper(helper->name)) {
        erase_from_credential_helper(helper->name, server);
        erased.push_back(server);
      }
    });
  }
  if (failure) std::rethrow_exception(failure);
  std::sort(erased.begin(), erased.end());
  erased.erase(std::unique(erased.begin(), erased.end()), erased.end());
  return erased;
}

std::vector<fs::path> CredentialStore::others_with(const LoginTarget& target) const {
  std::vector<fs::path> others;
  if (named_) return others;  // commands look at no other one then
  for (const auto& file : default_auth_files()) {
    if (file == file_) continue;
    try {
      const Credentials credentials(file);
      if (credentials.find({target.host, target.path, {}, {}})) others.push_back(file);
    } catch (const Error& error) {
      spdlog::debug("Nothing is known of {}: {}", file.native(), error.what());
    }
  }
  return others;
}

}  // namespace puzzlefs::fetch
