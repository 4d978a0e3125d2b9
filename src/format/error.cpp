#include "format/error.h"

#include <cerrno>
#include <system_error>

namespace puzzlefs {

CorruptError::CorruptError(const std::string& sentence) : Error(EIO, sentence) {}
NotFoundError::NotFoundError(const std::string& sentence) : Error(ENOENT, sentence) {}
UnavailableError::UnavailableError(const std::string& sentence) : Error(EIO, sentence) {}
UsageError::UsageError(const std::string& sentence) : Error(EINVAL, sentence) {}

void throw_errno(const std::string& doing, int code) {
  throw Error(code, "Cannot " + doing + ": " + std::generic_category().message(code) + ".");
}

void throw_errno(const std::string& doing) {
  throw_errno(doing, errno);
}

}  // namespace puzzlefs
