// How much the cache holds, counted by all processes that share it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>

#include "fetch/file_descriptor.h"

namespace puzzlefs::fetch {

/// A number of bytes in a file, changed under a lock, so that a process that is killed loses
/// nothing. A crash of the machine may: a count of before the last boot is taken as unknown.
/// Thread-safe. Every method throws Error when the file cannot be used.
class CacheUsage {
 public:
  /// `file` is made when it is needed, and again if it was deleted.
  explicit CacheUsage(std::filesystem::path file) : path_(std::move(file)) {}

  /// Nothing if nobody has counted since the machine was started.
  std::optional<std::uint64_t> get();
  /// Adds to the count, known or not. Returns the new one, as get().
  std::optional<std::uint64_t> add(std::int64_t bytes);
  /// What all add() have come to, for set().
  std::int64_t mark();
  /// Somebody has counted `bytes`, from a mark() on. What was added since then is added to them.
  void set(std::uint64_t bytes, std::int64_t mark);

 private:
  struct Record;
  Record update(const std::function<void(Record&)>& change);
  void open();

  const std::filesystem::path path_;
  std::mutex mutex_;  // a lock on a file does not keep out the threads that share it
  FileDescriptor file_;
};

}  // namespace puzzlefs::fetch
