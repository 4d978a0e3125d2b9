// The tags of a repository, page by page (OCI distribution specification 1.1, "Listing Tags").
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fetch/outcome.h"
#include "fetch/redirect.h"
#include "fetch/registry_session.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

/// The URL that the Link headers of an answer name as the next page (RFC 8288), relative to where
/// it came from; empty if there is none.
std::string next_page(const std::vector<std::string>& headers);

/// One listing. Lives on the loop, and as long as it takes.
class TagLister : public std::enable_shared_from_this<TagLister> {
 public:
  /// Makes a request of the repository, with whatever tries it takes.
  using Send = std::function<void(RegistryRequest, Completion<Answer>)>;

  TagLister(format::RegistryName name, Send send, Completion<std::vector<std::string>> done);

  void run();

 private:
  void get(std::string target);
  void accept(const Answer& answer);

  const format::RegistryName name_;
  const Send send_;
  const Completion<std::vector<std::string>> done_;
  std::vector<std::string> tags_;
  std::size_t pages_ = 0;
};

}  // namespace puzzlefs::fetch
