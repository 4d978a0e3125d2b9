// A repository of a registry as one end of a transfer.
#pragma once

#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "build/image_store.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"

namespace puzzlefs::build {

/// Gives blobs in memory, verified.
class RegistrySource : public ImageSource {
 public:
  RegistrySource(fetch::Runtime& runtime, fetch::Registry& registry)
      : RegistrySource(runtime, registry, registry.name()) {}
  /// Another image of the registry's repository.
  RegistrySource(fetch::Runtime& runtime, fetch::Registry& registry, format::RegistryName name)
      : runtime_(runtime), registry_(registry), name_(std::move(name)) {}

  fetch::Document top() override;
  fetch::Document document(const format::Descriptor& descriptor) override;
  void get(const format::Descriptor& blob, fetch::Completion<fetch::RequestBody> done) override;
  bool holds_in_memory() const override { return true; }
  std::string name() const override { return name_.to_string(); }

 private:
  fetch::Runtime& runtime_;
  fetch::Registry& registry_;
  const format::RegistryName name_;
};

/// Writes by the name's tag if it has one, else by its digest; an image of another digest than the
/// name's is refused. Knows what the present manifest or index of the name names, and takes blobs
/// from the repository that the registry was told to mount from.
class RegistryTarget : public ImageTarget {
 public:
  /// `is_source` says that all comes from that very repository: then it is there.
  explicit RegistryTarget(fetch::Registry& registry, bool is_source = false)
      : registry_(registry), is_source_(is_source) {}

  /// What the registry has now under the name that is written to; nothing if that tells us nothing.
  /// Asked for once: what is built upon it, and known() after that, mean the same. Throws
  /// UnavailableError and what else keeps the name from being written. Blocks.
  const std::optional<fetch::Document>& present();

  /// Blobs that another image of the repository names: nobody needs to ask for them. Before
  /// known().
  void add_known(const std::unordered_set<format::Digest>& blobs);
  /// The blobs that the repository to mount from has; without this all are tried there. A
  /// registry that refuses one is not asked again. Before anything is put.
  void mount_only(std::unordered_set<format::Digest> blobs) { mountable_ = std::move(blobs); }

  KnownParts known(const ImageParts& wanted) override;
  void has(const format::Descriptor& blob, fetch::Completion<bool> done) override;
  Movement expected_movement(const format::Descriptor& blob) const override;
  void put(const format::Descriptor& blob, const BlobGetter& get,
           fetch::Completion<Movement> done) override;
  void put_document(const fetch::Document& document) override;
  void tag(const fetch::Document& document) override;

 private:
  fetch::DocumentReader reader_for(const ImageParts& wanted);
  bool mounts(const format::Descriptor& blob) const;
  void put_manifest(const std::string& reference, const fetch::Document& document);

  fetch::Registry& registry_;
  const bool is_source_;
  bool asked_ = false;  // present_ is what came of it
  std::optional<fetch::Document> present_;
  std::unordered_set<format::Digest> known_;
  std::optional<std::unordered_set<format::Digest>> mountable_;
};

}  // namespace puzzlefs::build
