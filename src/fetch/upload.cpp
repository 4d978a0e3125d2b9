// One attempt at an upload, and what is left of it when it fails.
#include "fetch/upload.h"

#include <cerrno>
#include <string>
#include <utility>

#include "fetch/printable.h"
#include "fetch/registry_errors.h"
#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

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
                         self->go_on(upload_location(answer), digest, std::move(body));
                       }));
  }

  // With an upload that the registry has begun.
  void go_on(Url location, const format::Digest& digest, RequestBody body) {
    location_ = std::move(location);
    digest_ = digest;
    send(location_.with_parameter("digest", digest.to_string()), std::move(body));
  }

 private:
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
    if (outcome.ok() && outcome.value().response.status == 404) return look_for_blob();
    abort();
    done_(std::move(outcome));
  }

  // The registry knows no such upload. It may have finished it, with an answer that was lost on its
  // way, after which libcurl has sent the request again.
  void look_for_blob() {
    session_->exchange({.method = "HEAD", .target = "blobs/" + digest_.to_string()}, patience_,
                       then<Answer>(done_, [self = shared_from_this()](Answer answer) {
                         if (answer.response.status != 200) {
                           throw TransportError(TransportError::Cause::kOther, "upload a blob",
                                                "it has lost an upload that was begun");
                         }
                         answer.response.status = 201;
                         self->done_(std::move(answer));
                       }));
  }

  void abort() {
    // The registry need not keep what will not be finished. Whether it agrees does not matter.
    session_->exchange({.method = "DELETE", .target = location_.text()}, patience_,
                       [](const Outcome<Answer>&) {});
  }

  const std::shared_ptr<RegistrySession> session_;
  const Patience patience_;
  const Completion<Answer> done_;
  Url location_;
  format::Digest digest_;
};

}  // namespace

void upload(const std::shared_ptr<RegistrySession>& session, const format::Digest& digest,
            RequestBody body, const std::string& begun, const Patience& patience,
            Completion<Answer> done) {
  const auto attempt = std::make_shared<Upload>(session, patience, std::move(done));
  if (begun.empty()) return attempt->run(digest, std::move(body));
  attempt->go_on(Url::parse(begun), digest, std::move(body));
}

void mount_blob(const std::shared_ptr<RegistrySession>& session, const format::Digest& digest,
                const std::string& from, const Patience& patience, Completion<Answer> done) {
  RegistryRequest request{
      .method = "POST",
      .target = "blobs/uploads/?mount=" + digest.to_string() + "&from=" + percent_encode(from)};
  session->exchange(std::move(request), patience, std::move(done));
}

Url upload_location(const Answer& answer) {
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

}  // namespace puzzlefs::fetch
