// A mount of this machine, asked about itself by another process.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "fs/mount_stats.h"
#include "fs/unmount.h"

namespace puzzlefs::fs {

class LiveMount {
 public:
  /// What is mounted at `mountpoint`, also below an overlay of puzzlefs. Throws Error, saying what
  /// is wrong: nothing is mounted there, something else is, or its server has died.
  static LiveMount find(const std::filesystem::path& mountpoint);

  /// Throws Error.
  MountStats stats() const;
  /// What the control socket answers to a GET of `target`, as in "/stats". Only the user who has
  /// mounted the image, and root, may ask. Throws Error.
  std::string ask(const std::string& target) const;

 private:
  LiveMount(std::filesystem::path mountpoint, Mount mount)
      : mountpoint_(std::move(mountpoint)), mount_(std::move(mount)) {}

  std::optional<std::string> attribute(const char* name) const;
  std::optional<std::string> try_to_ask(const std::string& target) const;
  /// Nothing if nobody answers there.
  std::optional<std::string> ask_at(const std::filesystem::path& socket,
                                    const std::string& target) const;

  std::filesystem::path mountpoint_;
  Mount mount_;  // of the image
};

}  // namespace puzzlefs::fs
