// A store of whole files in the test's hands.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "fetch/file_descriptor.h"
#include "fetch/given_up.h"
#include "fetch/whole_files.h"
#include "format/error.h"

namespace puzzlefs::fs::test {

/// Has no whole file, until it is told otherwise. Answers at once unless it is told to wait.
class FakeWholeFiles : public fetch::WholeFiles {
 public:
  using Done = fetch::Completion<fetch::FileDescriptor>;

  /// What opens get from now on: this file; nothing, for an empty path; or an error.
  void offer(std::filesystem::path file) {
    const std::lock_guard lock(mutex_);
    offered_ = std::move(file);
    code_ = 0;
  }
  void fail_with(int code) {
    const std::lock_guard lock(mutex_);
    code_ = code;
  }
  /// Called in open(), on its thread.
  void set_hook(std::function<void()> hook) {
    const std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
  }
  /// Opens wait from now on, until let_go(), from whose thread they are answered.
  void hold() {
    const std::lock_guard lock(mutex_);
    holding_ = true;
  }
  void let_go() {
    for (const auto& done : take_held()) answer(done);
  }
  /// Those who wait are told that nobody does any more.
  void fail_given_up() {
    for (const auto& done : take_held()) done(std::make_exception_ptr(fetch::GivenUpError()));
  }

  std::size_t opens() {
    const std::lock_guard lock(mutex_);
    return opens_;
  }
  void wait_for_opens(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return opens_ >= count; });
  }
  fetch::FilePieces last_opened() {
    const std::lock_guard lock(mutex_);
    return last_opened_;
  }
  std::vector<fetch::FilePieces> closed() {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  void wait_for_closed(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_.size() >= count; });
  }

  /// What nobody wants any more who asked for it.
  std::vector<fetch::FilePieces> given_up() {
    const std::lock_guard lock(mutex_);
    return given_up_;
  }
  void wait_for_given_up(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return given_up_.size() >= count; });
  }

  void open(fetch::FilePieces pieces, Done done) override {
    {
      const std::lock_guard lock(mutex_);
      ++opens_;
      last_opened_ = std::move(pieces);
      changed_.notify_all();
      if (hook_) hook_();
      if (holding_) {
        held_.push_back(std::move(done));
        return;
      }
    }
    answer(done);
  }
  void give_up(const fetch::FilePieces& pieces) override {
    const std::lock_guard lock(mutex_);
    given_up_.push_back(pieces);
    changed_.notify_all();
  }
  void closed(fetch::FilePieces pieces) override {
    const std::lock_guard lock(mutex_);
    closed_.push_back(std::move(pieces));
    changed_.notify_all();
  }

 private:
  std::vector<Done> take_held() {
    const std::lock_guard lock(mutex_);
    holding_ = false;
    return std::exchange(held_, {});
  }

  void answer(const Done& done) {
    std::filesystem::path file;
    int code = 0;
    {
      const std::lock_guard lock(mutex_);
      code = code_;
      file = offered_;
    }
    if (code != 0) {
      const Error error(code, "The test has no such file.");
      return done(std::make_exception_ptr(error));
    }
    done(file.empty() ? fetch::FileDescriptor() : fetch::open_regular_file(file));
  }

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::filesystem::path offered_;
  int code_ = 0;
  bool holding_ = false;
  std::function<void()> hook_;
  std::vector<Done> held_;
  std::size_t opens_ = 0;
  fetch::FilePieces last_opened_;
  std::vector<fetch::FilePieces> closed_;
  std::vector<fetch::FilePieces> given_up_;
};

}  // namespace puzzlefs::fs::test
