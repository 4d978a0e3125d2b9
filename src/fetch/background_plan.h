// In which portions, and how fast, all of an image is fetched that nobody waits for.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "format/digest.h"

namespace puzzlefs::fetch {

/// Decides only; who fetches asks it for a portion, gets that, and says how it went.
class BackgroundPlan {
 public:
  struct Chunk {
    format::Digest digest;
    std::uint64_t stored_size = 0;  // which is fetched
    std::uint64_t size = 0;         // which is kept
  };
  /// Chunks to be fetched together, by their place in the list.
  struct Portion {
    std::vector<std::size_t> chunks;
    std::uint64_t stored_size = 0;
    std::uint64_t disk_size = 0;
  };
  using IsHere = std::function<bool(const format::Digest& chunk)>;

  /// A portion holds so much as stored, or one chunk that is larger.
  static constexpr std::uint64_t kPortionSize = 8 << 20;
  /// What did not come, or went again, is asked for in as many passes over the image.
  static constexpr int kPasses = 3;
  static constexpr std::chrono::seconds kLongestPause{300};

  /// `rate` is in bytes a second. Portions are so small then that one is there every few seconds.
  /// `chunks` must outlive the plan, and not change.
  BackgroundPlan(const std::vector<Chunk>& chunks, std::optional<std::uint64_t> rate);

  /// The next portion of what is not here. Empty if there is none: see missing().
  Portion next(const IsHere& is_here);
  /// The last portion took so long, and `failed` of its chunks did not come. When most did not, it
  /// is to be tried again, after a pause that grows from time to time. Returns how long to wait
  /// before the next one.
  std::chrono::milliseconds finished(std::size_t failed, std::chrono::nanoseconds took);

  /// When there is no next portion: how many chunks are not here all the same.
  std::size_t missing() const { return missing_; }

 private:
  std::size_t count_missing(const IsHere& is_here) const;
  std::chrono::milliseconds longer_pause();

  const std::vector<Chunk>& chunks_;
  const std::optional<std::uint64_t> rate_;
  const std::uint64_t portion_size_;
  Portion last_;
  std::size_t last_begin_ = 0;
  std::size_t next_ = 0;
  std::size_t missing_ = 0;
  int pass_ = 1;
  std::chrono::milliseconds pause_{0};
};

}  // namespace puzzlefs::fetch
