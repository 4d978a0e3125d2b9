// A layout as one end of a transfer.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "build/image_store.h"
#include "fetch/layout.h"
#include "fetch/runtime.h"
#include "format/image_name.h"

namespace puzzlefs::build {

/// Gives blobs as files, each hashed before.
class LayoutSource : public ImageSource {
 public:
  /// Throws NotFoundError without a layout there.
  LayoutSource(fetch::Runtime& runtime, const format::LayoutName& name);

  fetch::Document top() override;
  fetch::Document document(const format::Descriptor& descriptor) override;
  void get(const format::Descriptor& blob, fetch::Completion<fetch::RequestBody> done) override;
  bool holds_in_memory() const override { return false; }
  std::string name() const override { return name_.to_string(); }

 private:
  fetch::Runtime& runtime_;
  const format::LayoutName name_;
  const fetch::Layout layout_;
};

/// The layout is made when something is put. A blob that is there is hashed, and replaced if it is
/// broken; a file that is right is left alone, as it may have fs-verity.
class LayoutTarget : public ImageTarget {
 public:
  /// `name` has a tag.
  LayoutTarget(fetch::Runtime& runtime, format::LayoutName name);

  KnownParts known(const ImageParts&) override { return {}; }
  void has(const format::Descriptor& blob, fetch::Completion<bool> done) override;
  void begin() override;
  void put(const format::Descriptor& blob, const BlobGetter& get,
           fetch::Completion<Movement> done) override;
  void put_document(const fetch::Document& document) override;
  void tag(const fetch::Document& document) override;

 private:
  fetch::Runtime& runtime_;
  const format::LayoutName name_;
  std::optional<fetch::Layout> layout_;  // set before any call that runs on a worker
};

}  // namespace puzzlefs::build
