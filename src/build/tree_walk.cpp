#include "build/tree_walk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "build/directory_stack.h"
#include "build/inode_numbers.h"
#include "build/xattrs.h"
#include "format/error.h"
#include "format/nanoseconds.h"

namespace puzzlefs::build {
namespace {

using format::FileType;
using format::InodeNumber;
using format::InodeRecord;

// What the Rust puzzlefs gives its whiteouts.
constexpr std::uint16_t kWhiteoutPermissions = 0644;

FileType type_of(mode_t mode, const std::string& path) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return FileType::kRegular;
    case S_IFDIR:
      return FileType::kDirectory;
    case S_IFLNK:
      return FileType::kSymlink;
    case S_IFCHR:
      return FileType::kCharacterDevice;
    case S_IFBLK:
      return FileType::kBlockDevice;
    case S_IFIFO:
      return FileType::kFifo;
    case S_IFSOCK:
      return FileType::kSocket;
    default:
      throw Error(EINVAL, path + " is of a kind that an image cannot hold.");
  }
}

InodeRecord make_record(InodeNumber number, const struct stat& status, const std::string& path) {
  InodeRecord record;
  record.ino = number;
  record.type = type_of(status.st_mode, path);
  record.uid = status.st_uid;
  record.gid = status.st_gid;
  record.permissions = status.st_mode & 07777;
  record.mtime = format::to_nanoseconds(status.st_mtim);
  if (record.type == FileType::kCharacterDevice || record.type == FileType::kBlockDevice) {
    record.device = {.major = major(status.st_rdev), .minor = minor(status.st_rdev)};
  }
  return record;
}

std::string read_link(int directory, const std::string& name, const std::string& path) {
  std::array<char, format::kMaxSymlinkSize + 1> target;
  const ssize_t size = ::readlinkat(directory, name.c_str(), target.data(), target.size());
  if (size < 0) throw_errno("read the symbolic link " + path);
  return {target.data(), static_cast<std::size_t>(size)};
}

class Walk {
 public:
  Walk(DirectoryStack directories, const format::Metadata* base, const FileVisitor& visitor)
      : directories_(std::move(directories)), base_(base), numbers_(base), visitor_(visitor) {}

  std::vector<InodeRecord> run() {
    take_root();
    while (!pending_.empty()) {
      const Directory next = std::move(pending_.back());
      pending_.pop_back();
      while (directories_.depth() > next.parent_depth) directories_.leave();
      directories_.enter(next.name);
      take_children(next.record, next.number);
    }
    for (const InodeNumber number : numbers_.whiteouts()) {
      records_.push_back(
          {.ino = number, .type = FileType::kWhiteout, .permissions = kWhiteoutPermissions});
    }
    return std::move(records_);
  }

 private:
  // A directory that has its number; its children have not.
  struct Directory {
    std::size_t record;
    InodeNumber number;
    std::size_t parent_depth;
    std::string name;
  };

  void take_root() {
    struct stat status {};
    const std::string path = directories_.path();
    if (::fstat(directories_.fd(), &status) != 0) throw_errno("examine " + path);
    device_ = status.st_dev;
    records_.push_back(make_record(format::kRootInode, status, path));
    records_.back().xattrs = read_xattrs(directories_.fd(), path);
    take_children(0, format::kRootInode);
  }

  // Numbers the children of the current directory, which has `number` and of which `record` tells.
  void take_children(std::size_t record, InodeNumber number) {
    const std::vector<std::string> names = directories_.names();
    const BaseDirectory base = numbers_.enter(number, names);
    std::vector<format::DirEntryRecord> entries;
    entries.reserve(names.size());
    std::vector<Directory> subdirectories;
    for (const std::string& name : names) {
      const std::string path = directories_.path_of(name);
      struct stat status {};
      if (::fstatat(directories_.fd(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        throw_errno("examine " + path);
      }
      const auto [child, is_new] = numbers_.number_for(status, base, name);
      entries.push_back({child, name});
      if (!is_new) continue;

      if (S_ISDIR(status.st_mode) && status.st_dev == device_) {
        subdirectories.push_back({records_.size(), child, directories_.depth(), name});
      }
      records_.push_back(make_record(child, status, path));
      fill(records_.back(), status, name, path);
    }
    records_[record].entries = std::move(entries);
    // The last comes off the stack first.
    std::move(subdirectories.rbegin(), subdirectories.rend(), std::back_inserter(pending_));
  }

  void fill(InodeRecord& record, const struct stat& status, const std::string& name,
            const std::string& path) {
    if (record.type == FileType::kRegular) {
      take_file(record, status, name, path);
      return;
    }
    record.xattrs = read_xattrs_at(directories_.fd(), name, path);
    if (record.type == FileType::kSymlink) {
      record.symlink_target = read_link(directories_.fd(), name, path);
    }
  }

  void take_file(InodeRecord& record, const struct stat& status, const std::string& name,
                 const std::string& path) {
    if (is_known(record.ino, status)) return take_known(record, status, name, path);
    // O_NONBLOCK: should a fifo have taken the file's place, open must not wait for a writer.
    const fetch::FileDescriptor fd(
        ::openat(directories_.fd(), name.c_str(),
                 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat opened {};
    if (!fd || ::fstat(fd.get(), &opened) != 0) throw_errno("read " + path);
    expect_same(status, opened, path);
    record.xattrs = read_xattrs(fd.get(), path);
    visitor_.on_file(
        {.record = records_.size() - 1, .fd = fd.get(), .status = opened, .path = path});
  }

  void take_known(InodeRecord& record, const struct stat& status, const std::string& name,
                  const std::string& path) {
    record.xattrs = read_xattrs_at(directories_.fd(), name, path);
    struct stat now {};
    if (::fstatat(directories_.fd(), name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0)
      throw_errno("examine " + path);
    expect_same(status, now, path);
  }

  static void expect_same(const struct stat& before, const struct stat& now,
                          const std::string& path) {
    if (now.st_dev == before.st_dev && now.st_ino == before.st_ino) return;
    throw Error(EBUSY, path +
                           " was replaced while the tree was read; try again when nothing "
                           "changes it.");
  }

  // A number that the base has was given for the path that it has it for.
  bool is_known(InodeNumber number, const struct stat& status) const {
    if (base_ == nullptr || !visitor_.is_known) return false;
    const auto inode = base_->find(number);
    return inode && visitor_.is_known(records_.size() - 1, status, *inode);
  }

  DirectoryStack directories_;
  const format::Metadata* const base_;
  InodeNumbers numbers_;
  const FileVisitor& visitor_;
  dev_t device_ = 0;
  std::vector<InodeRecord> records_;
  std::vector<Directory> pending_;
};

}  // namespace

std::vector<format::InodeRecord> walk_tree(const std::filesystem::path& root,
                                           const format::Metadata* base,
                                           const FileVisitor& visitor) {
  fetch::FileDescriptor fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open the directory " + root.string());
  return Walk(DirectoryStack(std::move(fd), root.string()), base, visitor).run();
}

}  // namespace puzzlefs::build
