#include "fetch/blob_mounter.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <chrono>
#include <exception>
#include <utility>

#include "fetch/registry_errors.h"
#include "fetch/upload.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

/// There is another way to go on.
constexpr std::chrono::seconds kPatience{20};

}  // namespace

BlobMounter::BlobMounter(boost::asio::io_context& loop, std::shared_ptr<RegistrySession> session,
                         std::shared_ptr<Retrier> retrier, std::string from)
    : loop_(loop),
      session_(std::move(session)),
      retrier_(std::move(retrier)),
      from_(std::move(from)) {}

void BlobMounter::mount(const format::Digest& digest, Completion<MountAnswer> done) {
  boost::asio::post(loop_, [self = shared_from_this(), digest, done = std::move(done)] {
    if (self->refused_) return done(MountAnswer());
    const auto attempt = [session = self->session_, digest, from = self->from_](
                             const Patience& patience, Completion<Answer> answered) {
      mount_blob(session, digest, from, patience, std::move(answered));
    };
    self->retrier_->run(attempt, kPatience, [self, done](Outcome<Answer> outcome) {
      MountAnswer answer;
      try {
        answer = self->accept(outcome.value());
      } catch (const std::exception&) {
        self->note(std::current_exception());
      }
      done(answer);
    });
  });
}

MountAnswer BlobMounter::accept(const Answer& answer) {
  const int status = answer.response.status;
  if (status == 201) return {.mounted = true};
  if (status == 202) return {.begun = upload_location(answer).text()};
  throw Error(EPROTO, "The registry mounts no blobs of other repositories: " +
                          explain(answer.response) + ".");
}

void BlobMounter::note(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const UnavailableError&) {
    // The next one may be heard.
  } catch (const std::exception& error) {
    if (!refused_) spdlog::info("{}", error.what());
    refused_ = true;
  }
}

}  // namespace puzzlefs::fetch
