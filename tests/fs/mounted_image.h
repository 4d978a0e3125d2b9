// An image made by a test, served through the kernel, with its chunks in the test's hands.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../support/temp_dir.h"
#include "fetch/blob_store.h"
#include "fetch/chunk_store.h"
#include "fetch/fetch_stats.h"
#include "fetch/file_descriptor.h"
#include "fetch/runtime.h"
#include "format/error.h"
#include "fs/daemon.h"
#include "fs/session.h"
#include "fs/unmount.h"
#include "records.h"

namespace puzzlefs::fs::test {

/// Blobs in memory that arrive when the test says so.
class HeldSource : public fetch::BlobSource {
 public:
  format::Descriptor add(const std::string& text) {
    const auto bytes = as_bytes(text);
    const auto digest = format::sha256(bytes);
    blobs_[digest] = Bytes(bytes.begin(), bytes.end());
    return {
        .media_type = std::string(format::kFiledataType), .digest = digest, .size = text.size()};
  }

  /// Reads of the blob wait from now on, until let_go().
  void hold(const format::Digest& digest) {
    const std::lock_guard lock(mutex_);
    held_[digest];
  }
  /// Returns when somebody waits for the blob.
  void wait_for_reader(const format::Digest& digest) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !held_[digest].empty(); });
  }
  void let_go(const format::Digest& digest) {
    for (const auto& done : take_held(digest)) done(blobs_.at(digest));
  }
  /// Those that wait for the blob get an error.
  void fail_held(const format::Digest& digest) {
    for (const auto& done : take_held(digest)) {
      done(std::make_exception_ptr(UnavailableError("The test ends.")));
    }
  }
  /// Whether reads of blobs that are not held fail from now on.
  void set_failing(bool failing) {
    const std::lock_guard lock(mutex_);
    failing_ = failing;
  }

  void read(const format::Descriptor& blob, fetch::Freshness,
            fetch::Completion<Bytes> done) override {
    {
      const std::lock_guard lock(mutex_);
      if (const auto held = held_.find(blob.digest); held != held_.end()) {
        held->second.push_back(std::move(done));
        changed_.notify_all();
        return;
      }
      if (failing_) {
        const UnavailableError error("The registry is down.");
        return done(std::make_exception_ptr(error));
      }
    }
    done(blobs_.at(blob.digest));
  }
  std::shared_ptr<fetch::RangeRead> read_range(const format::Descriptor& blob,
                                               fetch::ByteRange range, fetch::Freshness freshness,
                                               fetch::RangeReceiver on_bytes,
                                               fetch::Completion<fetch::Done> done) override {
    read(blob, freshness,
         [range, on_bytes = std::move(on_bytes),
          done = std::move(done)](fetch::Outcome<Bytes> outcome) {
           if (!outcome.ok()) return done(outcome.error());
           on_bytes(range.offset, ByteView(outcome.value()).subspan(range.offset, range.size));
           done(fetch::Done{});
         });
    return std::make_shared<fetch::RangeRead>();
  }
  std::string description() const override { return "the test"; }

 private:
  std::vector<fetch::Completion<Bytes>> take_held(const format::Digest& digest) {
    const std::lock_guard lock(mutex_);
    auto waiting = std::move(held_[digest]);
    held_.erase(digest);
    return waiting;
  }

  std::map<format::Digest, Bytes> blobs_;  // constant once reading began
  std::mutex mutex_;                       // guards all below
  std::condition_variable changed_;
  std::map<format::Digest, std::vector<fetch::Completion<Bytes>>> held_;
  bool failing_ = false;
};

/// Mounted from mount() until its end or destruction, whatever the test does.
class MountedImage {
 public:
  MountedImage() {
    // A signal to the process must find no thread that would die of it.
    block_termination_signals();
  }
  ~MountedImage() {
    while (mount_at(path())) unmount(path(), true);
    if (serving_.valid()) serving_.wait();
  }
  MountedImage(const MountedImage&) = delete;
  MountedImage& operator=(const MountedImage&) = delete;

  static bool is_possible() { return ::geteuid() == 0 && ::access("/dev/fuse", R_OK | W_OK) == 0; }

  HeldSource& source() { return source_; }
  const fetch::FetchStats& stats() const { return stats_; }
  std::filesystem::path path() const { return directory_ / "mnt"; }
  std::filesystem::path operator/(const std::string& name) const { return path() / name; }

  /// A chunk to make files from.
  format::Digest chunk(const std::string& text) {
    manifest_.layers.push_back(source_.add(text));
    return manifest_.layers.back().digest;
  }
  format::ChunkRef whole_chunk(const std::string& text) {
    return {chunk(text), 0, text.size(), false};
  }

  void mount(std::vector<format::InodeRecord> inodes, SessionOptions options = {}) {
    blob_ = one_layer(std::move(inodes));
    metadata_ = std::make_unique<format::Metadata>(blob_);
    tree_ = std::make_unique<Tree>(*metadata_);
    runtime_ = std::make_unique<fetch::Runtime>(2);
    store_ = std::make_unique<fetch::BlobStore>(*runtime_, source_, nullptr);
    chunks_ = std::make_unique<fetch::ChunkStore>(*store_, manifest_,
                                                  fetch::ChunkStore::kDefaultMemoryLimit, &stats_);
    std::filesystem::create_directory(path());
    session_ = std::make_unique<Session>(*tree_, *chunks_, path(), options);
    std::promise<void> ready;
    serving_ = std::async(std::launch::async, [&] { session_->run([&] { ready.set_value(); }); });
    ready.get_future().get();
  }
  /// Returns when run() has.
  void wait_for_end() { serving_.get(); }
  void end_session() { session_.reset(); }

 private:
  puzzlefs::test::TempDir directory_;
  HeldSource source_;
  fetch::FetchStats stats_;
  format::Manifest manifest_;
  Bytes blob_;
  std::unique_ptr<format::Metadata> metadata_;
  std::unique_ptr<Tree> tree_;
  std::unique_ptr<fetch::Runtime> runtime_;
  std::unique_ptr<fetch::BlobStore> store_;
  std::unique_ptr<fetch::ChunkStore> chunks_;
  std::unique_ptr<Session> session_;
  std::future<void> serving_;
};

/// The bytes of a file. Throws std::system_error.
inline std::string read_file(const std::filesystem::path& path) {
  const fetch::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const auto count = file ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
    if (count < 0) throw std::system_error(errno, std::generic_category(), path.native());
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

/// The error that reading a file gives, or 0.
inline int read_error(const std::filesystem::path& path) {
  try {
    read_file(path);
    return 0;
  } catch (const std::system_error& error) {
    return error.code().value();
  }
}

}  // namespace puzzlefs::fs::test
