// The operations of the OCI distribution specification 1.1 on one repository.
#include "fetch/registry.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

#include "fetch/printable.h"
#include "fetch/registry_errors.h"
#include "fetch/registry_session.h"
#include "fetch/retrier.h"
#include "fetch/tag_lister.h"
#include "fetch/then.h"
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

// One attempt at an upload, from its start: what a broken one left at the registry is unknown.
class Upload : public std::enable_shared_from_this<Upload> {
 public:
  Upload(std::shared_ptr<RegistrySession> session, const Patience& patience,
         Completion<Answer> done)
      : session_(std::move(session)), patience_(patience), done_(std::move(done)) {}

  void run(const format::Digest& digest, RequestBody body) {
    RegistryRequest request{.method = "POST", .target = "blobs/uploads/"};
    session_->exchange(std::move(request), patience_,
                       then<Answer>(done_, [self = shared_from_this(), digest,
                                            body = std::move(body)](Answer answer) mutable {
                         // Another answer is for the one who asked to explain.
                         if (answer.response.status != 202) return self->done_(std::move(answer));
                         self->location_ = upload_location(answer);
                         self->send(self->location_.with_parameter("digest", digest.to_string()),
                                    std::move(body));
                       }));
  }

 private:
  // Where the registry wants the blob.
  static Url upload_location(const Answer& answer) {
    const std::string location = answer.response.header("location");
    if (location.empty()) {
      throw Error(EPROTO, "The registry does not say where to upload to: it sent no Location.");
    }
    Url url = answer.url.resolve(location);
    if (answer.url.is_https() && !url.is_https()) {
      throw Error(EPROTO, "The registry wants an upload sent without encryption to " +
                              printable_url(url.text()) + ": refused.");
    }
    return url;
  }

  void send(const Url& target, RequestBody body) {
    RegistryRequest request{.method = "PUT",
                            .target = target.text(),
                            .headers = {"Content-Type: application/octet-stream"},
                            .body = std::move(body)};
    session_->exchange(
        std::move(request), patience_,
        [self = shared_from_this()](Outcome<Answer> outcome) { self->finish(std::move(outcome)); });
  }

  void finish(Outcome<Answer> outcome) {
    if (outcome.ok() && outcome.value().response.status == 201) return done_(std::move(outcome));
    // The registry need not keep what will not be finished. Whether it agrees does not matter.
    session_->exchange({.method = "DELETE", .target = location_.text()}, patience_,
                       [](const Outcome<Answer>&) {});
    if (outcome.ok() && outcome.value().response.status == 404) {
      outcome = std::make_exception_ptr(TransportError(
          TransportError::Cause::kOther, "upload a blob", "it has lost an upload that was begun"));
    }
    done_(std::move(outcome));
  }

  const std::shared_ptr<RegistrySession> session_;
  const Patience patience_;
  const Completion<Answer> done_;
  Url location_;
};

}  // namespace

class Registry::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(HttpClient& client, format::RegistryName name, Access access, RegistryOptions options)
      : loop_(client.runtime().loop()),
        name_(std::move(name)),
        retrier_(std::make_shared<Retrier>(loop_, name_.host)),
        session_(std::make_shared<RegistrySession>(client, name_, std::move(options.credentials),
                                                   scope_for(name_, access), options.plain_http)) {
    set_deadline(options.deadline);
  }

  const format::RegistryName& name() const { return name_; }
  /// "registry.example/debian".
  std::string repository() const { return name_.host + "/" + name_.repository; }
  const std::shared_ptr<RegistrySession>& session() const { return session_; }

  void set_deadline(std::optional<std::chrono::seconds> deadline) {
    deadline_ = deadline ? deadline->count() : kNoDeadline;
  }

  /// Runs an attempt until it succeeds or the deadline has passed.
  void run(Attempt attempt, Completion<Answer> done) {
    std::optional<Retrier::Clock::time_point> deadline;
    if (const auto seconds = deadline_.load(); seconds != kNoDeadline) {
      deadline = Retrier::Clock::now() + std::chrono::seconds(seconds);
    }
    boost::asio::post(loop_, [retrier = retrier_, attempt = std::move(attempt), deadline,
                              done = std::move(done)]() mutable {
      retrier->run(std::move(attempt), deadline, std::move(done));
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

  void close() {
    if (loop_.stopped()) return retrier_->close();
    boost::asio::post(loop_, [retrier = retrier_] { retrier->close(); });
  }

 private:
  static constexpr std::chrono::seconds::rep kNoDeadline = -1;

  boost::asio::io_context& loop_;
  const format::RegistryName name_;
  std::atomic<std::chrono::seconds::rep> deadline_;
  const std::shared_ptr<Retrier> retrier_;
  const std::shared_ptr<RegistrySession> session_;
};

Registry::Registry(HttpClient& client, format::RegistryName name, Access access,
                   RegistryOptions options)
    : impl_(std::make_shared<Impl>(client, std::move(name), access, std::move(options))) {}

Registry::~Registry() {
  impl_->close();
}

void Registry::close() {
  impl_->close();
}

const format::RegistryName& Registry::name() const {
  return impl_->name();
}

std::string Registry::description() const {
  return impl_->repository();
}

void Registry::set_deadline(std::optional<std::chrono::seconds> deadline) {
  impl_->set_deadline(deadline);
}

void Registry::get_manifest(const std::string& reference, Completion<FetchedManifest> done) {
  RegistryRequest request{.target = "manifests/" + reference,
                          .headers = {accepted_manifests()},
                          .max_body_size = format::kMaxManifestSize};
  impl_->request(
      std::move(request), then<Answer>(done, [impl = impl_, reference, done](Answer answer) {
        const bool by_digest = reference.starts_with("sha256:");
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
  RegistryRequest request{.target = "blobs/" + blob.digest.to_string(), .max_body_size = blob.size};
  if (freshness == Freshness::kBypass) request.headers.emplace_back("Cache-Control: no-cache");
  // A body that is complete and of the wrong size is no outage: the reader takes it for wrong
  // bytes.
  impl_->request(std::move(request),
                 then<Answer>(done, [impl = impl_, digest = blob.digest, done](Answer answer) {
                   if (answer.response.status != 200) {
                     throw_refusal(impl->name(),
                                   "get blob " + digest.to_string() + " from " + impl->repository(),
                                   impl->repository() + " has no blob " + digest.to_string() + ".",
                                   answer.response);
                   }
                   done(std::move(answer.response.body));
                 }));
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

void Registry::delete_manifest(const format::Digest& digest, Completion<Done> done) {
  RegistryRequest request{.method = "DELETE", .target = "manifests/" + digest.to_string()};
  impl_->request(
      std::move(request), then<Answer>(done, [impl = impl_, digest, done](const Answer& answer) {
        const int status = answer.response.status;
        const auto what = digest.to_string() + " from " + impl->repository();
        if (status == 405) {
          throw Error(EPERM, "Registry " + impl->name().host +
                                 " lets nobody delete: " + explain(answer.response) + ".");
        }
        if (status != 202 && status != 200) {
          throw_refusal(impl->name(), "delete the manifest " + what,
                        impl->repository() + " has no manifest " + digest.to_string() + ".",
                        answer.response);
        }
        done(Done{});
      }));
}

void Registry::has_blob(const format::Digest& digest, Completion<bool> done) {
  RegistryRequest request{.method = "HEAD", .target = "blobs/" + digest.to_string()};
  impl_->request(std::move(request),
                 then<Answer>(done, [impl = impl_, digest, done](const Answer& answer) {
                   const int status = answer.response.status;
                   if (status != 200 && status != 404) {
                     throw_refusal(impl->name(),
                                   "ask " + impl->repository() + " for blob " + digest.to_string(),
                                   {}, answer.response);
                   }
                   done(status == 200);
                 }));
}

void Registry::put_blob(const format::Digest& digest, RequestBody body, Completion<Done> done) {
  const auto attempt = [session = impl_->session(), digest, body = std::move(body)](
                           const Patience& patience, Completion<Answer> answered) {
    std::make_shared<Upload>(session, patience, std::move(answered))->run(digest, body);
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
