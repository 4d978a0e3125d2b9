#!/usr/bin/env bash
# The tree, the extracted tree, and the tree mounted from a registry or from a layout are equal; and
# so it is when built with compression, pulled, or built again with another number of threads.
source "$(dirname "$0")/../lib.sh"

digest_of() {
  "$puzzlefs" inspect "$1" --format json | jq -er .digest
}

size=$(du -s --apparent-size --block-size=1M "$rootfs" | cut -f 1)
[[ $rootfs == *.small ]] || ((size >= 150)) || fail "the tree has only $size MiB"

step "mounted from a registry"
start_full_registry
mount_image "$registry/debian"
same_tree "$state/listing" "$mnt"
unmount

step "extracted from a registry"
"$puzzlefs" extract "$registry/debian" "$work/extracted"
same_tree "$state/listing" "$work/extracted"
rm -rf "$work/extracted"

step "mounted from a layout"
mount_image "$state/layout"
same_tree "$state/listing" "$mnt"
unmount

step "pulled and extracted"
"$puzzlefs" pull "$registry/debian" "$work/pulled:copy"
[[ $(digest_of "$work/pulled:copy") == "$(digest_of "$state/layout")" ]] || fail "pull changed the digest"
"$puzzlefs" extract "$work/pulled:copy" "$work/extracted"
same_tree "$state/listing" "$work/extracted"

step "built again, with one thread, from what was extracted"
"$puzzlefs" build --threads 1 "$work/extracted" "$work/again"
[[ $(digest_of "$work/again") == "$(digest_of "$state/layout")" ]] || fail "the same tree gives another image"

step "built with compression and mounted from a registry"
"$puzzlefs" build --compression "$rootfs" "$work/again:compressed"
"$puzzlefs" push --layout keep "$work/again:compressed" "$registry/debian:compressed"
mount_image "$registry/debian:compressed"
same_tree "$state/listing" "$mnt"
unmount
