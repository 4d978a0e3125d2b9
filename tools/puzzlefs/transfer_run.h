// What push, pull and copy share: their options, the two ends, and what they say in the end.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "build/image_store.h"
#include "build/registry_base.h"
#include "build/registry_store.h"
#include "fetch/http_client.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "format/image_name.h"
#include "format/platform.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/results.h"
#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

/// What tells the subcommands apart.
struct TransferKind {
  std::string_view verb;  // "push"
  std::string_view participle;
  std::string_view done;
  bool names_source = false;  // results name where the image came from
  bool one_image = false;     // of an index, unless told otherwise, and a PuzzleFS image
};

struct TransferFlags {
  std::string source;
  std::string target;
  RegistryFlags registry;
  std::string platform;
  bool dry_run = false;
  DigestFile digest_file;
  ProgressMode progress = ProgressMode::kAuto;
  OutputFormat format = OutputFormat::kText;

  void add_to(Arguments& arguments, const std::string& platforms);
};

inline constexpr const char* kAllPlatforms =
    "Of an index of images, move only the one for this platform; all by default";

/// Both ends of a transfer, open. Not thread-safe. All throw Error.
class TransferEnds {
 public:
  /// `base` is an image of the target's registry whose packs are used again.
  TransferEnds(const format::ImageName& source, const format::ImageName& target,
               const RegistryFlags& flags,
               const std::optional<format::RegistryName>& base = std::nullopt);

  /// What the registry that is written to has under the name now, if its packs can be used again.
  std::unique_ptr<build::RegistryBase> find_present(const format::Platform& platform);
  /// The base that the constructor was given, if its packs can be used again: from now on the
  /// target takes them from its repository. NotFoundError if there is none.
  std::unique_ptr<build::RegistryBase> find_base(const format::Platform& platform);
  /// From now on the base's packs need not be in the source, in case the target does not take them
  /// from another repository. After find_base().
  void lend_blobs_of(const build::RegistryBase& base);

  build::ImageSource& source() { return sharing_source_ ? *sharing_source_ : *source_; }
  build::ImageTarget& target() { return *target_; }

 private:
  void open_target(const format::ImageName& source, const format::RegistryName& target,
                   const std::optional<format::RegistryName>& base, fetch::RegistryOptions options);

  // In the order of need.
  fetch::Runtime runtime_;
  fetch::HttpClient client_;
  std::optional<fetch::Registry> source_registry_;
  std::optional<fetch::Registry> base_registry_;  // if it is in another repository
  std::optional<fetch::Registry> target_registry_;
  std::unique_ptr<build::ImageSource> source_;
  std::optional<build::RegistrySource> base_source_;
  std::optional<build::SharingSource> sharing_source_;
  std::unique_ptr<build::ImageTarget> target_;
  build::RegistryTarget* registry_target_ = nullptr;  // target_, if it is one
};

/// The name without the digest that results add.
std::string without_digest(format::ImageName name);

/// Transfers, writes the digest's file and says what became of it. `name` is for that.
void finish_transfer(TransferEnds& ends, const TransferKind& kind, const std::string& name,
                     const TransferFlags& flags, Terminal& terminal);

/// All of it, as the image is.
void run_transfer(const TransferKind& kind, const format::ImageName& source,
                  format::ImageName target, const TransferFlags& flags, Terminal& terminal);

}  // namespace puzzlefs::tools
