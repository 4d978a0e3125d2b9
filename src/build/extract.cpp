// Making the tree: directories, links, devices and the names of files here, the contents of files
// by the FileFiller, which lags behind. A directory gets its attributes when all of it is made:
// before, its mode might forbid it, and its default access-control list would pass on to what it
// holds.
#include "build/extract.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "build/attributes.h"
#include "build/directory_stack.h"
#include "build/file_filler.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

using format::FileType;
using format::Inode;
using format::InodeNumber;

constexpr mode_t kTargetMode = 0755;
// Of what is being made, until it gets its own.
constexpr mode_t kPrivateDirectory = 0700;
constexpr mode_t kPrivateFile = 0600;
constexpr std::uint32_t kMajorLimit = 1U << 12;
constexpr std::uint32_t kMinorLimit = 1U << 20;

// The inode that a directory entry names; nothing if it was deleted. The Rust puzzlefs leaves the
// entry of a deleted inode in its directory.
std::optional<Inode> find_present(const format::Metadata& metadata, InodeNumber number) {
  const std::uint32_t layers = metadata.layer_count();
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    const auto inode = metadata.find_in_layer(layer, number);
    if (!inode) continue;
    return inode->type() == FileType::kWhiteout ? std::nullopt : inode;
  }
  return metadata.get(number);  // throws: there is none
}

bool is_device(const Inode& inode) {
  return inode.type() == FileType::kCharacterDevice || inode.type() == FileType::kBlockDevice;
}

class Extraction {
 public:
  Extraction(fetch::Image& image, DirectoryStack directories,
             const std::function<void(std::uint64_t)>& on_progress)
      : metadata_(image.metadata()),
        directories_(std::move(directories)),
        filler_(image.chunks(), left_out_, on_progress) {}

  ExtractResult run() {
    enter(metadata_.get(format::kRootInode), {});
    while (!stack_.empty()) step();
    filler_.finish();
    return {.inodes = inodes_, .bytes = filler_.bytes(), .left_out = std::move(left_out_)};
  }

 private:
  // A directory that has been made, for hard links to find their first name again.
  struct Place {
    std::size_t parent;
    std::string_view name;
  };
  // A directory whose entries are being made.
  struct Level {
    Inode inode;
    std::uint32_t entries;
    std::uint32_t next_entry;
    std::size_t place;
  };

  void step() {
    Level& level = stack_.back();
    if (level.next_entry == level.entries) {
      apply_attributes(directories_.fd(), level.inode, directories_.path(), left_out_);
      stack_.pop_back();
      if (!stack_.empty()) directories_.leave();
      return;
    }
    const format::DirEntry entry = level.inode.entry(level.next_entry++);
    if (const auto inode = find_present(metadata_, entry.ino)) make(*inode, entry.name);
  }

  void make(const Inode& inode, std::string_view entry_name) {
    const std::string name(entry_name);
    if (inode.type() == FileType::kDirectory) {
      if (::mkdirat(directories_.fd(), name.c_str(), kPrivateDirectory) != 0) {
        throw_errno("make the directory " + directories_.path_of(name));
      }
      directories_.enter(name);
      enter(inode, entry_name);
      return;
    }
    const auto [first, is_new] =
        first_names_.try_emplace(inode.number(), Place{stack_.back().place, entry_name});
    if (!is_new) {
      make_link(first->second, name);
      return;
    }
    if (inode.type() == FileType::kRegular) {
      make_file(inode, name);
    } else if (!make_special(inode, name)) {
      first_names_.erase(inode.number());  // nothing that another name could be linked to
      return;
    }
    ++inodes_;
  }

  // Goes on with the entries of the directory that has just become the current one.
  void enter(const Inode& inode, std::string_view name) {
    if (inode.type() != FileType::kDirectory) {
      throw CorruptError("The image's root is not a directory.");
    }
    if (!visited_.insert(inode.number()).second) {
      throw CorruptError("The image is malformed: it has the directory " + directories_.path() +
                         " a second time elsewhere.");
    }
    ++inodes_;
    const std::size_t parent = stack_.empty() ? 0 : stack_.back().place;
    places_.push_back({parent, name});
    stack_.push_back({inode, inode.entry_count(), 0, places_.size() - 1});
  }

  void make_file(const Inode& inode, const std::string& name) {
    fetch::FileDescriptor fd(::openat(directories_.fd(), name.c_str(),
                                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                      kPrivateFile));
    std::string path = directories_.path_of(name);
    if (!fd) throw_errno("create the file " + path);
    filler_.add(std::move(fd), inode, std::move(path));
  }

  // Whether it was made: devices are for the privileged.
  bool make_special(const Inode& inode, const std::string& name) {
    const std::string path = directories_.path_of(name);
    if (make_node(inode, name) != 0) {
      if (errno != EPERM || !is_device(inode)) throw_errno("create " + path);
      left_out_.devices.add(path);
      return false;
    }
    const fetch::FileDescriptor fd(
        ::openat(directories_.fd(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) throw_errno("open " + path);
    apply_attributes(fd.get(), inode, path, left_out_);
    return true;
  }

  int make_node(const Inode& inode, const std::string& name) {
    const int directory = directories_.fd();
    const auto make = [&](mode_t type, dev_t device) {
      return ::mknodat(directory, name.c_str(), type | kPrivateFile, device);
    };
    const dev_t device = device_of(inode, name);
    switch (inode.type()) {
      case FileType::kSymlink:
        return ::symlinkat(std::string(inode.symlink_target()).c_str(), directory, name.c_str());
      case FileType::kFifo:
        return make(S_IFIFO, 0);
      case FileType::kSocket:
        return make(S_IFSOCK, 0);
      case FileType::kCharacterDevice:
        return make(S_IFCHR, device);
      case FileType::kBlockDevice:
        return make(S_IFBLK, device);
      default:
        throw CorruptError("The image is malformed: " + directories_.path_of(name) +
                           " is of no kind that a file can be of.");
    }
  }

  // mknod(2) would cut a larger number down to that of some other device.
  dev_t device_of(const Inode& inode, const std::string& name) {
    const format::DeviceNumber number = inode.device();
    if (number.major >= kMajorLimit || number.minor >= kMinorLimit) {
      throw Error(EINVAL, "The device " + directories_.path_of(name) +
                              " has a number that Linux does not know.");
    }
    return makedev(number.major, number.minor);
  }

  void make_link(const Place& first, const std::string& name) {
    const fetch::FileDescriptor opened = open_place(first.parent);
    const int directory = opened ? opened.get() : directories_.root_fd();
    if (::linkat(directory, std::string(first.name).c_str(), directories_.fd(), name.c_str(), 0) !=
        0) {
      throw_errno("make the hard link " + directories_.path_of(name));
    }
  }

  // A directory made before, reached from the root step by step; empty for the root itself.
  fetch::FileDescriptor open_place(std::size_t place) {
    std::vector<std::string_view> names;
    for (; place != 0; place = places_[place].parent) names.push_back(places_[place].name);
    fetch::FileDescriptor fd;
    for (auto name = names.rbegin(); name != names.rend(); ++name) {
      const int parent = fd ? fd.get() : directories_.root_fd();
      fd = open_subdirectory(parent, std::string(*name).c_str());
      if (!fd) throw_errno("find the directory " + std::string(*name) + " of a hard link again");
    }
    return fd;
  }

  const format::Metadata& metadata_;
  DirectoryStack directories_;
  LeftOut left_out_;
  FileFiller filler_;
  std::vector<Level> stack_;
  std::vector<Place> places_;                           // the root first
  std::unordered_set<InodeNumber> visited_;             // directories
  std::unordered_map<InodeNumber, Place> first_names_;  // of all others
  std::uint64_t inodes_ = 0;
};

fetch::FileDescriptor open_target(const std::filesystem::path& target) {
  if (::mkdir(target.c_str(), kTargetMode) != 0 && errno != EEXIST) {
    throw_errno("make the directory " + target.string());
  }
  fetch::FileDescriptor fd(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open the directory " + target.string());
  return fd;
}

}  // namespace

ExtractResult extract_image(fetch::Image& image, const std::filesystem::path& target,
                            const std::function<void(std::uint64_t bytes)>& on_progress) {
  DirectoryStack directories(open_target(target), target.string());
  if (!directories.names().empty()) {
    throw Error(ENOTEMPTY, "The directory " + target.string() +
                               " is not empty; extract into a new or an empty one.");
  }
  try {
    return Extraction(image, std::move(directories), on_progress).run();
  } catch (...) {
    spdlog::warn("{} holds the part of the image that was extracted.", target.string());
    throw;
  }
}

}  // namespace puzzlefs::build
