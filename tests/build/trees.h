// What the tests of builds and extractions need: trees to start from, trees compared, and images.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "fetch/image.h"
#include "fetch/layout.h"
#include "fetch/runtime.h"
#include "format/digest.h"
#include "format/metadata_writer.h"

namespace puzzlefs::test {

/// `size` bytes that do not compress, the same for the same seed: SHA-256 of "seed:0", "seed:1", ….
std::string noise(std::size_t size, std::string_view seed);

/// Writes a file, replacing what is there.
void write_file(const std::filesystem::path& path, std::string_view content);

std::string read_file(const std::filesystem::path& path);

/// Makes tests/fixtures/kinds.sh's tree. Needs root.
void make_kinds(const std::filesystem::path& path);

/// All that an image keeps of a tree, as text, by relative path: type, mode, owner, device, link
/// target, contents, extended attributes, and the first path of the same inode.
std::map<std::string, std::string> describe_tree(const std::filesystem::path& root);

/// An image made by hand: the inodes, the chunks that the manifest lists, the tag "hostile".
void write_image(const fetch::Layout& layout,
                 const std::vector<std::vector<format::InodeRecord>>& layers,
                 const std::vector<std::string>& chunks = {});

std::unique_ptr<fetch::Image> open_image(fetch::Runtime& runtime, const fetch::Layout& layout,
                                         const std::string& tag);

/// The digests of an image's layers, the metadata first.
std::vector<std::string> layer_digests(const fetch::Layout& layout, const std::string& tag);

bool is_root();

/// While it lives this process, all threads of it, acts as the user nobody. Needs root.
class AsNobody {
 public:
  AsNobody();
  ~AsNobody();
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;
};

/// While it lives, at most `count` descriptors can be open.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(unsigned count);
  ~DescriptorLimit();
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  std::uint64_t previous_ = 0;
};

/// A directory in a directory in a directory…, `depth` of them, a file in the deepest and one in
/// each hundredth.
void make_deep_tree(const std::filesystem::path& path, int depth);
/// Removes a tree too deep for std::filesystem.
void remove_deep_tree(const std::filesystem::path& path);

}  // namespace puzzlefs::test
