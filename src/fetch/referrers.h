// What manifests say of another one: signatures, lists of parts (OCI distribution specification
// 1.1, "Listing Referrers" and "Pushing Manifests with Subject").
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fetch/outcome.h"
#include "fetch/redirect.h"
#include "fetch/registry_session.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/image_name.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// The tag whose index lists the referrers where the registry does not: "sha256-…".
std::string referrers_tag(const format::Digest& subject);

/// One operation, a listing or an attachment. Lives on the loop, and as long as it takes.
class Referrers : public std::enable_shared_from_this<Referrers> {
 public:
  /// Makes a request of the repository, with whatever tries it takes.
  using Send = std::function<void(RegistryRequest, Completion<Answer>)>;
  using List = std::vector<format::Descriptor>;

  Referrers(format::RegistryName name, Send send);

  /// As Registry::referrers().
  void list(const format::Digest& subject, const std::string& artifact_type, Completion<List> done);
  /// As Registry::attach().
  void attach(Bytes document, Completion<Done> done);

 private:
  void get_page(std::string target, Completion<List> done);
  void take_page(const Answer& answer, const Completion<List>& done);
  void give(List all, const Completion<List>& done) const;
  void get_tag(Completion<Bytes> done);
  void list_by_tag(const Completion<List>& done);
  void add_to_tag(const format::Descriptor& entry, const Completion<Done>& done);
  void put(const std::string& reference, std::string_view media_type, Bytes document,
           Completion<Answer> done);
  std::string repository() const { return name_.host + "/" + name_.repository; }

  const format::RegistryName name_;
  const Send send_;
  format::Digest subject_{};
  std::string artifact_type_;  // the only one that is wanted; empty for all
  List found_;
  std::size_t pages_ = 0;
  std::size_t size_ = 0;  // of their documents
};

}  // namespace puzzlefs::fetch
