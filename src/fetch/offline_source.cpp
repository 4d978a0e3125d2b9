#include "fetch/offline_source.h"

#include <spdlog/fmt/fmt.h>

#include <exception>

namespace puzzlefs::fetch {

UnavailableError not_cached(const format::RegistryName& name, const std::string& what) {
  return UnavailableError(
      fmt::format("The cache does not have {}, and --offline forbids to ask {} for it. \"puzzlefs "
                  "cache pin\" fetches all of an image beforehand.",
                  what, name.host));
}

void OfflineSource::read(const format::Descriptor& blob, Freshness, Completion<Bytes> done) {
  done(refusal(blob));
}

std::shared_ptr<RangeRead> OfflineSource::read_range(const format::Descriptor& blob, ByteRange,
                                                     Freshness, RangeReceiver,
                                                     Completion<Done> done) {
  done(refusal(blob));
  return std::make_shared<RangeRead>();
}

std::exception_ptr OfflineSource::refusal(const format::Descriptor& blob) const {
  return std::make_exception_ptr(not_cached(
      name_, fmt::format("the blob {} of {}", blob.digest.to_string(), name_.to_string())));
}

std::string OfflineSource::description() const {
  return name_.host + "/" + name_.repository + ", offline";
}

}  // namespace puzzlefs::fetch
