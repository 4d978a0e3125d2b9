// Files and links that appear under their names all at once, when they are whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "fetch/file_descriptor.h"
#include "format/bytes.h"

namespace puzzlefs::fetch {

/// A file under a temporary name, removed on destruction unless it was renamed. Every method throws
/// Error.
class TempFile {
 public:
  /// The mode is `mode` less the umask.
  TempFile(const std::filesystem::path& directory, unsigned mode);
  ~TempFile();
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Takes the room for so many bytes on the disk, where its file system can do that.
  void reserve(std::uint64_t size);
  /// Appends.
  void write(ByteView data);
  void flush();
  /// All is written: the file, open for reading.
  FileDescriptor reopen();
  /// `path` must lie on the same file system.
  void rename_to(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  bool renamed_ = false;
};

/// Makes `path` a symbolic link to `target`, by way of a temporary name as write_file_atomically().
/// Throws Error, and leaves nothing behind then.
void link_atomically(const std::filesystem::path& path, const std::filesystem::path& temp_directory,
                     const std::string& target);

}  // namespace puzzlefs::fetch
