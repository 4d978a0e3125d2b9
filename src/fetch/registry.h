// One repository of a registry, by the OCI distribution specification 1.1: access tokens, retries,
// redirects, manifests, blobs and uploads.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fetch/blob_source.h"
#include "fetch/credentials.h"
#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "format/image_name.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

struct RegistryOptions {
  Credentials credentials = Credentials();
  /// Talk plain HTTP whatever the host. Loopback hosts get it by themselves when TLS fails.
  bool plain_http = false;
  /// How long an operation is tried anew before it fails; nothing means for ever.
  std::optional<std::chrono::seconds> deadline = std::chrono::seconds(60);
};

struct FetchedManifest {
  Bytes document;
  std::string media_type;
  format::Digest digest;  // of the document, verified where the reference was a digest
};

/// Thread-safe. Completions run on the loop.
class Registry : public BlobSource {
 public:
  enum class Access { kPull, kPush, kDelete };

  /// `client` must outlive the registry and the operations started on it.
  Registry(HttpClient& client, format::RegistryName name, Access access, RegistryOptions options);
  ~Registry() override;

  const format::RegistryName& name() const;

  /// The manifest or index by tag or "sha256:…". NotFoundError if the registry has none.
  void get_manifest(const std::string& reference, Completion<FetchedManifest> done);
  void read(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) override;
  /// For all operations. Attempts under way go on, for as long as the client lets them.
  void close() override;
  std::string description() const override;

  void has_blob(const format::Digest& digest, Completion<bool> done);
  /// Uploads a blob: POST, then one PUT with the whole body.
  void put_blob(const format::Digest& digest, RequestBody body, Completion<Done> done);
  void put_manifest(const std::string& reference, const std::string& media_type, Bytes document,
                    Completion<Done> done);

  /// All tags of the repository, in the registry's order.
  void list_tags(Completion<std::vector<std::string>> done);
  /// Deletes the manifest of that digest, and with it the tags that stand for it.
  void delete_manifest(const format::Digest& digest, Completion<Done> done);

  /// Changes the deadline for operations started from now on.
  void set_deadline(std::optional<std::chrono::seconds> deadline);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace puzzlefs::fetch
