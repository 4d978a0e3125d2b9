// Images in a layout, and what moves them to a registry and back.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../support/registry_process.h"
#include "../support/temp_dir.h"
#include "build/layout_store.h"
#include "build/registry_store.h"
#include "build/transfer.h"
#include "fetch/layout.h"
#include "fetch/registry.h"
#include "format/error.h"

namespace puzzlefs::build {

/// Stores a blob in a layout.
inline format::Descriptor add_blob(const fetch::Layout& layout, std::string_view text,
                                   std::string_view type) {
  format::Descriptor blob;
  blob.media_type = type;
  blob.digest = format::sha256(as_bytes(text));
  blob.size = text.size();
  layout.write_blob(blob.digest, as_bytes(text));
  return blob;
}

/// An image in a layout: its chunks are the given texts.
inline format::Descriptor add_image(const fetch::Layout& layout, const std::string& tag,
                                    const std::vector<std::string>& chunks) {
  format::Manifest manifest;
  manifest.config = add_blob(layout, format::kEmptyConfigBlob, format::kEmptyType);
  manifest.layers.push_back(add_blob(layout, "metadata of " + tag, format::kRootfsType));
  for (const auto& chunk : chunks) {
    manifest.layers.push_back(add_blob(layout, chunk, format::kFiledataType));
  }
  const auto descriptor = add_blob(layout, format::to_json_text(manifest), format::kManifestType);
  layout.set_tag(tag, descriptor);
  return descriptor;
}

/// An index in a layout, of what is given.
inline format::Descriptor add_index(const fetch::Layout& layout, const std::string& tag,
                                    const std::vector<format::Descriptor>& entries) {
  nlohmann::json index{{"schemaVersion", 2}, {"mediaType", format::kIndexType}};
  index["manifests"] = nlohmann::json::array();
  for (const auto& entry : entries) index["manifests"].push_back(format::to_json(entry));
  const auto descriptor = add_blob(layout, index.dump(), format::kIndexType);
  layout.set_tag(tag, descriptor);
  return descriptor;
}

inline format::Descriptor for_platform(format::Descriptor entry, const std::string& platform) {
  entry.platform = format::parse_platform(platform);
  return entry;
}

class TransferTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::RegistryProcess::installed()) GTEST_SKIP() << "docker-registry is not installed";
  }

  std::unique_ptr<fetch::Registry> connect(const std::string& host, const std::string& tag,
                                           const std::string& repository = "team/app",
                                           const std::string& mount_from = {}) {
    fetch::RegistryOptions options;
    options.deadline = std::chrono::seconds(5);
    options.mount_from = mount_from;
    return std::make_unique<fetch::Registry>(
        client_, format::parse_registry_name(host + "/" + repository + ":" + tag),
        fetch::Registry::Access::kPush, std::move(options));
  }
  TransferResult push(const std::string& host, const std::string& tag,
                      const std::string& remote_tag = {}, const TransferOptions& options = {}) {
    const auto registry = connect(host, remote_tag.empty() ? tag : remote_tag);
    LayoutSource source(runtime_, {layout_.path(), tag});
    RegistryTarget target(*registry);
    return transfer(source, target, options);
  }
  /// As the command does: the image for this machine.
  TransferResult pull(const std::string& host, const std::string& tag,
                      const fetch::Layout& layout) {
    return pull(host, tag, layout.path(),
                {.platform = format::host_platform(), .only_puzzlefs = true});
  }
  TransferResult pull(const std::string& host, const std::string& tag,
                      const std::filesystem::path& layout, const TransferOptions& options) {
    const auto registry = connect(host, tag);
    RegistrySource source(runtime_, *registry);
    LayoutTarget target(runtime_, {layout, tag});
    return transfer(source, target, options);
  }
  /// The message of the Error that `action` throws.
  template <class Action>
  static std::string message_of(Action action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  test::TempDir directory_;
  fetch::Runtime runtime_{2};
  fetch::HttpClient client_{runtime_};
  fetch::Layout layout_ = fetch::Layout::create(directory_ / "layout");
};

}  // namespace puzzlefs::build
