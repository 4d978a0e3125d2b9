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
#include "fetch/registries_conf.h"
#include "format/image_name.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

struct RegistryOptions {
  Credentials credentials = Credentials();
  /// Mirrors and other places of what is read.
  RegistriesConf registries = RegistriesConf();
  /// Talk plain HTTP whatever the host. Loopback hosts get it by themselves when TLS fails.
  bool plain_http = false;
  /// How long an operation is tried anew before it fails; nothing means for ever.
  std::optional<std::chrono::seconds> deadline = std::chrono::seconds(60);
  /// Another repository of the same registry, whose blobs mount_blob() takes; empty for none.
  std::string mount_from;
};

struct FetchedManifest {
  Bytes document;
  std::string media_type;
  format::Digest digest;  // of the document, verified where the reference was a digest
};

/// What came of asking for a blob of another repository.
struct MountAnswer {
  bool mounted = false;
  std::string begun = {};  // if not empty: the URL of the upload that the registry began instead
};

/// Thread-safe. Completions run on the loop.
class Registry : public BlobSource {
 public:
  enum class Access { kPull, kPush, kDelete };

  /// `client` must outlive the registry and the operations started on it. Throws Error if
  /// registries.conf blocks the registry.
  Registry(HttpClient& client, format::RegistryName name, Access access,
           const RegistryOptions& options);
  ~Registry() override;

  const format::RegistryName& name() const;

  /// The manifest or index by tag or "sha256:…". NotFoundError if the registry has none.
  void get_manifest(const std::string& reference, Completion<FetchedManifest> done);
  void read(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) override;
  std::shared_ptr<RangeRead> read_range(const format::Descriptor& blob, ByteRange range,
                                        Freshness freshness, RangeReceiver on_bytes,
                                        Completion<Done> done) override;
  /// For all operations. Attempts under way go on, for as long as the client lets them.
  void close() override;
  std::uint64_t setbacks() const override;
  std::string description() const override;

  void has_blob(const format::Digest& digest, Completion<bool> done);
  /// Uploads a blob: POST, then one PUT with the whole body; without the POST where `begun` is what
  /// mount_blob() gave.
  void put_blob(const format::Digest& digest, RequestBody body, Completion<Done> done,
                const std::string& begun = {});
  /// Asks the registry to take a blob from options.mount_from. Never fails: what is not mounted is
  /// to be uploaded. A registry that refuses is not asked again.
  void mount_blob(const format::Digest& digest, Completion<MountAnswer> done);
  /// Whether there is a repository to mount from.
  bool mounts() const;
  void put_manifest(const std::string& reference, const std::string& media_type, Bytes document,
                    Completion<Done> done);

  /// All tags of the repository, in the registry's order.
  void list_tags(Completion<std::vector<std::string>> done);
  /// The manifests that have `subject` as theirs, those of `artifact_type` only unless that is
  /// empty: by the registry's own list, or by the index of the tag "sha256-…" where it keeps none.
  /// None is no error, nor is a subject that is not there.
  void referrers(const format::Digest& subject, const std::string& artifact_type,
                 Completion<std::vector<format::Descriptor>> done);
  /// Stores a manifest that has a subject, by its digest, so that referrers() finds it. Its blobs
  /// must be there. Where the registry keeps no list the tag's index is read and written anew:
  /// what somebody else attaches in the same moment can be lost from it.
  void attach(Bytes document, Completion<Done> done);
  /// Deletes the manifest of that digest, and with it the tags that stand for it.
  void delete_manifest(const format::Digest& digest, Completion<Done> done);

  /// Changes the deadline for operations started from now on.
  void set_deadline(std::optional<std::chrono::seconds> deadline);

  /// The same repository by the same connections, for what its user can do without: each request is
  /// tried once, and given up when nothing comes for that long. What it fails with is held against
  /// nobody: no server is passed over or left alone for it, nothing is logged.
  std::unique_ptr<Registry> trying_once(std::chrono::seconds patience) const;

 private:
  class Impl;
  explicit Registry(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace puzzlefs::fetch
