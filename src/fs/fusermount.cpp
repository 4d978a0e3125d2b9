// Running fusermount3 and giving its complaints as ours.
#include "fs/fusermount.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/split.hpp>
#include <boost/algorithm/string/trim.hpp>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "fetch/program.h"
#include "format/error.h"

namespace puzzlefs::fs {
namespace {

constexpr const char* kProgram = "fusermount3";

}  // namespace

bool has_fusermount() {
  const char* path = std::getenv("PATH");
  std::vector<std::string> directories;
  boost::algorithm::split(directories, path == nullptr ? "" : path,
                          boost::algorithm::is_any_of(":"));
  directories.emplace_back("/usr/bin");  // where libfuse looks first
  return std::any_of(directories.begin(), directories.end(), [](const std::string& directory) {
    return ::access((directory + "/" + kProgram).c_str(), X_OK) == 0;
  });
}

void fusermount_unmount(const std::string& mountpoint, bool lazy) {
  if (!has_fusermount()) {
    throw Error(EPERM, fmt::format("Unmounting {} takes root or the program fusermount3, which is "
                                   "not installed. Install it with \"apt-get install fuse3\".",
                                   mountpoint));
  }
  std::vector<std::string> arguments = {kProgram, "-u"};
  if (lazy) arguments.emplace_back("-z");
  arguments.insert(arguments.end(), {"--", mountpoint});
  auto result = fetch::run_program(arguments);
  if (result.succeeded()) return;
  boost::algorithm::trim(result.errors);
  throw Error(EPERM, fmt::format("Cannot unmount {}: {}.", mountpoint,
                                 result.errors.empty() ? "fusermount3 failed" : result.errors));
}

}  // namespace puzzlefs::fs
