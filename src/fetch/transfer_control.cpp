#include "fetch/transfer_control.h"

#include <utility>

namespace puzzlefs::fetch {

void TransferControl::set_paused(bool paused) {
  std::function<void()> on_change;
  {
    const std::lock_guard lock(mutex_);
    const bool resumes = paused_ && !paused;
    paused_ = paused;
    was_paused_ = was_paused_ || paused;
    // A pause needs nobody to be told: the next bytes that come are not taken.
    if (resumes) on_change = on_change_;
  }
  if (on_change) on_change();
}

void TransferControl::cancel() {
  std::function<void()> on_change;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    on_change = on_change_;
  }
  if (on_change) on_change();
}

bool TransferControl::is_paused() const {
  const std::lock_guard lock(mutex_);
  return paused_;
}

bool TransferControl::is_cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

bool TransferControl::take_was_paused() {
  const std::lock_guard lock(mutex_);
  return std::exchange(was_paused_, paused_);
}

void TransferControl::attach(std::function<void()> on_change) {
  const std::lock_guard lock(mutex_);
  on_change_ = std::move(on_change);
}

void TransferControl::detach() {
  attach(nullptr);
}

}  // namespace puzzlefs::fetch
