// The tree of an image as records, for whoever writes its metadata anew.
#pragma once

#include <vector>

#include "format/metadata.h"
#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// The inodes of the tree that all layers together make, each once, in the order of their paths: a
/// directory before what it holds, and that sorted by name. What is deleted, or no directory names,
/// is not among them, nor are entries that name such. Where no link count is recorded it is the one
/// that a mount shows. Throws CorruptError for metadata that is malformed, or unfolds to more than
/// any image has.
std::vector<format::InodeRecord> read_tree_records(const format::Metadata& metadata);

}  // namespace puzzlefs::build
