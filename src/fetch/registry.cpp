// The operations of the OCI distribution specification 1.1 on one repository.
#include "fetch/registry.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

#include "fetch/blob_download.h"
#include "fetch/blob_mounter.h"
#include "fetch/blob_range.h"
#include "fetch/mirrors.h"
#include "fetch/printable.h"
#include "fetch/referrers.h"
#include "fetch/registry_errors.h"
#include "fetch/registry_session.h"
#include "fetch/retrier.h"
#include "fetch/tag_lister.h"
#include "fetch/then.h"
#include "fetch/upload.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

std::string scope_for(const format::RegistryName& name, Registry::Access access) {
  const auto actions = [&] {
    switch (access) {
      case Registry::Access::kPush:
        return "pull,push";
      case Registry::Access::kDelete:
        return "pull,delete";
      case Registry::Access::kPull:
        break;
    }
    return "pull";
  };
  return "repository:" + name.repository + ":" + actions();
}

std::string accepted_manifests() {
  std::string result = "Accept: ";
  for (const auto type : {format::kManifestType, format::kIndexType, format::kDockerManifestType,
                          format::kDockerManifestListType}) {
    if (result.back() != ' ') result += ", ";
    result += type;
  }
  return result;
}

// A Content-Type without its parameters.
std::string media_type(const HttpResponse& response) {
  std::string type = response.header("content-type");
  type.resize(std::min(type.find_first_of("; \t"), type.size()));
  return type;
}

FetchedManifest check_manifest(HttpResponse response, const std::string& reference,
                               const std::string& name) {
  FetchedManifest manifest{std::move(response.body), {}, {}};
  manifest.digest = format::sha256(manifest.document);
  if (reference.starts_with("sha256:") && manifest.digest != format::Digest::parse(reference)) {
    throw CorruptError("The registry sent another document for manifest " + name +
                       ": its digest is " + manifest.digest.to_string() + ".");
  }
  manifest.media_type = format::media_type_of(manifest.document, "manifest " + name);
  const std::string announced = media_type(response);
  if (manifest.media_type.empty()) {
    throw CorruptError("What the registry sent for " + name +
                       " is neither a manifest nor an index.");
  }
  if (!announced.empty() && announced != manifest.media_type) {
    throw CorruptError("The registry sent manifest " + name + " as " + printable(announced) +
                       ", but it calls itself " + printable(manifest.media_type) + ".");
  }
  return manifest;
}

}  // namespace

class Registry::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(HttpClient& client, format::RegistryName name, Access access, const RegistryOptions& options)
      : loop_(client.runtime().loop()),
        name_(std::move(name)),
        retrier_(std::make_shared<Retrier>(loop_, name_.host)),
        mounter_(make_mounter(client, name_, access, options, retrier_)) {
    const auto connect = [&](const PullSource& source, bool plain_http) {
      return std::make_shared<RegistrySession>(client, source.name, options.credentials,
                                               scope_for(source.name, access),
                                               security_for(source.insecure, plain_http));
    };
    if (access == Access::kPull) {
      const auto sources = options.registries.pull_sources(name_);
      std::vector<Mirrors::Mirror> mirrors;
      for (const auto& mirror : sources.mirrors) {
        // What the user says of the registry does not go for others.
        mirrors.push_back({connect(mirror, false), mirror.use});
      }
      session_ = connect(sources.registry, options.plain_http);
      mirrors_ = std::make_shared<Mirrors>(std::move(mirrors), session_);
    } else {
      session_ = connect({name_, options.registries.is_insecure(name_)}, options.plain_http);
      mirrors_ = std::make_shared<Mirrors>(std::vector<Mirrors::Mirror>(), session_);
    }
    set_deadline(options.deadline);
  }
  /// As Registry::trying_once().
  Impl(const Impl& other, std::chrono::seconds patience)
      : loop_(other.loop_),
        name_(other.name_),
        deadline_(patience.count()),
        tries_(Retrier::Tries::kOnce),
        retrier_(std::make_shared<Retrier>(loop_, name_.host, tries_)),
        session_(other.session_),
        mirrors_(other.mirrors_) {}

  boost::asio::io_context& loop() { return loop_; }
  const format::RegistryName& name() const { return name_; }
  /// "registry.example/debian".
  std::string repository() const { return name_.host + "/" + name_.repository; }
  const std::shared_ptr<RegistrySession>& session() const { return session_; }

  void set_deadline(std::optional<std::chrono::seconds> deadline) {
    deadline_ = deadline ? deadline->count() : kNoDeadline;
  }

  /// Runs an attempt until it succeeds or the deadline has passed.
  void run(Attempt attempt, Completion<Answer> done) {
    std::optional<std::chrono::seconds> patience;
    if (const auto seconds = deadline_.load(); seconds != kNoDeadline) {
      patience = std::chrono::seconds(seconds);
    }
    boost::asio::post(loop_, [retrier = retrier_, attempt = std::move(attempt), patience,
                              done = std::move(done)]() mutable {
      retrier->run(std::move(attempt), patience, std::move(done));
    });
  }

  /// Runs a single request.
  void request(RegistryRequest request, Completion<Answer> done) {
    run(
        [session = session_, request = std::move(request)](const Patience& patience,
                                                           Completion<Answer> answered) {
          session->exchange(request, patience, std::move(answered));
        },
        std::move(done));
  }

  /// Reads from the mirrors or the registry.
  void read(Mirrors::Request request, Mirrors::Wanted wanted, Completion<Answer> done) {
    wanted.judges = tries_ == Retrier::Tries::kUntilDeadline;
    run(
        [mirrors = mirrors_, request = std::move(request), wanted = std::move(wanted)](
            const Patience& patience, Completion<Answer> answered) {
          mirrors->attempt(request, wanted, patience, std::move(answered));
        },
        std::move(done));
  }

  std::uint64_t setbacks() const { return retrier_->setbacks(); }

  /// Throws unless the blob was served.
  void check_blob(const format::Digest& digest, const HttpResponse& response) const {
    if (response.status == 200) return;
    throw_refusal(name_, "get blob " + digest.to_string() + " from " + repository(),
                  repository() + " has no blob " + digest.to_string() + ".", response);
  }

  /// Whether a storage host has the blob that takes no HEAD: some locations are signed for GET
  /// only.
  void look_at_storage(const format::Digest& digest, Completion<bool> done) {
    RegistryRequest request{.target = "blobs/" + digest.to_string(),
                            .headers = {"Range: bytes=0-0"},
                            .max_body_size = 1};
    this->request(std::move(request), [self = shared_from_this(), digest,
                                       done = std::move(done)](Outcome<Answer> outcome) {
      try {
        const auto& answer = outcome.value();
        const int status = answer.response.status;
        if (status != 200 && status != 206 && status != 404) {
          throw_refusal(self->name_,
                        "ask " + self->repository() + " for blob " + digest.to_string(), {},
                        answer.response);
        }
        done(status != 404);
      } catch (const CorruptError&) {
        done(true);  // more of it came than was asked for
      } catch (const std::exception&) {
        done(std::current_exception());
      }
    });
  }

  /// Null where there is no repository to mount from.
  const std::shared_ptr<BlobMounter>& mounter() const { return mounter_; }

  void close() {
    if (loop_.stopped()) return retrier_->close();
    boost::asio::post(loop_, [retrier = retrier_] { retrier->close(); });
  }

 private:
  static constexpr std::chrono::seconds::rep kNoDeadline = -1;

  static std::shared_ptr<BlobMounter> make_mounter(HttpClient& client,
                                                   const format::RegistryName& name, Access access,
                                                   const RegistryOptions& options,
                                                   const std::shared_ptr<Retrier>& retrier) {
    if (options.mount_from.empty()) return nullptr;
    const auto scopes = scope_for(name, access) + " repository:" + options.mount_from + ":pull";
    return std::make_shared<BlobMounter>(
        client.runtime().loop(),
        std::make_shared<RegistrySession>(
            client, name, options.credentials, scopes,
            security_for(options.registries.is_insecure(name), options.plain_http)),
        retrier, options.mount_from);
  }

  boost::asio::io_context& loop_;
  const format::RegistryName name_;
  std::atomic<std::chrono::seconds::rep> deadline_;
  const Retrier::Tries tries_ = Retrier::Tries::kUntilDeadline;
  const std::shared_ptr<Retrier> retrier_;
  const std::shared_ptr<BlobMounter> mounter_;
  std::shared_ptr<RegistrySession> session_;
  std::shared_ptr<Mirrors> mirrors_;
};

Registry::Registry(HttpClient& client, format::RegistryName name, Access access,
                   const RegistryOptions& options)
    : impl_(std::make_shared<Impl>(client, std::move(name), access, options)) {}

Registry::Registry(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::unique_ptr<Registry> Registry::trying_once(std::chrono::seconds patience) const {
  return std::unique_ptr<Registry>(new Registry(std::make_shared<Impl>(*impl_, patience)));
}

Registry::~Registry() {
  impl_->close();
}

void Registry::close() {
  impl_->close();
}

const format::RegistryName& Registry::name() const {
  return impl_->name();
}

std::uint64_t Registry::setbacks() const {
  return impl_->setbacks();
}

std::string Registry::description() const {
  return impl_->repository();
}

void Registry::set_deadline(std::optional<std::chrono::seconds> deadline) {
  impl_->set_deadline(deadline);
}

void Registry::get_manifest(const std::string& reference, Completion<FetchedManifest> done) {
  const bool by_digest = reference.starts_with("sha256:");
  RegistryRequest request{.target = "manifests/" + reference,
                          .headers = {accepted_manifests()},
                          .max_body_size = format::kMaxManifestSize};
  impl_->read(
      [request = std::move(request)](const auto& session, const auto& patience, auto answered) {
        session->exchange(request, patience, std::move(answered));
      },
      {.what = "manifests/" + reference,
       .by = by_digest ? Mirrors::By::kDigest : Mirrors::By::kTag},
      then<Answer>(done, [impl = impl_, reference, by_digest, done](Answer answer) {
        const std::string name = impl->repository() + (by_digest ? "@" : ":") + reference;
        if (answer.response.status != 200) {
          throw_refusal(impl->name(), "get the manifest of " + name,
                        impl->repository() + (by_digest ? " has no manifest " : " has no tag ") +
                            reference + ".",
                        answer.response);
        }
        done(check_manifest(std::move(answer.response), reference, name));
      }));
}

void Registry::read(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) {
  const auto download = std::make_shared<BlobDownload>(blob, freshness);
  // A body that is complete and of the wrong size is no outage: the reader takes it for wrong
  // bytes.
  impl_->read(
      [download](const auto& session, const auto& patience, auto answered) {
        download->attempt(session, patience, std::move(answered));
      },
      {.what = "blobs/" + blob.digest.to_string(), .freshness = freshness},
      then<Answer>(done, [impl = impl_, digest = blob.digest, done](Answer answer) {
        impl->check_blob(digest, answer.response);
        done(std::move(answer.response.body));
      }));
}

std::shared_ptr<RangeRead> Registry::read_range(const format::Descriptor& blob, ByteRange range,
                                                Freshness freshness, RangeReceiver on_bytes,
                                                Completion<Done> done) {
  const auto reading = std::make_shared<BlobRange>(
      impl_->loop(), "read blob " + blob.digest.to_string() + " of " + impl_->repository(),
      std::move(on_bytes), std::move(done));
  boost::asio::post(impl_->loop(), [impl = impl_, reading, blob, range, freshness] {
    const Completion<Done> finish = [reading](Outcome<Done> outcome) {
      reading->finish(std::move(outcome));
    };
    try {
      check_range(blob, range);
    } catch (const Error&) {
      return finish(std::current_exception());
    }
    if (range.size == 0) return finish(Done{});
    const auto download = std::make_shared<BlobDownload>(
        blob, range, freshness,
        [reading](std::uint64_t offset, ByteView bytes) { reading->take(offset, bytes); },
        reading->control());
    impl->read(
        [download](const auto& session, const auto& patience, auto answered) {
          download->attempt(session, patience, std::move(answered));
        },
        {.what = "blobs/" + blob.digest.to_string(), .freshness = freshness},
        then<Answer>(finish, [impl, digest = blob.digest, finish](const Answer& answer) {
          impl->check_blob(digest, answer.response);
          finish(Done{});
        }));
  });
  return reading;
}

void Registry::list_tags(Completion<std::vector<std::string>> done) {
  const auto lister = std::make_shared<TagLister>(
      name(),
      [impl = impl_](RegistryRequest request, Completion<Answer> answered) {
        impl->request(std::move(request), std::move(answered));
      },
      std::move(done));
  lister->run();
}

void Registry::referrers(const format::Digest& subject, const std::string& artifact_type,
                         Completion<std::vector<format::Descriptor>> done) {
  const auto read = [impl = impl_](RegistryRequest request, Completion<Answer> answered) {
    // Like a tag, the list can be another one tomorrow.
    const Mirrors::Wanted wanted{.what = request.target, .by = Mirrors::By::kTag};
    impl->read(
        [request = std::move(request)](const auto& session, const auto& patience, auto next) {
          session->exchange(request, patience, std::move(next));
        },
        wanted, std::move(answered));
  };
  std::make_shared<Referrers>(name(), read)->list(subject, artifact_type, std::move(done));
}

void Registry::attach(Bytes document, Completion<Done> done) {
  const auto send = [impl = impl_](RegistryRequest request, Completion<Answer> answered) {
    impl->request(std::move(request), std::move(answered));
  };
  std::make_shared<Referrers>(name(), send)->attach(std::move(document), std::move(done));
}

void Registry::delete_manifest(const format::Digest& digest, Completion<Done> done) {
  const auto lost = std::make_shared<bool>(false);  // an answer: it may have been deleted
  const auto attempt = [session = impl_->session(), digest, lost](const Patience& patience,
                                                                  Completion<Answer> answered) {
    RegistryRequest request{.method = "DELETE", .target = "manifests/" + digest.to_string()};
    session->exchange(std::move(request), patience,
                      [lost, answered = std::move(answered)](Outcome<Answer> outcome) {
                        *lost = *lost || !outcome.ok();
                        answered(std::move(outcome));
                      });
  };
  impl_->run(attempt, then<Answer>(done, [impl = impl_, digest, lost, done](const Answer& answer) {
               const int status = answer.response.status;
               const auto what = digest.to_string() + " from " + impl->repository();
               if (status == 405) {
                 throw Error(EPERM, "Registry " + impl->name().host +
                                        " lets nobody delete: " + explain(answer.response) + ".");
               }
               if (status != 202 && status != 200 && !(status == 404 && *lost)) {
                 throw_refusal(impl->name(), "delete the manifest " + what,
                               impl->repository() + " has no manifest " + digest.to_string() + ".",
                               answer.response);
               }
               done(Done{});
             }));
}

void Registry::has_blob(const format::Digest& digest, Completion<bool> done) {
  RegistryRequest request{.method = "HEAD", .target = "blobs/" + digest.to_string()};
  impl_->request(
      std::move(request), then<Answer>(done, [impl = impl_, digest, done](const Answer& answer) {
        const int status = answer.response.status;
        if (status == 200 || status == 404) return done(status == 200);
        if (!answer.url.same_origin(impl->session()->base())) {
          return impl->look_at_storage(digest, done);
        }
        throw_refusal(impl->name(), "ask " + impl->repository() + " for blob " + digest.to_string(),
                      {}, answer.response);
      }));
}

bool Registry::mounts() const {
  return impl_->mounter() != nullptr;
}

void Registry::mount_blob(const format::Digest& digest, Completion<MountAnswer> done) {
  if (!mounts()) return done(MountAnswer());
  impl_->mounter()->mount(digest, std::move(done));
}

void Registry::put_blob(const format::Digest& digest, RequestBody body, Completion<Done> done,
                        const std::string& begun) {
  // The first attempt goes on with what was begun.
  const auto attempt = [session = impl_->session(), digest, body = std::move(body),
                        url = std::make_shared<std::string>(begun)](const Patience& patience,
                                                                    Completion<Answer> answered) {
    upload(session, digest, body, std::exchange(*url, {}), patience, std::move(answered));
  };
  impl_->run(attempt, then<Answer>(done, [impl = impl_, digest, done](const Answer& answer) {
               if (answer.response.status != 201) {
                 throw_refusal(impl->name(),
                               "upload blob " + digest.to_string() + " to " + impl->repository(),
                               "Registry " + impl->name().host + " takes no uploads to " +
                                   impl->name().repository + ".",
                               answer.response);
               }
               done(Done{});
             }));
}

void Registry::put_manifest(const std::string& reference, const std::string& media_type,
                            Bytes document, Completion<Done> done) {
  RegistryRequest request{.method = "PUT",
                          .target = "manifests/" + reference,
                          .headers = {"Content-Type: " + media_type},
                          .body = std::make_shared<const Bytes>(std::move(document))};
  impl_->request(std::move(request),
                 then<Answer>(done, [impl = impl_, reference, done](const Answer& answer) {
                   if (answer.response.status != 201) {
                     throw_refusal(impl->name(),
                                   "push the manifest " + reference + " to " + impl->repository(),
                                   "Registry " + impl->name().host + " takes no manifests for " +
                                       impl->name().repository + ".",
                                   answer.response);
                   }
                   done(Done{});
                 }));
}

}  // namespace puzzlefs::fetch
