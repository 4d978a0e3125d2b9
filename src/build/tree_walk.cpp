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
  record.link_count = record.type == FileType::kDirectory ? 2 : 1;
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
  Walk(DirectoryStack directories, const format::Metadata* base, TreeVisitor& visitor)
      : directories_(std::move(directories)),
        numbers_(base),
        visitor_(visitor),
        device_(directories_.status().st_dev) {}

  void run() {
    take_directory(format::kRootInode);
    while (!pending_.empty()) {
      const Directory next = std::move(pending_.back());
      pending_.pop_back();
      while (directories_.depth() > next.parent_depth) directories_.leave();
      directories_.enter(next.name);
      take_directory(next.number);
    }
    for (const InodeNumber number : numbers_.whiteouts()) {
      visitor_.on_inode(
          {.ino = number, .type = FileType::kWhiteout, .permissions = kWhiteoutPermissions});
    }
  }

 private:
  // A directory that has its number; its children have not.
  struct Directory {
    InodeNumber number;
    std::size_t parent_depth;
    std::string name;
  };

  // The current directory, which has `number`: its children get theirs.
  void take_directory(InodeNumber number) {
    const std::string path = directories_.path();
    InodeRecord record = make_record(number, directories_.status(), path);
    record.xattrs = read_xattrs(directories_.fd(), path);
    std::vector<std::string> names = directories_.names();
    const BaseDirectory base = numbers_.enter(number, names);
    record.entries.reserve(names.size());
    std::vector<Directory> subdirectories;
    for (std::string& name : names) {
      const struct stat status = status_of(name);
      const auto [child, is_new] = numbers_.number_for(status, base, name);
      if (S_ISDIR(status.st_mode)) ++record.link_count;
      if (!is_new) {
        visitor_.on_link(child);
      } else if (S_ISDIR(status.st_mode) && status.st_dev == device_) {
        subdirectories.push_back({child, directories_.depth(), name});
      } else {
        take_child(child, status, name);
      }
      record.entries.push_back({child, std::move(name)});
    }
    visitor_.on_inode(std::move(record));
    // The last comes off the stack first.
    std::move(subdirectories.rbegin(), subdirectories.rend(), std::back_inserter(pending_));
  }

  struct stat status_of(const std::string& name) const {
    struct stat status {};
    if (::fstatat(directories_.fd(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      throw_errno("examine " + directories_.path_of(name));
    return status;
  }

  void take_child(InodeNumber number, const struct stat& status, const std::string& name) {
    const std::string path = directories_.path_of(name);
    InodeRecord record = make_record(number, status, path);
    if (record.type == FileType::kRegular) {
      take_file(record, status, name, path);
    } else {
      record.xattrs = read_xattrs_at(directories_.fd(), name, path);
    }
    if (record.type == FileType::kSymlink)
      record.symlink_target = read_link(directories_.fd(), name, path);
    visitor_.on_inode(std::move(record));
  }

  void take_file(InodeRecord& record, const struct stat& status, const std::string& name,
                 const std::string& path) {
    if (visitor_.is_known(status, record.ino)) return take_known(record, status, name, path);
    // O_NONBLOCK: should a fifo have taken the file's place, open must not wait for a writer.
    const fetch::FileDescriptor fd(
        ::openat(directories_.fd(), name.c_str(),
                 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat opened {};
    if (!fd || ::fstat(fd.get(), &opened) != 0) throw_errno("read " + path);
    expect_same(status, opened, path);
    record.xattrs = read_xattrs(fd.get(), path);
    visitor_.on_file({.fd = fd.get(), .status = opened, .path = path});
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

  DirectoryStack directories_;
  InodeNumbers numbers_;
  TreeVisitor& visitor_;
  const dev_t device_;
  std::vector<Directory> pending_;
};

}  // namespace

void walk_tree(const std::filesystem::path& root, const format::Metadata* base,
               TreeVisitor& visitor) {
  fetch::FileDescriptor fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open the directory " + root.string());
  Walk(DirectoryStack(std::move(fd), root.string()), base, visitor).run();
}

}  // namespace puzzlefs::build
