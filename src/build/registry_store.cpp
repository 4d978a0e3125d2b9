#include "build/registry_store.h"

#include <memory>
#include <optional>
#include <utility>

#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

using fetch::Completion;
using fetch::Document;
using fetch::Done;
using fetch::FetchedManifest;
using fetch::RequestBody;
using fetch::then;
using fetch::wait_for;
using format::Descriptor;

Document get_document(fetch::Registry& registry, const std::string& reference) {
  auto fetched = wait_for<FetchedManifest>(
      [&](Completion<FetchedManifest> done) { registry.get_manifest(reference, std::move(done)); });
  auto document = fetch::make_document(std::move(fetched.document), fetched.digest);
  document.descriptor.media_type = std::move(fetched.media_type);
  return document;
}

// What an image is put by. Its digest, where the name has that too, was compared before.
std::string written_reference(const format::RegistryName& name) {
  return name.tag.empty() ? name.reference() : name.tag;
}

// Before anything moves, as a registry would say so only at the end.
void check_digest(const format::RegistryName& name, const format::Digest& digest) {
  if (!name.digest || *name.digest == digest) return;
  throw UsageError("The image's digest is " + digest.to_string() + ", not " +
                   name.digest->to_string() + " as in the name to give it. Nothing was moved.");
}

// What the registry has under the name that is written to; nothing if that tells us nothing.
std::optional<Document> present_document(fetch::Registry& registry) {
  try {
    return get_document(registry, written_reference(registry.name()));
  } catch (const NotFoundError&) {
    return std::nullopt;
  } catch (const CorruptError&) {
    return std::nullopt;  // whatever it is, it will be replaced
  }
}

// Asks for a blob, once more past HTTP caches when what comes is not what it should be.
void download(fetch::Runtime& runtime, fetch::Registry& registry, const Descriptor& blob,
              fetch::Freshness freshness, const Completion<RequestBody>& done) {
  const auto check = [&runtime, &registry, &blob, freshness,
                      done](const std::shared_ptr<const Bytes>& data) {
    if (data->size() == blob.size && format::sha256(*data) == blob.digest) {
      return done(RequestBody(data));
    }
    if (freshness == fetch::Freshness::kBypass) {
      throw CorruptError("What " + registry.description() + " sent for blob " +
                         blob.digest.to_string() + " does not have that digest.");
    }
    download(runtime, registry, blob, fetch::Freshness::kBypass, done);
  };
  registry.read(blob, freshness, then<Bytes>(done, [&runtime, check, done](Bytes data) {
                  auto kept = std::make_shared<const Bytes>(std::move(data));
                  runtime.post([check, kept, done] {
                    try {
                      check(kept);
                    } catch (const std::exception&) {
                      done(std::current_exception());
                    }
                  });
                }));
}

}  // namespace

Document RegistrySource::top() {
  return get_document(registry_, name_.reference());
}

Document RegistrySource::document(const Descriptor& descriptor) {
  auto document = get_document(registry_, descriptor.digest.to_string());
  document.descriptor.platform = descriptor.platform;
  return document;
}

void RegistrySource::get(const Descriptor& blob, Completion<RequestBody> done) {
  download(runtime_, registry_, blob, fetch::Freshness::kAny, done);
}

const std::optional<Document>& RegistryTarget::present() {
  if (!asked_) present_ = present_document(registry_);
  asked_ = true;
  return present_;
}

void RegistryTarget::add_known(const std::unordered_set<format::Digest>& blobs) {
  known_.insert(blobs.begin(), blobs.end());
}

KnownParts RegistryTarget::known(const ImageParts& wanted) {
  check_digest(registry_.name(), wanted.top.descriptor.digest);
  present();
  KnownParts known;
  known.digests = known_;
  if (is_source_) {
    for (const auto& document : wanted.documents) known.digests.insert(document.descriptor.digest);
    for (const auto& blob : wanted.blobs) known.digests.insert(blob.digest);
  }
  if (!present_) return known;
  known.top = present_->descriptor.digest;
  try {
    const auto parts = collect_parts(*present_, registry_.name().to_string(), reader_for(wanted));
    for (const auto& document : parts.documents) known.digests.insert(document.descriptor.digest);
    for (const auto& blob : parts.blobs) known.digests.insert(blob.digest);
  } catch (const UnavailableError&) {
    throw;
  } catch (const Error&) {
    return known;  // an image that cannot be read tells nothing
  }
  return known;
}

// What is wanted as well need not be got.
fetch::DocumentReader RegistryTarget::reader_for(const ImageParts& wanted) {
  return [this, &wanted](const Descriptor& descriptor) {
    for (const auto& document : wanted.documents) {
      if (document.descriptor.digest == descriptor.digest) return document;
    }
    return get_document(registry_, descriptor.digest.to_string());
  };
}

void RegistryTarget::has(const Descriptor& blob, Completion<bool> done) {
  registry_.has_blob(blob.digest, std::move(done));
}

Movement RegistryTarget::expected_movement(const Descriptor& blob) const {
  return mounts(blob) ? Movement::kMounted : Movement::kMoved;
}

bool RegistryTarget::mounts(const Descriptor& blob) const {
  return registry_.mounts() && (!mountable_ || mountable_->contains(blob.digest));
}

void RegistryTarget::put(const Descriptor& blob, const BlobGetter& get, Completion<Movement> done) {
  const auto upload = [this, &blob, get, done](const std::string& begun) {
    get(then<RequestBody>(done, [this, &blob, begun, done](RequestBody body) {
      registry_.put_blob(blob.digest, std::move(body),
                         then<Done>(done, [done](Done) { done(Movement::kMoved); }), begun);
    }));
  };
  if (!mounts(blob)) return upload({});
  registry_.mount_blob(
      blob.digest, then<fetch::MountAnswer>(done, [upload, done](const fetch::MountAnswer& answer) {
        if (answer.mounted) return done(Movement::kMounted);
        upload(answer.begun);
      }));
}

void RegistryTarget::put_document(const Document& document) {
  put_manifest(document.descriptor.digest.to_string(), document);
}

void RegistryTarget::tag(const Document& document) {
  put_manifest(written_reference(registry_.name()), document);
}

void RegistryTarget::put_manifest(const std::string& reference, const Document& document) {
  wait_for<Done>([&](Completion<Done> done) {
    registry_.put_manifest(reference, document.descriptor.media_type, document.bytes,
                           std::move(done));
  });
}

}  // namespace puzzlefs::build
