# The metadata of a PuzzleFS image: the tree of one file system and the chunks its files are made of.
# Version 3 is that of the Rust puzzlefs 0.2, version 4 appends to it; nothing is ever renumbered. See
# doc/format.md.
@0x84ae5e6e88b7cbb7;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("puzzlefs::format::schema");

struct Rootfs {
  metadatas @0 :List(InodeVector);  # the topmost layer first
  fsVerityData @1 :List(VerityData);  # sorted by digest, one entry per distinct chunk
  manifestVersion @2 :UInt64;
  packs @3 :List(Pack);  # version 4
  chunks @4 :List(Chunk);  # version 4: ascending by pack and offset
}

struct InodeVector {
  inodes @0 :List(Inode);  # ascending by ino
}

struct Inode {
  ino @0 :UInt64;
  mode :union {
    unknown @1 :Void;
    fifo @2 :Void;
    chr @3 :Chr;
    dir @4 :Dir;
    blk @5 :Blk;
    file @6 :List(FileChunk);
    lnk @7 :Void;
    sock @8 :Void;
    wht @9 :Void;
  }
  uid @10 :UInt32;
  gid @11 :UInt32;
  permissions @12 :UInt16;  # the low 12 bits of st_mode
  additional @13 :InodeAdditional;
  # Appended in version 4; in version 3 they are zero where they are absent.
  mtime @14 :Int64;  # nanoseconds since 1970
  size @15 :UInt64;  # of a regular file
  nlink @16 :UInt32;  # 0: not recorded
}

struct Chr {
  major @0 :UInt64;
  minor @1 :UInt64;
}

struct Blk {
  major @0 :UInt64;
  minor @1 :UInt64;
}

struct Dir {
  entries @0 :List(DirEntry);
  lookBelow @1 :Bool;
}

struct DirEntry {
  ino @0 :UInt64;
  name @1 :Data;
}

struct FileChunk {
  blob @0 :BlobRef;
  len @1 :UInt64;
  # Version 4 has these two instead of `blob`.
  chunk @2 :UInt32;  # index in Rootfs.chunks
  offset @3 :UInt32;  # in the uncompressed chunk
}

struct BlobRef {
  digest @0 :Data;
  offset @1 :UInt64;  # in the uncompressed chunk
  compressed @2 :Bool;
}

struct InodeAdditional {
  xattrs @0 :List(Xattr);
  symlinkTarget @1 :Data;
}

struct Xattr {
  key @0 :Data;
  val @1 :Data;
}

# A blob that holds chunks one behind the other.
struct Pack {
  digest @0 :Data;
  size @1 :UInt64;
  hotSize @2 :UInt64;  # the first so many bytes are what a start was seen to need, in that order
}

# A chunk is one zstd frame in its pack if storedSize is less than size, else it is stored as it is.
struct Chunk {
  # SHA-256 of the uncompressed bytes, as four little-endian words.
  digest0 @0 :UInt64;
  digest1 @1 :UInt64;
  digest2 @2 :UInt64;
  digest3 @3 :UInt64;
  offset @4 :UInt64;  # in the pack
  storedSize @5 :UInt32;
  size @6 :UInt32;
  pack @7 :UInt16;  # index in Rootfs.packs
}

struct VerityData {
  digest @0 :Data;
  verity @1 :Data;
}
