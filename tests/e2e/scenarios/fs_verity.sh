#!/usr/bin/env bash
# fs-verity in a kernel that has it, in a virtual machine: enabling, mounting by digest, and what a
# reader sees when a blob is falsified on the disk, under the file system. tests/e2e/guest/fs_verity.sh
# is what happens there.
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/../virtual_machine.sh"

readonly disk=$work/disk
readonly layout=$disk/sealed

# block_of BLOB OFFSET: the block of the disk image that holds this byte of a blob.
block_of() {
  debugfs -R "bmap /sealed/blobs/sha256/$1 $(($2 / 4096))" "$work/disk.img" 2>/dev/null
}

step "a kernel"
fetch_kernel

step "an image of several chunks, and metadata of several pages"
mkdir -p "$disk/tree/names"
head -c 1000000 /dev/urandom >"$disk/tree/large"
seq 100000 >"$disk/tree/small"
for i in {1..400}; do echo "$i" >"$disk/tree/names/a-name-that-takes-its-place-$i"; done
digest=$("$puzzlefs" build "$disk/tree" "$layout" 2>/dev/null | sed 's/.*digest: //')
cp -a "$layout" "$disk/plain"

manifest=$("$puzzlefs" inspect --format json "$layout" | jq -r .digest | cut -d : -f 2)
metadata=$(python3 "$here/file_chunks.py" "$layout" latest | cut -d : -f 2)
# The two files meet within a chunk: the one to falsify is of the large file alone.
python3 "$here/file_chunks.py" "$layout" latest large >"$work/large.chunks"
python3 "$here/file_chunks.py" "$layout" latest small >"$work/small.chunks"
chunk=$(comm -23 "$work/large.chunks" "$work/small.chunks" | sed -n '1s/^sha256://p')
[[ $chunk ]] || fail "the large file has no chunk of its own"
metadata_size=$(stat -c %s "$layout/blobs/sha256/$metadata")
((metadata_size > 40000)) || fail "the metadata has only $metadata_size bytes"

mkdir "$work/golden"
zstd -dcq "$project/tests/fixtures/kinds.oci.tar.zst" | tar -x -C "$work/golden"
mv "$work"/golden/* "$disk/rust"
rust_digest=$("$puzzlefs" inspect --format json "$disk/rust:kinds-compressed" | jq -r .manifest_verity)

# What another program than ours says of fs-verity.
for blob in "$layout"/blobs/sha256/*; do
  echo "$(basename "$blob") $(fsverity digest --compact "$blob")"
done >"$disk/verity"
grep -qx "$manifest $digest" "$disk/verity" || fail "build printed another digest than fsverity"

step "a disk"
truncate -s 32M "$work/disk.img"
mkfs.ext4 -q -F -b 4096 -O verity -d "$disk" "$work/disk.img"
{
  echo "digest=$digest manifest=$manifest metadata=$metadata chunk=$chunk large=large small=small"
  echo "manifest_block=$(block_of "$manifest" 0) chunk_block=$(block_of "$chunk" 0)"
  echo "rust_digest=$rust_digest"
  echo "metadata_block=$(block_of "$metadata" $((metadata_size - 6000)))"
} >"$work/facts"
debugfs -w -R "write $work/facts facts" "$work/disk.img" >/dev/null 2>&1

step "the machine"
make_guest "$here/guest/fs_verity.sh" "$puzzlefs" "$(command -v fsverity)"
run_guest "$work/disk.img"
