// The link counts of a tree, as stat(2) would give them were it a file system of its own.
#pragma once

#include <vector>

#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// Gives each inode of a tree, which ascend by number, its link count: of a file the names it has
/// in the tree, since others that it may have elsewhere are not in the image; of a directory 2 and
/// one for each subdirectory. Whiteouts have none.
void count_links(std::vector<format::InodeRecord>& inodes);

}  // namespace puzzlefs::build
