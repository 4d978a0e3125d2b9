#include "puzzlefs/transfer_run.h"

#include <fmt/format.h>

#include <utility>
#include <variant>

#include "build/layout_store.h"
#include "build/transfer.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/transfer_results.h"

namespace puzzlefs::tools {

namespace {

using fetch::Registry;
using format::ImageName;
using format::LayoutName;
using format::RegistryName;

// What --platform asks for; nothing for all that there are.
std::optional<format::Platform> chosen_platform(const std::string& text, const TransferKind& kind) {
  if (text.empty() && kind.one_image) return format::host_platform();
  if (text.empty() || text == "all") return std::nullopt;
  return format::parse_platform(text);
}

build::TransferResult move_image(TransferEnds& ends, const TransferFlags& flags,
                                 const TransferKind& kind, Terminal& terminal) {
  Progress progress(terminal, std::string(kind.participle), flags.progress);
  return build::transfer(ends.source(), ends.target(),
                         {.platform = chosen_platform(flags.platform, kind),
                          .only_puzzlefs = kind.one_image,
                          .dry_run = flags.dry_run,
                          .on_progress = show_in(progress)});
}

void print(Terminal& terminal, const TransferFlags& flags, const TransferKind& kind,
           const std::string& name, const build::TransferResult& result) {
  const auto done = flags.dry_run ? fmt::format("Would {}", kind.verb) : std::string(kind.done);
  print_transfer(terminal, flags.format, {.done = done, .name = name, .dry_run = flags.dry_run},
                 result);
}

// A layout without a tag gets the one that the image has where it comes from.
void complete_tag(ImageName& target, const ImageName& source) {
  auto* layout = std::get_if<LayoutName>(&target);
  if (layout == nullptr || !layout->tag.empty()) return;
  layout->tag = std::visit([](const auto& name) { return name.tag; }, source);
  if (layout->tag.empty()) layout->tag = "latest";
}

}  // namespace

void TransferFlags::add_to(Arguments& arguments, const std::string& platforms) {
  registry.add_to(arguments);
  arguments.option("--platform", platform, "OS/ARCH[/VARIANT]|all", platforms);
  arguments.flag("--dry-run", dry_run, "Say what would be moved, and change nothing");
  digest_file.add_to(arguments);
  arguments.progress(progress);
  arguments.format(format);
}

TransferEnds::TransferEnds(const ImageName& source, const ImageName& target,
                           const RegistryFlags& flags, const std::optional<RegistryName>& base)
    : client_(runtime_, flags.http()) {
  const auto options = flags.options();
  if (const auto* from = std::get_if<RegistryName>(&source)) {
    source_registry_.emplace(client_, *from, Registry::Access::kPull, options);
    source_ = std::make_unique<build::RegistrySource>(runtime_, *source_registry_);
  } else {
    source_ = std::make_unique<build::LayoutSource>(runtime_, std::get<LayoutName>(source));
  }
  if (const auto* to = std::get_if<RegistryName>(&target)) {
    open_target(source, *to, base, options);
  } else {
    target_ = std::make_unique<build::LayoutTarget>(runtime_, std::get<LayoutName>(target));
  }
}

void TransferEnds::open_target(const ImageName& source, const RegistryName& target,
                               const std::optional<RegistryName>& base,
                               fetch::RegistryOptions options) {
  const auto* from = base ? &*base : std::get_if<RegistryName>(&source);
  const bool same_registry = from != nullptr && from->host == target.host;
  const bool same_repository = same_registry && from->repository == target.repository;
  if (base && !same_repository)
    base_registry_.emplace(client_, *base, Registry::Access::kPull, options);
  if (same_registry && !same_repository) options.mount_from = from->repository;
  target_registry_.emplace(client_, target, Registry::Access::kPush, std::move(options));
  if (base)
    base_source_.emplace(runtime_, base_registry_ ? *base_registry_ : *target_registry_, *base);
  auto registry =
      std::make_unique<build::RegistryTarget>(*target_registry_, same_repository && !base);
  registry_target_ = registry.get();
  target_ = std::move(registry);
}

std::unique_ptr<build::RegistryBase> TransferEnds::find_present(const format::Platform& platform) {
  if (registry_target_ == nullptr || !registry_target_->present()) return nullptr;
  return build::RegistryBase::open(*target_registry_, *registry_target_->present(), platform);
}

std::unique_ptr<build::RegistryBase> TransferEnds::find_base(const format::Platform& platform) {
  registry_target_->mount_only({});
  auto& registry = base_registry_ ? *base_registry_ : *target_registry_;
  auto base = build::RegistryBase::open(registry, base_source_->top(), platform);
  if (base == nullptr) return base;
  if (base_registry_) {
    registry_target_->mount_only(base->blobs());
  } else {
    registry_target_->add_known(base->blobs());
  }
  return base;
}

void TransferEnds::lend_blobs_of(const build::RegistryBase& base) {
  if (base_registry_) sharing_source_.emplace(*source_, *base_source_, base.blobs());
}

std::string without_digest(ImageName name) {
  if (auto* registry = std::get_if<RegistryName>(&name)) registry->digest.reset();
  return to_string(name);
}

void finish_transfer(TransferEnds& ends, const TransferKind& kind, const std::string& name,
                     const TransferFlags& flags, Terminal& terminal) {
  const auto result = move_image(ends, flags, kind, terminal);
  if (!flags.dry_run) flags.digest_file.write(result.manifest.digest);
  print(terminal, flags, kind, name, result);
}

void run_transfer(const TransferKind& kind, const ImageName& source, ImageName target,
                  const TransferFlags& flags, Terminal& terminal) {
  complete_tag(target, source);
  flags.digest_file.check();
  TransferEnds ends(source, target, flags.registry);
  finish_transfer(ends, kind, without_digest(kind.names_source ? source : target), flags, terminal);
}

}  // namespace puzzlefs::tools
