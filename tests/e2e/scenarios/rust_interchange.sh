#!/usr/bin/env bash
# Images pass between this program and the Rust puzzlefs 0.2.0 in both directions: the same tree
# gives the same image, and each reads what the other wrote. PUZZLEFS_RUST is the Rust program.
# It brings its own release of zstd, 1.5.7, and Debian's 1.5.4 compresses some bytes otherwise: where
# RUST_ZSTD is a directory with a libzstd.so.1 of that release, compressed chunks are compared too.
#
# What of a tree the Rust program does not give back, as measured here:
# - its mount: link counts (all 0) and device numbers (all 0:0);
# - its extract: set-id bits and capabilities (it changes the owner last), sockets (it panics), links
#   that lead nowhere (it changes the owner of where they lead). Hence it extracts only trees that
#   are made for it: of others it might change the owners of files of this machine.
if [[ -z ${PUZZLEFS_RUST:-} ]]; then
  echo "Skipped: needs the Rust puzzlefs. Install it and say where it is: apt-get install capnproto;" \
    "RUSTC_BOOTSTRAP=1 cargo install puzzlefs --version 0.2.0 --root DIR;" \
    "export PUZZLEFS_RUST=DIR/bin/puzzlefs" >&2
  exit 77
fi
unset E2E_IN_MEMORY # tmpfs lists extended attributes in another order, in which the Rust program stores them
source "$(dirname "$0")/../lib.sh"

readonly ours=$work/ours theirs=$work/theirs

rust() {
  "$PUZZLEFS_RUST" "$@" 2>>"$work/rust.log"
}

# --- Looking into images ------------------------------------------------------------------------

# layers LAYOUT:TAG: the digests of the metadata and of the chunks in stream order, one a line.
layers() {
  local layout=${1%:*} digest
  digest=$(jq -r --arg tag "${1##*:}" '.manifests[] |
    select(.annotations["org.opencontainers.image.ref.name"] == $tag) | .digest' "$layout/index.json")
  jq -r '.layers[].digest' "$layout/blobs/sha256/${digest#sha256:}"
}

metadata() { layers "$1" | sed -n 1p; }

chunks() { layers "$1" | sed 1d; }

# segments LAYOUT:TAG: how many Cap'n Proto segments the metadata has.
segments() {
  local digest
  digest=$(metadata "$1")
  echo $(($(od -An -tu4 -N 4 "${1%:*}/blobs/sha256/${digest#sha256:}") + 1))
}

same_chunks() {
  diff <(chunks "$ours:$1") <(chunks "$theirs:$1") >"$work/diff" ||
    fail "the chunks of $1 differ: $(head -n 5 "$work/diff")"
}

# --- Reading by one program and the other -------------------------------------------------------

# reads TREE IMAGE: what we mount and extract of the image is the tree.
reads() {
  list_tree "$1" >"$work/listing"
  mount_image "$2"
  same_tree "$work/listing" "$mnt"
  unmount
  "$puzzlefs" extract "$2" "$work/extracted"
  same_tree "$work/listing" "$work/extracted"
  rm -r "$work/extracted"
}

# rust_mounts TREE IMAGE: what it mounts of the image is the tree.
rust_mounts() {
  list_tree "$1" --without nlink,device >"$work/listing"
  rust mount -f "$2" "$mnt" &
  local process=$!
  wait_until mountpoint -q "$mnt"
  same_tree "$work/listing" "$mnt" --without nlink,device
  umount "$mnt"
  wait "$process" || true # it unmounts a second time and fails
}

rust_extracts() {
  rust extract "$2" "$work/extracted"
  list_tree "$1" >"$work/listing"
  same_tree "$work/listing" "$work/extracted"
  rm -r "$work/extracted"
}

# --- Trees --------------------------------------------------------------------------------------

# same_image NAME TREE: both programs make the same of it, to the bit.
same_image() {
  local verity rust_verity
  verity=$("$puzzlefs" build "$2" "$ours:$1")
  rust_verity=$(rust build "$2" "$theirs:$1")
  same_chunks "$1"
  [[ $(metadata "$ours:$1") == $(metadata "$theirs:$1") ]] ||
    fail "the metadata of $1 differs"
  [[ $verity == "$rust_verity" ]] || fail "of $1 we printed \"$verity\" and it \"$rust_verity\""
}

# same_compressed NAME TREE: the metadata differs, for the Rust program notes wrong fs-verity digests
# of chunks that do not compress.
same_compressed() {
  LD_LIBRARY_PATH=${RUST_ZSTD:-} "$puzzlefs" build --compression "$2" "$ours:$1"
  rust build --compression "$2" "$theirs:$1"
  if [[ -n ${RUST_ZSTD:-} ]]; then
    same_chunks "$1"
  else
    [[ $(chunks "$ours:$1" | wc -l) == $(chunks "$theirs:$1" | wc -l) ]] ||
      fail "the compressed $1 is cut differently"
  fi
}

step "the golden tree"
bash "$project/tests/fixtures/kinds.sh" "$work/kinds"
python3 "$here/sort_xattrs.py" "$work/kinds"
same_image kinds "$work/kinds"
same_compressed kinds-compressed "$work/kinds"
for tag in kinds kinds-compressed; do
  rust_mounts "$work/kinds" "$ours:$tag"
  reads "$work/kinds" "$theirs:$tag"
done

step "a Debian"
cp -a --reflink=auto "$rootfs" "$work/debian"
python3 "$here/sort_xattrs.py" "$work/debian"
same_image debian "$work/debian"
rust_mounts "$work/debian" "$ours:debian"
reads "$work/debian" "$theirs:debian"
rm -r "$work/debian"

step "a large tree"
python3 "$here/make_large_tree.py" "$work/large"
same_image large "$work/large"
(($(segments "$ours:large") > 3)) || fail "the large tree's metadata has few segments"
same_compressed large-compressed "$work/large"
for tag in large large-compressed; do
  rust_mounts "$work/large" "$ours:$tag"
  rust_extracts "$work/large" "$ours:$tag"
  reads "$work/large" "$theirs:$tag"
done

# --- Deltas -------------------------------------------------------------------------------------

step "our delta, with names gone, changed, added and replaced"
cp -a "$work/kinds" "$work/second"
bash "$project/tests/fixtures/kinds-second.sh" "$work/second"
"$puzzlefs" build --base-layer kinds "$work/second" "$ours:delta"
"$puzzlefs" build --base-layer kinds "$work/second" "$theirs:our-delta"
for image in "$ours:delta" "$theirs:our-delta"; do
  rust_mounts "$work/second" "$image"
  reads "$work/second" "$image"
done

step "our delta to the large tree"
rm -r "$work/large/dir-07" "$work/large/large-0" "$work/large/dir-09/file-003"
echo "another" >"$work/large/dir-10/file-000"
mkdir "$work/large/new"
ln "$work/large/large-1" "$work/large/new/link"
"$puzzlefs" build --base-layer large "$work/large" "$ours:large-delta"
rust_mounts "$work/large" "$ours:large-delta"
rust_extracts "$work/large" "$ours:large-delta"

step "its delta with nothing gone: the same as ours"
cp -a "$work/kinds" "$work/grown"
echo "more" >"$work/grown/usr/lib/f3"
mkdir "$work/grown/added"
cp "$work/grown/bin/tool" "$work/grown/added/tool"
"$puzzlefs" build --base-layer kinds "$work/grown" "$ours:grown"
rust build --base-layer kinds "$work/grown" "$theirs:grown"
diff <(layers "$ours:grown") <(layers "$theirs:grown") >&2 || fail "the deltas differ"
reads "$work/grown" "$theirs:grown"
rust_mounts "$work/grown" "$ours:grown"

step "its delta with names gone: we leave these out, it cannot list their directory"
rust build --base-layer kinds "$work/second" "$theirs:delta"
# Of a file with a name left it cannot be told which of its names is gone.
ln "$work/second/usr/lib/libbig.so" "$work/second/usr/lib/libbig.so.1"
reads "$work/second" "$theirs:delta"

step "deltas upon each other's deltas"
rust build --base-layer our-delta "$work/grown" "$theirs:upon-ours"
reads "$work/grown" "$theirs:upon-ours"
"$puzzlefs" build --base-layer delta "$work/grown" "$theirs:upon-its"
reads "$work/grown" "$theirs:upon-its"
