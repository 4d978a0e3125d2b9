#include "fetch/verified_files.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

#include "fetch/verity_reader.h"
#include "format/error.h"

namespace puzzlefs::fetch {

FileDescriptor VerifiedFiles::reopen(const Recipe& recipe) {
  format::Digest digest;
  {
    const std::lock_guard lock(mutex_);
    const auto* const known = recipes_.find(recipe.key);
    if (known == nullptr) return {};
    digest = *known;
  }
  auto opened = cache_.files().open(digest);
  if (opened && is_verified(digest, opened->identity)) return std::move(opened->file);
  const std::lock_guard lock(mutex_);
  recipes_.erase(recipe.key);
  return {};
}

std::optional<VerifiedFiles::Found> VerifiedFiles::find(const Recipe& recipe) {
  const auto digest = cache_.files().recall(recipe.key);
  if (!digest) return std::nullopt;
  auto found = find(*digest);
  if (found && found->is_verified && found->file.identity.size != recipe.size) return std::nullopt;
  return found;
}

std::optional<VerifiedFiles::Found> VerifiedFiles::find(const format::Digest& digest) {
  auto& files = cache_.files();
  auto opened = files.open(digest);
  if (!opened) return std::nullopt;
  Found found{std::move(*opened), digest, false};
  found.is_verified = is_verified(digest, found.file.identity);
  if (found.is_verified) return found;
  const auto measured = files.measure(found.file, digest);
  if (!measured) return found;
  if (!confirm(found, *measured)) return std::nullopt;
  found.is_verified = true;
  return found;
}

bool VerifiedFiles::confirm(const Found& found, const format::Digest& actual) {
  if (actual != found.digest) {
    cache_.files().quarantine(found.digest,
                              fmt::format("Its {} bytes have the fs-verity digest {}.",
                                          found.file.identity.size, actual.hex()));
    return false;
  }
  const std::lock_guard lock(mutex_);
  files_[found.digest] = found.file.identity;
  return true;
}

bool VerifiedFiles::verify(Found& found) {
  if (found.is_verified) return true;
  try {
    found.is_verified = confirm(found, read_verity_digest(found.file.file));
  } catch (const Error& error) {
    cache_.files().quarantine(found.digest, error.what());
  }
  return found.is_verified;
}

bool VerifiedFiles::add(const Recipe& recipe, const format::Digest& digest,
                        const FileIdentity& identity) {
  if (identity.size != recipe.size) return false;
  if (cache_.files().recall(recipe.key) != digest) cache_.files().remember(recipe.key, digest);
  const std::lock_guard lock(mutex_);
  files_[digest] = identity;
  recipes_[recipe.key] = digest;
  return true;
}

void VerifiedFiles::cover(const FilePieces& pieces, const std::vector<std::uint32_t>& chunk_sizes) {
  std::vector<format::Digest> covered;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const auto size = i < chunk_sizes.size() ? chunk_sizes[i] : 0;
      if (!chunks_.add(pieces[i], size)) continue;
      const bool again = !covered.empty() && covered.back() == pieces[i].blob;
      if (!again) covered.push_back(pieces[i].blob);
    }
  }
  for (const auto& chunk : covered) cache_.demote(chunk);
}

bool VerifiedFiles::is_verified(const format::Digest& digest, const FileIdentity& identity) {
  const std::lock_guard lock(mutex_);
  const auto* const known = files_.find(digest);
  return known != nullptr && *known == identity;
}

}  // namespace puzzlefs::fetch
