// What the tests of files that are read whole share: an image with a file "f", and the whole file
// that is offered for it, whose bytes are others than those of its pieces, so that what is read
// tells where it came from.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "fake_whole_files.h"
#include "mounted_image.h"

namespace puzzlefs::fs::test {

/// What is logged while it exists, which must not begin or end while others log.
class LogCapture {
 public:
  LogCapture() {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text_);
    auto logger = std::make_shared<spdlog::logger>("test", std::move(sink));
    logger->set_level(spdlog::level::debug);
    spdlog::set_default_logger(std::move(logger));
  }
  ~LogCapture() { spdlog::set_default_logger(former_); }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  /// To be asked when nobody logs.
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> former_ = spdlog::default_logger();
};

class WholeFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!MountedImage::is_possible()) GTEST_SKIP() << "FUSE cannot be used here";
  }

  /// The end of the session waits for what is held.
  void TearDown() override { whole_files_.let_go(); }

  static constexpr std::size_t kLargestPiece = 1 << 20;

  static std::string pieces_text(std::size_t size = 6) { return std::string(size, 'p'); }
  static std::string whole_text(std::size_t size = 6) {
    std::string text;
    for (std::size_t i = 0; text.size() < size; ++i) text += std::to_string(i) + 'W';
    text.resize(size);
    return text;
  }

  /// An image of one file, "f", of `size` bytes. Files are decided on by `whole_files_`.
  void mount(SessionOptions options = {}, std::size_t size = 6) {
    for (std::size_t left = size; left > 0;) {
      const auto part = std::min(left, kLargestPiece);
      pieces_.push_back(image_.whole_chunk(pieces_text(part)));
      left -= part;
    }
    options.whole_files = &whole_files_;
    image_.mount({directory(1, {{2, "f"}, {3, "empty"}}), file(2, pieces_), file(3)}, options);
  }
  /// A whole file for "f".
  std::filesystem::path make_whole(std::size_t size = 6) {
    const auto path = directory_ / "whole";
    std::ofstream(path, std::ios::binary) << whole_text(size);
    return path;
  }
  /// Changes the first byte of the whole file, which nobody else would do.
  void change_whole() {
    std::fstream(directory_ / "whole", std::ios::in | std::ios::out | std::ios::binary) << '!';
  }
  fetch::FileDescriptor open_f() {
    return fetch::FileDescriptor(::open((image_ / "f").c_str(), O_RDONLY | O_CLOEXEC));
  }
  static std::string read_all(const fetch::FileDescriptor& file, std::size_t size = 6) {
    std::string text(size + 1, '\0');
    std::size_t used = 0;
    while (true) {
      const auto count =
          ::pread(file.get(), text.data() + used, text.size() - used, static_cast<off_t>(used));
      if (count <= 0) break;
      used += static_cast<std::size_t>(count);
    }
    text.resize(used);
    return text;
  }
  /// What a mapping of the file shows.
  static std::string mapped(const fetch::FileDescriptor& file, std::size_t size) {
    void* const start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
    if (start == MAP_FAILED) return "not mapped";
    std::string text(static_cast<const char*>(start), size);
    ::munmap(start, size);
    return text;
  }

  /// What was logged until the session's end, which this brings.
  std::string log_of_session() {
    unmount(image_.path(), true);
    image_.wait_for_end();
    image_.end_session();
    return log_.text();
  }

  const puzzlefs::test::TempDir directory_;
  LogCapture log_;
  FakeWholeFiles whole_files_;
  MountedImage image_;
  fetch::FilePieces pieces_;
};

}  // namespace puzzlefs::fs::test
