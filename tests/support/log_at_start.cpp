// spdlog makes its registry when it is first used, in a library that is not instrumented. If that
// is another thread, thread sanitizer takes what the main thread logs next for a race with it. So
// the main thread is the first, as in the command.
#include <spdlog/spdlog.h>

namespace {

[[maybe_unused]] const auto kLogger = spdlog::default_logger();

}  // namespace
