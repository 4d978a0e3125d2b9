# The metadata of a PuzzleFS image: the tree of one file system and the chunks its files are made of.
# Compatible with the Rust puzzlefs 0.2; fields may be appended, never renumbered. See doc/format.md.
@0x84ae5e6e88b7cbb7;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("puzzlefs::format::schema");

struct Rootfs {
  metadatas @0 :List(InodeVector);  # the topmost layer first
  fsVerityData @1 :List(VerityData);  # sorted by digest, one entry per distinct chunk
  manifestVersion @2 :UInt64;
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

struct VerityData {
  digest @0 :Data;
  verity @1 :Data;
}
