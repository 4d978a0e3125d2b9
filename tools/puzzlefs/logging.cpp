#include "puzzlefs/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/dist_sink.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "format/error.h"
#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

namespace {

namespace fs = std::filesystem;

constexpr const char* kLoggerName = "puzzlefs";

// The only sink of the logger, which passes on to the one in use: that can be changed while other
// threads log, which the logger itself cannot.
std::shared_ptr<spdlog::sinks::dist_sink_mt> outlet() {
  if (spdlog::default_logger()->name() != kLoggerName) {
    auto logger = std::make_shared<spdlog::logger>(kLoggerName,
                                                   std::make_shared<spdlog::sinks::dist_sink_mt>());
    logger->set_level(spdlog::default_logger()->level());
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(std::move(logger));
  }
  return std::static_pointer_cast<spdlog::sinks::dist_sink_mt>(
      spdlog::default_logger()->sinks().front());
}

// The %* of patterns: the message, made harmless.
class HarmlessText : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/,
              spdlog::memory_buf_t& line) override {
    const auto text = harmless({message.payload.data(), message.payload.size()});
    line.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<HarmlessText>();
  }
};

// Standard error, which may have a progress line at its end.
class StderrSink : public spdlog::sinks::stderr_sink_mt {
 public:
  void log(const spdlog::details::log_msg& message) override {
    write_past_progress_line([&] { spdlog::sinks::stderr_sink_mt::log(message); });
  }
};

void use(spdlog::sink_ptr sink, const std::string& pattern, const std::string& line_end = "\n") {
  auto formatter =
      std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::local, line_end);
  formatter->add_flag<HarmlessText>('*').set_pattern(pattern);
  sink->set_formatter(std::move(formatter));
  outlet()->set_sinks({std::move(sink)});
}

// Makes missing directories.
spdlog::sink_ptr open_sink(const fs::path& file) {
  return std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
}

void use_file(spdlog::sink_ptr sink) {
  use(std::move(sink), "%Y-%m-%dT%H:%M:%S.%e%z [%P] %l: %*");
}

// syslog(3) drops messages without a word where nobody listens.
bool syslog_listens() {
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, "/dev/log", sizeof address.sun_path - 1);
  for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
    const int socket_fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (socket_fd < 0) continue;
    const bool connected =
        connect(socket_fd, reinterpret_cast<const struct sockaddr*>(&address), sizeof address) == 0;
    close(socket_fd);
    if (connected) return true;
  }
  return false;
}

fs::path default_log_file() {
  if (geteuid() == 0) return "/var/log/puzzlefs.log";
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return fs::path(state) / "puzzlefs/puzzlefs.log";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return fs::path(home) / ".local/state/puzzlefs/puzzlefs.log";
  return {};
}

}  // namespace

void set_log_level(int verbosity) {
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::warn, spdlog::level::info,
                                                   spdlog::level::debug, spdlog::level::trace};
  auto level = kLevels[std::min(verbosity, 3)];
  if (const char* wanted = std::getenv("PUZZLEFS_LOG"); wanted != nullptr && *wanted != '\0') {
    level = spdlog::level::from_str(wanted);
    if (level == spdlog::level::off && std::strcmp(wanted, "off") != 0)
      throw UsageError("PUZZLEFS_LOG is \"" + std::string(wanted) +
                       "\"; it can be trace, debug, info, warn, error, critical or off.");
  }
  spdlog::set_level(level);
}

void log_to_stderr() {
  use(std::make_shared<StderrSink>(), "puzzlefs: %l: %*");
}

std::function<void()> open_log_file(const fs::path& file) {
  const auto directory = fs::absolute(file).parent_path();
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    throw Error(ENOENT, "Cannot log to " + file.string() + ": there is no directory " +
                            directory.string() + ".");
  }
  try {
    return [sink = open_sink(file)] { use_file(sink); };
  } catch (const spdlog::spdlog_ex& failure) {
    throw Error(EACCES, "Cannot log to " + file.string() + ": " + failure.what() + ".");
  }
}

void log_in_background() {
  if (syslog_listens()) {
    use(std::make_shared<spdlog::sinks::syslog_sink_mt>("puzzlefs", LOG_PID, LOG_DAEMON, true),
        "%*", "");
    return;
  }
  const fs::path file = default_log_file();
  try {
    auto sink = open_sink(file);
    spdlog::warn("No syslog listens here; messages go to {} from now on.", file.string());
    use_file(std::move(sink));
  } catch (const spdlog::spdlog_ex&) {
    spdlog::warn(
        "Nothing will be logged: no syslog listens here and {}. Choose a file with --log-file.",
        file.empty() ? "there is no home directory" : file.string() + " cannot be written");
    use(std::make_shared<spdlog::sinks::null_sink_mt>(), "%*");
  }
}

}  // namespace puzzlefs::tools
