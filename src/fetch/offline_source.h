// The source of an image whose registry must not be asked.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "fetch/blob_source.h"
#include "format/error.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

/// The error for what would have to be fetched, "the blob sha256:…".
UnavailableError not_cached(const format::RegistryName& name, const std::string& what);

/// Has no blob, and fails at once.
class OfflineSource : public BlobSource {
 public:
  explicit OfflineSource(format::RegistryName name) : name_(std::move(name)) {}

  void read(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) override;
  std::shared_ptr<RangeRead> read_range(const format::Descriptor& blob, ByteRange range,
                                        Freshness freshness, RangeReceiver on_bytes,
                                        Completion<Done> done) override;
  std::string description() const override;

 private:
  std::exception_ptr refusal(const format::Descriptor& blob) const;

  const format::RegistryName name_;
};

}  // namespace puzzlefs::fetch
