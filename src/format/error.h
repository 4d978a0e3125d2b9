// The errors of the whole project: one hierarchy, caught once at each boundary (a FUSE operation, a
// command, a task of the loop). Every message is a sentence that names the thing and, where there
// is something to do, says what.
#pragma once

#include <stdexcept>
#include <string>

namespace puzzlefs {

/// Any failure that a user can be told of. Carries the errno value that a FUSE reply would give.
class Error : public std::runtime_error {
 public:
  Error(int code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}

  /// The errno value (EIO, ENOENT, …), never 0.
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// Bytes that are not what they claim to be: a digest that differs, a malformed document. EIO.
class CorruptError : public Error {
 public:
  explicit CorruptError(const std::string& sentence);
};

/// Something that is named and does not exist: a tag, a blob, a file. ENOENT.
class NotFoundError : public Error {
 public:
  explicit NotFoundError(const std::string& sentence);
};

/// A server that cannot be reached or does not serve just now; the same call may work later. EIO.
class UnavailableError : public Error {
 public:
  explicit UnavailableError(const std::string& sentence);
};

/// What was typed cannot be meant: a malformed name, options that exclude one another. EINVAL; the
/// command exits with status 2.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& sentence);
};

/// Throws the Error of a failed system call, "Cannot <doing>: <strerror>.", from errno or `code`.
[[noreturn]] void throw_errno(const std::string& doing);
[[noreturn]] void throw_errno(const std::string& doing, int code);

}  // namespace puzzlefs
