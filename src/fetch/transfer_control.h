// Holding back and ending HTTP requests that are under way.
#pragma once

#include <functional>
#include <mutex>

namespace puzzlefs::fetch {

/// The reins of a request, or of several made one after the other (redirects, further tries).
/// Thread-safe.
class TransferControl {
 public:
  /// While paused no bytes of the body are taken, and the server has to wait.
  void set_paused(bool paused);
  /// Ends the request under way and each to come with TransportError (kClosed).
  void cancel();
  bool is_paused() const;
  bool is_cancelled() const;
  /// Whether it was paused at any time since this was last asked.
  bool take_was_paused();

  /// For HttpClient: `on_change` is called, on any thread, when the request under way is to go on
  /// or to end. Until detach(), of which a call may cross with the last of `on_change`.
  void attach(std::function<void()> on_change);
  void detach();

 private:
  mutable std::mutex mutex_;  // guards all below
  bool paused_ = false;
  bool was_paused_ = false;
  bool cancelled_ = false;
  std::function<void()> on_change_;
};

}  // namespace puzzlefs::fetch
