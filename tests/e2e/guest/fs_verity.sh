#!/bin/sh
# shellcheck disable=SC2154  # /disk/facts has the variables
# In the virtual machine: images on ext4 with fs-verity. /dev/vda holds the tree, the layout "sealed" of
# it and its copy "plain", a layout "rust" of the Rust puzzlefs, and in "facts" what the host knows of
# them.
set -eu
cd /

step() { echo "-- $*"; }

fail() {
  echo "FAILED: $*"
  tail -n 20 /tmp/log 2>/dev/null
  exit 1
}

# refused PATTERN COMMAND...: the command fails, and says so.
refused() {
  pattern=$1
  shift
  if "$@" >/dev/null 2>/tmp/out; then fail "$* was let through"; fi
  grep -Eq -- "$pattern" /tmp/out || fail "$* said: $(cat /tmp/out)"
}

# As the digest that "fsverity measure" prints.
measure() {
  fsverity measure "$1" 2>/dev/null | sed 's/^sha256:\([0-9a-f]*\) .*/\1/'
}

mount_image() {
  puzzlefs mount --log-file /tmp/log "$@" /mnt
}

unmount() {
  puzzlefs umount /mnt
  if grep -q ' /mnt ' /proc/mounts; then fail "still mounted"; fi
}

# write_block FILE BLOCK: on the device, for whoever reads from now on.
write_block() {
  dd if="$1" of=/dev/vda bs=4096 seek="$2" conv=notrunc 2>/dev/null
  sync
  echo 3 >/proc/sys/vm/drop_caches
}

# with_falsified BLOCK COMMAND...: with this block of the device changed, under the file system.
with_falsified() {
  block=$1
  shift
  umount /disk
  dd if=/dev/vda of=/tmp/saved bs=4096 skip="$block" count=1 2>/dev/null
  tr '\000-\377' '\001-\377\000' </tmp/saved >/tmp/false
  write_block /tmp/false "$block"
  mount -t ext4 /dev/vda /disk
  "$@"
  umount /disk
  write_block /tmp/saved "$block"
  mount -t ext4 /dev/vda /disk
}

mount -t ext4 /dev/vda /disk
# shellcheck disable=SC1091
. /disk/facts
sealed=/disk/sealed
wrong=$(echo "$digest" | tr 0-9a-f 1-9a-f0)

step "a wrong digest changes nothing"
refused "fs-verity digest $digest, not $wrong" puzzlefs enable-fs-verity $sealed "$wrong"
for blob in "$sealed"/blobs/sha256/*; do
  [ -z "$(measure "$blob")" ] || fail "$blob has fs-verity"
done

step "a program that writes to a blob is in the way"
exec 3>>"$sealed/blobs/sha256/$chunk"
refused "$chunk.*open for writing" puzzlefs enable-fs-verity $sealed "$digest"
exec 3>&-

step "enabled, twice"
puzzlefs enable-fs-verity $sealed "$digest"
puzzlefs enable-fs-verity $sealed "$digest"
while read -r blob verity; do
  [ "$(measure "$sealed/blobs/sha256/$blob")" = "$verity" ] || fail "the kernel measures another $blob"
done </disk/verity
refused "not permitted" sh -c ": >>$sealed/blobs/sha256/$chunk"

step "mounted by its digest, without a word"
refused "fs-verity digest $digest, not $wrong" mount_image --digest "$wrong" $sealed
mount_image --digest "$digest" --require-fs-verity $sealed >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
[ ! -s /tmp/out ] || fail "mount said: $(cat /tmp/out)"
diff -r /disk/tree /mnt || fail "the trees differ"
unmount

step "without fs-verity: mounted with a warning, or refused"
mount_image --digest "$digest" /disk/plain 2>/tmp/out
grep -q "fs-verity is not enabled on /disk/plain" /tmp/out || fail "no warning: $(cat /tmp/out)"
diff -r /disk/tree /mnt || fail "the trees differ"
unmount
refused "enable-fs-verity" mount_image --digest "$digest" --require-fs-verity /disk/plain

step "a chunk without fs-verity, where it is required"
cp "$sealed/blobs/sha256/$chunk" /tmp/chunk
mv "$sealed/blobs/sha256/$chunk" /disk/kept
cp /tmp/chunk "$sealed/blobs/sha256/$chunk"
mount_image --digest "$digest" --require-fs-verity $sealed
refused "Input/output error" cat "/mnt/$large"
grep -q "fs-verity is required, but .*$chunk" /tmp/log || fail "the log does not say why"
unmount

step "a chunk with fs-verity and other bytes"
printf 'other' >"$sealed/blobs/sha256/$chunk"
fsverity enable "$sealed/blobs/sha256/$chunk"
mount_image --digest "$digest" $sealed
refused "Input/output error" cat "/mnt/$large"
grep -q "$chunk has the fs-verity digest" /tmp/log || fail "the log does not say why"
unmount
mv /disk/kept "$sealed/blobs/sha256/$chunk"

read_with_broken_chunk() {
  : >/tmp/log
  mount_image --digest "$digest" --require-fs-verity $sealed
  refused "Input/output error" cat "/mnt/$large"
  grep -q "$chunk: Input/output error" /tmp/log || fail "the log does not name the blob"
  cmp "/mnt/$small" "/disk/tree/$small" || fail "another file cannot be read"
  unmount
}
step "a chunk falsified on the device"
with_falsified "$chunk_block" read_with_broken_chunk

look_with_broken_metadata() {
  : >/tmp/log
  mount_image --digest "$digest" --require-fs-verity $sealed
  refused "Input/output error" ls -lR /mnt
  grep -q "$metadata can no longer be read" /tmp/log || fail "the log does not name the blob"
  refused "Input/output error" cat "/mnt/$small"
  unmount
}
step "the end of the metadata falsified on the device"
with_falsified "$metadata_block" look_with_broken_metadata

refuse_broken_manifest() {
  refused "$manifest: Input/output error" mount_image --digest "$digest" $sealed
}
step "the manifest falsified on the device"
with_falsified "$manifest_block" refuse_broken_manifest

step "an image whose records are wrong, as the Rust puzzlefs makes it"
mount_image --digest "$rust_digest" /disk/rust:kinds-compressed 2>/dev/null
find /mnt -type f -exec cat {} + >/dev/null || fail "not all of it can be read"
unmount
refused "the record wrong" puzzlefs enable-fs-verity /disk/rust:kinds-compressed "$rust_digest"
# What got fs-verity on the way is held to its record.
mount_image --digest "$rust_digest" /disk/rust:kinds-compressed 2>/dev/null
refused "Input/output error" find /mnt -type f -exec cat {} +
unmount

step "all as it was"
mount_image --digest "$digest" --require-fs-verity $sealed
diff -r /disk/tree /mnt || fail "the trees differ"
unmount
umount /disk
