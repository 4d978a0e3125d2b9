#include "fetch/cached_recipes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "fetch/base64.h"
#include "fetch/temp_file.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kDirectoryMode = 0700;
constexpr std::size_t kTargetSize = 44;  // of 32 bytes in base64
constexpr std::string_view kDigits = "0123456789abcdef";

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

std::byte* put(std::byte* out, std::uint64_t number) {
  for (int shift = 0; shift < 64; shift += 8) {
    *out++ = static_cast<std::byte>(number >> static_cast<unsigned>(shift));
  }
  return out;
}

std::byte* put(std::byte* out, const format::ChunkRef& piece) {
  const auto digest = piece.blob.bytes();
  out = std::copy(digest.begin(), digest.end(), out);
  out = put(put(out, piece.offset), piece.size);
  *out++ = static_cast<std::byte>(piece.compressed);
  return out;
}

fs::path path_in(const fs::path& directory, const format::Digest& digest) {
  const auto hex = digest.hex();
  return directory / hex.substr(0, 2) / hex;
}

std::optional<format::Digest> read_link(int directory, const char* name) {
  std::array<char, kTargetSize + 1> target{};
  const auto size = ::readlinkat(directory, name, target.data(), target.size());
  if (size != ssize_t{kTargetSize}) return std::nullopt;
  const auto raw = base64_decode({target.data(), kTargetSize});
  if (!raw || raw->size() != format::Digest::kSize) return std::nullopt;
  return format::Digest::from_bytes(as_bytes(*raw));
}

}  // namespace

Recipe recipe_of(const FilePieces& pieces) {
  constexpr auto kNoNumber = std::numeric_limits<std::uint64_t>::max();
  constexpr std::size_t kPieceSize = format::Digest::kSize + 8 + 8 + 1;
  std::array<std::byte, 64 * kPieceSize> text{};  // hashing has its price for each call
  auto* end = text.data();
  const auto hash_text = [&](format::Sha256& hash) {
    hash.update(ByteView(text.data(), end));
    end = text.data();
  };
  Recipe recipe;
  format::Sha256 hash;
  for (const auto& piece : pieces) {
    end = put(end, piece);
    if (end == text.data() + text.size()) hash_text(hash);
    recipe.size = piece.size > kNoNumber - recipe.size ? kNoNumber : recipe.size + piece.size;
  }
  hash_text(hash);
  recipe.key = hash.finish();
  return recipe;
}

std::optional<format::Digest> CachedRecipes::recall(const format::Digest& key) const {
  return read_link(AT_FDCWD, path_in(cache_ / "recipes", key).c_str());
}

void CachedRecipes::remember(const format::Digest& key, const format::Digest& file) const {
  const auto path = path_in(cache_ / "recipes", key);
  const auto target = base64_encode(as_text(file.bytes()));
  try {
    link_atomically(path, cache_ / "tmp", target);
  } catch (const Error& error) {
    if (error.code() != ENOENT) throw;
    ::mkdir(path.parent_path().parent_path().c_str(), kDirectoryMode);
    ::mkdir(path.parent_path().c_str(), kDirectoryMode);
    link_atomically(path, cache_ / "tmp", target);
  }
}

void CachedRecipes::remove_dangling(const std::atomic<bool>& stop) const {
  for (std::size_t i = 0; i < 256 && !stop; ++i) {
    const auto path = cache_ / "recipes" / std::string{kDigits[i / 16], kDigits[i % 16]};
    const std::unique_ptr<DIR, CloseDirectory> directory(::opendir(path.c_str()));
    if (!directory) continue;
    while (const dirent* const entry = ::readdir(directory.get())) {
      const auto file = read_link(::dirfd(directory.get()), entry->d_name);
      const bool dangles =
          file && ::access(path_in(cache_ / "files", *file).c_str(), F_OK) != 0 && errno == ENOENT;
      if (dangles) ::unlinkat(::dirfd(directory.get()), entry->d_name, 0);
    }
  }
}

}  // namespace puzzlefs::fetch
