#include "puzzlefs/progress.h"

#include <fmt/format.h>

namespace puzzlefs::tools {

namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

constexpr auto kDrawInterval = 100ms;
constexpr auto kPlainInterval = 2s;
constexpr auto kRateWindow = 10s;
constexpr auto kShortestRateSpan = 50ms;  // a rate over less tells nothing

}  // namespace

Progress::Progress(Terminal& terminal, std::string label, ProgressMode mode)
    : terminal_(terminal),
      label_(std::move(label)),
      mode_(mode == ProgressMode::kAuto && !terminal.shows_progress ? ProgressMode::kNone : mode),
      samples_{{started_, 0}} {
  // A plain line has time; the first one drawn should be there at once.
  if (mode_ == ProgressMode::kPlain) shown_ = started_;
}

Progress::~Progress() {
  if (mode_ == ProgressMode::kAuto) erase_progress_line(terminal_.err);
  if (mode_ == ProgressMode::kPlain && updated_) {
    write(line(Clock::now() - started_, state_.moved));
  }
}

void Progress::update(State state) {
  if (mode_ == ProgressMode::kNone) return;
  state_ = std::move(state);
  updated_ = true;
  const auto now = Clock::now();
  const Clock::duration interval =
      mode_ == ProgressMode::kPlain ? Clock::duration(kPlainInterval) : kDrawInterval;
  if (now - shown_ < interval) return;
  draw(now);
  shown_ = now;
}

// With the rate of the last seconds.
void Progress::draw(Clock::time_point now) {
  samples_.emplace_back(now, state_.moved);
  while (samples_.size() > 2 && now - samples_.front().first > kRateWindow) samples_.pop_front();
  const auto& [since, moved] = samples_.front();
  const auto text = line(now - since, state_.moved - moved);
  if (mode_ == ProgressMode::kAuto) return draw_progress_line(terminal_.err, text);
  write(text);
}

void Progress::write(const std::string& text) {
  write_past_progress_line([&] { terminal_.err << text << "\n" << std::flush; });
}

std::string Progress::line(Clock::duration rate_span, std::uint64_t moved) const {
  auto text = fmt::format("{}: {}", label_, human_size(state_.bytes));
  if (state_.total != 0) text += " of " + human_size(state_.total);
  if (rate_span >= kShortestRateSpan && moved != 0) {
    const double seconds = std::chrono::duration<double>(rate_span).count();
    const double rate = static_cast<double>(moved) / seconds;
    text += fmt::format(", {}/s", human_size(static_cast<std::uint64_t>(rate)));
  }
  if (!state_.note.empty()) text += ", " + state_.note;
  return text;
}

}  // namespace puzzlefs::tools
