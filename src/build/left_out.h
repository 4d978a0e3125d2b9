// What an extraction could not give the tree for want of privilege.
#pragma once

#include <cstdint>
#include <string>

namespace puzzlefs::build {

/// How many there are of a kind, and one of them for a message.
struct Omission {
  std::uint64_t count = 0;
  std::string first;

  void add(const std::string& what) {
    if (count++ == 0) first = what;
  }
};

struct LeftOut {
  Omission owners;      // paths of files that stay the caller's, without set-id bits
  Omission attributes;  // "KEY of PATH"
  Omission devices;     // paths, one for each name
};

}  // namespace puzzlefs::build
