// A local OCI image layout: reading and writing blobs and tags (OCI image specification, "Image
// Layout").
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fetch/blob_source.h"
#include "fetch/mapped_file.h"
#include "format/digest.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// Thread-safe: its methods hold no state but the path. Writers in other processes are safe too:
/// blobs and index.json appear by rename, and changes of the index are made under a lock on the
/// directory.
class Layout : public BlobSource {
 public:
  /// An existing layout. Throws NotFoundError if there is none at `path`, CorruptError if its
  /// oci-layout file is of a version this program does not know.
  static Layout open(const std::filesystem::path& path);
  /// As open(), but makes what is missing, parent directories too.
  static Layout create(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path blob_path(const format::Digest& digest) const;
  bool has_blob(const format::Digest& digest, std::uint64_t size) const;

  /// The blob's bytes as they stand on disk, not verified.
  MappedFile map_blob(const format::Digest& digest) const;
  /// Stores `data` under its digest, unless a blob of that size is there already. Returns whether
  /// it wrote. Durable only after sync().
  bool write_blob(const format::Digest& digest, ByteView data) const;
  /// As write_blob(), but whatever is there: it may have the right size and the wrong bytes.
  void replace_blob(const format::Digest& digest, ByteView data) const;

  /// Tags in the order of the index. An entry without a tag gives an empty string.
  std::vector<std::string> tags() const;
  /// The descriptor of the manifest or index that `tag` names. An empty tag means the layout's only
  /// entry. Throws NotFoundError that lists the tags there are.
  format::Descriptor resolve(const std::string& tag) const;
  /// Makes `tag` name `manifest`, replacing an entry of the same tag and keeping all others as they
  /// are, unknown members included. The index is on the disk then; what it names, after sync().
  void set_tag(const std::string& tag, const format::Descriptor& manifest) const;
  /// Flushes the blobs to disk (syncfs).
  void sync() const;

  void read(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) override;
  std::shared_ptr<RangeRead> read_range(const format::Descriptor& blob, ByteRange range,
                                        Freshness freshness, RangeReceiver on_bytes,
                                        Completion<Done> done) override;
  std::string local_path(const format::Digest& digest) const override;
  std::string description() const override;

 private:
  explicit Layout(std::filesystem::path path) : path_(std::move(path)) {}

  void check_size(const format::Descriptor& blob, std::uint64_t size) const;

  std::filesystem::path path_;
};

}  // namespace puzzlefs::fetch
