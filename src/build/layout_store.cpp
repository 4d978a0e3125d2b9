#include "build/layout_store.h"

#include <cerrno>
#include <memory>
#include <utility>
#include <variant>

#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

using fetch::Completion;
using fetch::Document;
using fetch::then;
using format::Descriptor;

bool holds(const fetch::Layout& layout, const Descriptor& blob) {
  if (!layout.has_blob(blob.digest, blob.size)) return false;
  const auto file = layout.map_blob(blob.digest);
  return file.bytes().size() == blob.size && format::sha256(file.bytes()) == blob.digest;
}

// Throws CorruptError if the file does not hold the blob as described; NotFoundError without one.
void verify_file(const fetch::Layout& layout, const Descriptor& blob) {
  if (holds(layout, blob)) return;
  const auto file = layout.map_blob(blob.digest);
  if (format::sha256(file.bytes()) == blob.digest) {
    throw CorruptError("The image says that its blob " + blob.digest.to_string() + " has " +
                       std::to_string(blob.size) + " bytes; it has " +
                       std::to_string(file.bytes().size()) +
                       ". So builds the Rust puzzlefs with --compression, and no client takes it "
                       "from a registry. Build the image with this program.");
  }
  throw CorruptError("The file " + layout.blob_path(blob.digest).string() +
                     " does not hold the blob that its name says. Delete it and build or pull the "
                     "image again.");
}

void write(const fetch::Layout& layout, const Descriptor& blob, const fetch::RequestBody& body) {
  if (const auto* bytes = std::get_if<std::shared_ptr<const Bytes>>(&body)) {
    return layout.replace_blob(blob.digest, **bytes);
  }
  const fetch::MappedFile file(std::get<fetch::FileBody>(body).path);
  layout.replace_blob(blob.digest, file.bytes());
}

// A file that is right is left alone.
void write_document(const fetch::Layout& layout, const Document& document) {
  if (holds(layout, document.descriptor)) return;
  layout.replace_blob(document.descriptor.digest, document.bytes);
}

std::optional<fetch::Layout> open_if_there(const std::filesystem::path& path) {
  try {
    return fetch::Layout::open(path);
  } catch (const NotFoundError&) {
    return std::nullopt;
  }
}

}  // namespace

LayoutSource::LayoutSource(fetch::Runtime& runtime, const format::LayoutName& name)
    : runtime_(runtime), name_(name), layout_(fetch::Layout::open(name.path)) {}

Document LayoutSource::top() {
  return document(layout_.resolve(name_.tag));
}

// As it stands in the layout: a transfer must not change its digest.
Document LayoutSource::document(const Descriptor& descriptor) {
  if (descriptor.size > format::kMaxManifestSize) {
    throw Error(EFBIG, "The manifest " + descriptor.digest.to_string() + " of " +
                           layout_.description() + " has " + std::to_string(descriptor.size) +
                           " bytes, and registries accept no more than " +
                           std::to_string(format::kMaxManifestSize) +
                           ": the image has too many chunks to be moved as it is. Packed it has "
                           "few blobs: \"puzzlefs push\" and \"puzzlefs convert\" do that.");
  }
  verify_file(layout_, descriptor);
  const auto file = layout_.map_blob(descriptor.digest);
  return {{file.bytes().begin(), file.bytes().end()}, descriptor};
}

void LayoutSource::get(const Descriptor& blob, Completion<fetch::RequestBody> done) {
  runtime_.post([this, &blob, done = std::move(done)] {
    fetch::FileBody file;
    try {
      verify_file(layout_, blob);
      file = {layout_.blob_path(blob.digest).string(), blob.size};
    } catch (const std::exception&) {
      return done(std::current_exception());
    }
    done(fetch::RequestBody(std::move(file)));
  });
}

LayoutTarget::LayoutTarget(fetch::Runtime& runtime, format::LayoutName name)
    : runtime_(runtime), name_(std::move(name)), layout_(open_if_there(name_.path)) {}

void LayoutTarget::begin() {
  layout_ = fetch::Layout::create(name_.path);
}

void LayoutTarget::has(const Descriptor& blob, Completion<bool> done) {
  if (!layout_) return done(false);
  runtime_.post([this, &blob, done = std::move(done)] {
    fetch::Outcome<bool> outcome{false};
    try {
      outcome = holds(*layout_, blob);
    } catch (const std::exception&) {
      outcome = std::current_exception();
    }
    done(std::move(outcome));
  });
}

void LayoutTarget::put(const Descriptor& blob, const BlobGetter& get, Completion<Movement> done) {
  get(then<fetch::RequestBody>(done, [this, &blob, done](const fetch::RequestBody& body) {
    write(*layout_, blob, body);
    done(Movement::kMoved);
  }));
}

void LayoutTarget::put_document(const Document& document) {
  write_document(*layout_, document);
}

void LayoutTarget::tag(const Document& document) {
  write_document(*layout_, document);
  layout_->sync();  // before the tag, which must never name what a crash has lost
  layout_->set_tag(name_.tag, document.descriptor);
}

}  // namespace puzzlefs::build
