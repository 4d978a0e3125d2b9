// libfuse hands each message to one function for the process, without a word on where it is from.
#include "fs/fuse_log.h"

#include <fuse3/fuse_log.h>
#include <spdlog/spdlog.h>

#include <array>
#include <boost/algorithm/string/replace.hpp>
#include <boost/algorithm/string/trim.hpp>
#include <cstdarg>
#include <cstdio>

namespace puzzlefs::fs {
namespace {

/// Where the messages of this thread go; null for the log.
thread_local std::string* capture = nullptr;

spdlog::level::level_enum level_of(fuse_log_level level) {
  if (level <= FUSE_LOG_ERR) return spdlog::level::err;
  if (level == FUSE_LOG_WARNING) return spdlog::level::warn;
  return level == FUSE_LOG_DEBUG ? spdlog::level::debug : spdlog::level::info;
}

[[gnu::format(printf, 2, 0)]] void write(fuse_log_level level, const char* format,
                                         std::va_list arguments) {
  std::array<char, 1024> buffer{};
  std::vsnprintf(buffer.data(), buffer.size(), format, arguments);
  if (capture != nullptr) {
    *capture += buffer.data();
    return;
  }
  std::string message = buffer.data();
  boost::algorithm::trim(message);
  spdlog::log(level_of(level), "{}", message);
}

}  // namespace

void route_fuse_log() {
  fuse_set_log_func(write);
}

FuseLogCapture::FuseLogCapture() {
  capture = &messages_;
}
FuseLogCapture::~FuseLogCapture() {
  capture = nullptr;
}

std::string FuseLogCapture::text() const {
  auto text = messages_;
  boost::algorithm::trim(text);
  boost::algorithm::replace_all(text, "\n", "; ");
  return text;
}

}  // namespace puzzlefs::fs
