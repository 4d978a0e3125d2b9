// Blobs that a registry has in one repository and takes into another without their being sent.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>

#include "fetch/outcome.h"
#include "fetch/registry.h"
#include "fetch/registry_session.h"
#include "fetch/retrier.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// Thread-safe. What is not mounted is to be uploaded: nothing here fails.
class BlobMounter : public std::enable_shared_from_this<BlobMounter> {
 public:
  /// `session` is one with the repository to mount into, whose tokens are for `from` as well. It
  /// should serve nothing else: some token services refuse all if one repository is not for the
  /// user.
  BlobMounter(boost::asio::io_context& loop, std::shared_ptr<RegistrySession> session,
              std::shared_ptr<Retrier> retrier, std::string from);

  /// `done` runs on the loop.
  void mount(const format::Digest& digest, Completion<MountAnswer> done);

 private:
  MountAnswer accept(const Answer& answer);
  void note(const std::exception_ptr& failure);

  boost::asio::io_context& loop_;
  const std::shared_ptr<RegistrySession> session_;
  const std::shared_ptr<Retrier> retrier_;
  const std::string from_;
  bool refused_ = false;  // belongs to the loop: then the registry is not asked any more
};

}  // namespace puzzlefs::fetch
