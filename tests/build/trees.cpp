#include "trees.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <stdexcept>

#include "../support/metadata_blob.h"
#include "fetch/file_descriptor.h"
#include "format/oci.h"
#include "format/verity.h"

namespace puzzlefs::test {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kNobody = 65534;

void check(bool succeeded, const std::string& doing) {
  if (!succeeded) throw std::system_error(errno, std::generic_category(), doing);
}

void run(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

std::string describe_xattrs(const fs::path& path) {
  std::string keys(65536, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), keys.data(), keys.size());
  if (size < 0) return "no xattrs";
  std::set<std::string> all;
  for (const char* key = keys.data(); key < keys.data() + size;
       key += std::string(key).size() + 1) {
    std::string value(65536, '\0');
    const ssize_t length = ::lgetxattr(path.c_str(), key, value.data(), value.size());
    check(length >= 0, "read " + std::string(key));
    all.insert(
        fmt::format(" {}={}", key,
                    format::sha256(as_bytes(value.substr(0, static_cast<std::size_t>(length))))
                        .hex()
                        .substr(0, 12)));
  }
  std::string text;
  for (const auto& one : all) text += one;
  return text;
}

}  // namespace

std::string noise(std::size_t size, std::string_view seed) {
  std::uint64_t state = 0;
  std::memcpy(&state, format::sha256(as_bytes(seed)).bytes().data(), sizeof state);
  std::string out(size + sizeof state, '\0');
  for (std::size_t place = 0; place < size; place += sizeof state) {
    // SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014)
    state += 0x9e3779b97f4a7c15U;
    std::uint64_t word = (state ^ (state >> 30U)) * 0xbf58476d1ce4e5b9U;
    word = (word ^ (word >> 27U)) * 0x94d049bb133111ebU;
    word ^= word >> 31U;
    std::memcpy(out.data() + place, &word, sizeof word);
  }
  out.resize(size);
  return out;
}

void write_file(const fs::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::string content(fs::file_size(path), '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  return content;
}

void make_kinds(const fs::path& path) {
  run("bash '" PUZZLEFS_FIXTURES "/kinds.sh' '" + path.string() + "'");
}

std::map<std::string, std::string> describe_tree(const fs::path& root) {
  std::map<std::string, std::string> tree;
  std::map<std::pair<dev_t, ino_t>, std::string> first_paths;
  std::set<fs::path> paths{root};
  for (const auto& entry : fs::recursive_directory_iterator(root)) paths.insert(entry.path());
  for (const fs::path& path : paths) {
    struct stat status {};
    check(::lstat(path.c_str(), &status) == 0, "lstat " + path.string());
    const std::string name = path.lexically_relative(root);
    const auto first = first_paths.try_emplace({status.st_dev, status.st_ino}, name).first->second;
    std::string text = fmt::format("mode {:o} owner {}:{} device {:x} first {}", status.st_mode,
                                   status.st_uid, status.st_gid, status.st_rdev, first);
    if (S_ISLNK(status.st_mode)) text += " -> " + fs::read_symlink(path).string();
    if (S_ISREG(status.st_mode)) {
      text += " content " + format::sha256(as_bytes(read_file(path))).hex().substr(0, 12);
    }
    tree[name] = text + describe_xattrs(path);
  }
  return tree;
}

void write_image(const fetch::Layout& layout,
                 const std::vector<std::vector<format::InodeRecord>>& layers,
                 const std::vector<std::string>& chunks) {
  const auto add = [&](std::string_view media_type, ByteView bytes) {
    format::Descriptor descriptor;
    descriptor.media_type = media_type;
    descriptor.digest = format::sha256(bytes);
    descriptor.size = bytes.size();
    layout.write_blob(descriptor.digest, bytes);
    return descriptor;
  };
  format::Manifest manifest;
  manifest.config = format::empty_config();
  manifest.layers.push_back(add(format::kRootfsType, format::write_metadata(layers, {})));
  for (const auto& chunk : chunks) {
    manifest.layers.push_back(add(format::kFiledataType, as_bytes(chunk)));
  }
  layout.set_tag("hostile", add(format::kManifestType, as_bytes(format::to_json_text(manifest))));
}

std::unique_ptr<fetch::Image> open_image(fetch::Runtime& runtime, const fetch::Layout& layout,
                                         const std::string& tag) {
  return fetch::Image::open(runtime, format::LayoutName{layout.path(), tag}, fetch::ImageOptions());
}

std::vector<std::string> layer_digests(const fetch::Layout& layout, const std::string& tag) {
  const auto document = read_file(layout.blob_path(layout.resolve(tag).digest));
  std::vector<std::string> digests;
  for (const auto& layer : format::parse_manifest(as_bytes(document), tag).layers) {
    digests.push_back(layer.digest.hex());
  }
  return digests;
}

bool is_root() {
  return ::geteuid() == 0;
}

AsNobody::AsNobody() {
  check(::setegid(kNobody) == 0, "setegid");
  check(::seteuid(kNobody) == 0, "seteuid");
}

AsNobody::~AsNobody() {
  if (::seteuid(0) != 0 || ::setegid(0) != 0) std::abort();
}

DescriptorLimit::DescriptorLimit(unsigned count) {
  struct rlimit limit {};
  check(::getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
  previous_ = std::exchange(limit.rlim_cur, count);
  check(::setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

DescriptorLimit::~DescriptorLimit() {
  struct rlimit limit {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = previous_;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void make_deep_tree(const fs::path& path, int depth) {
  fs::create_directory(path);
  fetch::FileDescriptor directory = fetch::open_directory(path);
  for (int level = 1; level <= depth; ++level) {
    constexpr auto kName = "directory";
    check(::mkdirat(directory.get(), kName, 0755) == 0, "mkdirat");
    directory = fetch::FileDescriptor(::openat(directory.get(), kName, O_RDONLY | O_DIRECTORY));
    check(directory.get() >= 0, "openat");
    if (level % 100 != 0 && level != depth) continue;
    const fetch::FileDescriptor file(
        ::openat(directory.get(), "file", O_WRONLY | O_CREAT | O_EXCL, 0644));
    const std::string content = fmt::format("level {}\n", level);
    check(
        ::write(file.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()),
        "write");
  }
}

void remove_deep_tree(const fs::path& path) {
  run("rm -rf '" + path.string() + "'");
}

}  // namespace puzzlefs::test
