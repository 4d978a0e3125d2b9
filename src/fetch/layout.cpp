// Blobs and tags as files of an OCI image layout.
#include "fetch/layout.h"

#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kLayoutVersion = "1.0.0";
constexpr std::string_view kLayoutDocument = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::string_view kEmptyIndex = R"({"manifests":[],"schemaVersion":2})";
constexpr std::uint64_t kPieceSize = 1 << 20;
constexpr int kMaxJsonDepth = 64;
constexpr unsigned kFileMode = 0666;  // less the umask, as for any file that a user makes

json read_json(const fs::path& path) {
  const auto bytes = read_file(path, format::kMaxManifestSize);
  const auto text = as_text(bytes);
  // Writing JSON recurses, so a document that nests without end would exhaust the stack.
  const auto check_depth = [&](int depth, json::parse_event_t, json&) {
    if (depth > kMaxJsonDepth) {
      throw CorruptError(fmt::format("{} nests too deeply.", path.native()));
    }
    return true;
  };
  auto document = json::parse(text.begin(), text.end(), check_depth, false);
  if (!document.is_object()) {
    throw CorruptError(fmt::format("{} is not a JSON object.", path.native()));
  }
  return document;
}

void check_version(const fs::path& path) {
  const auto document = read_json(path);
  const auto version = document.find("imageLayoutVersion");
  if (version == document.end() || *version != kLayoutVersion) {
    throw CorruptError(
        fmt::format("{} does not say that this is an OCI image layout of version {}, the only one "
                    "that this program knows.",
                    path.native(), kLayoutVersion));
  }
}

std::string tag_of(const format::Descriptor& entry) {
  const auto found = entry.annotations.find(std::string(format::kRefNameAnnotation));
  return found == entry.annotations.end() ? std::string() : found->second;
}

/// The tag of an index entry as it stands in the document; whatever else the entry is, it is kept.
std::string tag_of(const json& entry) {
  if (!entry.is_object()) return {};
  const auto annotations = entry.find("annotations");
  if (annotations == entry.end() || !annotations->is_object()) return {};
  const auto tag = annotations->find(format::kRefNameAnnotation);
  return tag != annotations->end() && tag->is_string() ? tag->get<std::string>() : std::string();
}

std::string to_text(const json& document, const std::string& tag) {
  try {
    return document.dump();
  } catch (const json::exception&) {  // what was read was valid, so it is the tag
    throw UsageError(fmt::format("The tag '{}' is not valid UTF-8.", tag));
  }
}

// Hands on a stretch of a file, as much at once as is in the page cache after one go.
void read_pieces(const FileDescriptor& file, const fs::path& path, ByteRange range,
                 const RangeReceiver& on_bytes) {
  Bytes buffer(static_cast<std::size_t>(std::min<std::uint64_t>(range.size, kPieceSize)));
  for (std::uint64_t at = range.offset; at < range.end();) {
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(range.end() - at, buffer.size()));
    const auto count = ::pread(file.get(), buffer.data(), wanted, static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno(fmt::format("read {}", path.native()));
    if (count == 0) {
      throw CorruptError(fmt::format("{} became shorter while it was read.", path.native()));
    }
    on_bytes(at, ByteView(buffer.data(), static_cast<std::size_t>(count)));
    at += static_cast<std::uint64_t>(count);
  }
}

std::string list(const std::vector<format::Descriptor>& entries) {
  std::string text;
  for (const auto& entry : entries) {
    const auto tag = tag_of(entry);
    if (tag.empty()) continue;
    text += text.empty() ? "" : ", ";
    text += tag;
  }
  return text.empty() ? "It has no tags at all." : "Its tags are: " + text + ".";
}

std::vector<format::Descriptor> read_index(const fs::path& path) {
  const auto document = read_file(path, format::kMaxManifestSize);
  return format::parse_index(document, path.native()).manifests;
}

bool is_regular(const fs::path& path, struct stat& status) {
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

Layout Layout::open(const fs::path& path) {
  const auto version_file = path / "oci-layout";
  std::error_code ignored;
  if (!fs::exists(version_file, ignored)) {
    throw NotFoundError(
        fmt::format("There is no OCI image layout at {}: {} does not exist. \"puzzlefs build\" "
                    "and \"puzzlefs pull\" make one.",
                    path.native(), version_file.native()));
  }
  check_version(version_file);
  return Layout(path);
}

Layout Layout::create(const fs::path& path) {
  std::error_code failure;
  fs::create_directories(path / "blobs" / "sha256", failure);
  if (failure) {
    throw_errno(fmt::format("make the OCI image layout {}", path.native()), failure.value());
  }
  const DirectoryLock lock(path);
  for (const auto& [name, content] :
       {std::pair("index.json", kEmptyIndex), std::pair("oci-layout", kLayoutDocument)}) {
    if (fs::exists(path / name, failure)) continue;
    write_file_atomically(path / name, path, as_bytes(content), kFileMode);
  }
  return open(path);
}

fs::path Layout::blob_path(const format::Digest& digest) const {
  return path_ / "blobs" / "sha256" / digest.hex();
}

bool Layout::has_blob(const format::Digest& digest, std::uint64_t size) const {
  struct stat status {};
  return is_regular(blob_path(digest), status) &&
         static_cast<std::uint64_t>(status.st_size) == size;
}

MappedFile Layout::map_blob(const format::Digest& digest) const {
  try {
    return MappedFile(blob_path(digest));
  } catch (const NotFoundError&) {
    throw NotFoundError(
        fmt::format("There is no blob {} in {}.", digest.to_string(), description()));
  }
}

bool Layout::write_blob(const format::Digest& digest, ByteView data) const {
  if (has_blob(digest, data.size())) return false;
  replace_blob(digest, data);
  return true;
}

void Layout::replace_blob(const format::Digest& digest, ByteView data) const {
  // The temporary name is beside the blob and not in the layout's root: blobs/sha256 may be a link
  // to a directory of another file system, where a rename would not reach.
  write_file_atomically(blob_path(digest), path_ / "blobs" / "sha256", data, kFileMode);
}

std::vector<std::string> Layout::tags() const {
  std::vector<std::string> result;
  for (const auto& entry : read_index(path_ / "index.json")) result.push_back(tag_of(entry));
  return result;
}

format::Descriptor Layout::resolve(const std::string& tag) const {
  auto entries = read_index(path_ / "index.json");
  if (tag.empty()) {
    if (entries.size() == 1) return std::move(entries.front());
    if (entries.empty())
      throw NotFoundError(fmt::format("There is no image in {}.", description()));
    throw NotFoundError(fmt::format("There are {} images in {}; say which one as {}:TAG. {}",
                                    entries.size(), description(), path_.native(), list(entries)));
  }
  for (auto& entry : entries) {
    if (tag_of(entry) == tag) return std::move(entry);
  }
  throw NotFoundError(
      fmt::format("There is no tag '{}' in {}. {}", tag, description(), list(entries)));
}

void Layout::set_tag(const std::string& tag, const format::Descriptor& manifest) const {
  auto entry = manifest;
  entry.annotations[std::string(format::kRefNameAnnotation)] = tag;
  if (!entry.platform && !format::is_index(entry.media_type))
    entry.platform = format::host_platform();

  const auto index_path = path_ / "index.json";
  const DirectoryLock lock(path_);
  auto document = read_json(index_path);
  auto& manifests = document["manifests"];
  if (!manifests.is_array()) {
    throw CorruptError(fmt::format("{} has no array 'manifests'.", index_path.native()));
  }
  json kept = json::array();
  for (auto& other : manifests) {
    if (tag_of(other) != tag) kept.push_back(std::move(other));
  }
  kept.push_back(format::to_json(entry));
  manifests = std::move(kept);
  const auto text = to_text(document, tag);
  if (text.size() > format::kMaxManifestSize) {
    throw Error(EFBIG,
                fmt::format("{} is full: with the tag '{}' it would have {} bytes, more than "
                            "the {} that programs read. Remove tags first.",
                            index_path.native(), tag, text.size(), format::kMaxManifestSize));
  }
  write_file_atomically(index_path, path_, as_bytes(text), kFileMode, Durability::kFlushed);
}

void Layout::sync() const {
  // Twice, as blobs/sha256 may be a link to another file system. The second is cheap otherwise.
  for (const auto& directory : {path_ / "blobs" / "sha256", path_}) {
    if (syncfs(open_directory(directory).get()) != 0) {
      throw_errno(fmt::format("flush {} to disk", directory.native()));
    }
  }
}

void Layout::check_size(const format::Descriptor& blob, std::uint64_t size) const {
  if (size == blob.size) return;
  throw CorruptError(fmt::format("{} has {} bytes; the image says that it has {}.",
                                 blob_path(blob.digest).native(), size, blob.size));
}

void Layout::read(const format::Descriptor& blob, Freshness, Completion<Bytes> done) {
  Outcome<Bytes> outcome{Bytes()};
  try {
    const auto file = map_blob(blob.digest);
    check_size(blob, file.bytes().size());
    outcome = Bytes(file.bytes().begin(), file.bytes().end());
  } catch (...) {
    outcome = std::current_exception();
  }
  done(std::move(outcome));
}

std::shared_ptr<RangeRead> Layout::read_range(const format::Descriptor& blob, ByteRange range,
                                              Freshness, RangeReceiver on_bytes,
                                              Completion<Done> done) {
  Outcome<Done> outcome{Done{}};
  try {
    check_range(blob, range);
    const auto path = blob_path(blob.digest);
    const auto file = open_regular_file(path);
    check_size(blob, file_size(file, path));
    read_pieces(file, path, range, on_bytes);
  } catch (...) {
    outcome = std::current_exception();
  }
  done(std::move(outcome));
  return std::make_shared<RangeRead>();
}

std::string Layout::local_path(const format::Digest& digest) const {
  auto path = blob_path(digest);
  struct stat status {};
  return is_regular(path, status) ? path.native() : std::string();
}

std::string Layout::description() const {
  return "the layout " + path_.native();
}

}  // namespace puzzlefs::fetch
