#!/usr/bin/env bash
# A blob falsified in the registry's storage reads as EIO, one falsified in the cache as the right
# data, got anew: never a wrong byte.
source "$(dirname "$0")/../lib.sh"

readonly file=usr/bin/bash
start_full_registry
chunk=$(chunks_of "$file" | sed -n 4p)

step "a chunk falsified in the registry"
cp "$(registry_blob "$chunk")" "$work/right"
falsify "$(registry_blob "$chunk")"
mount_image "$registry/debian"
fails_with 1 'Input/output error' cat "$mnt/$file"
cat "$mnt/$file" >"$work/partial" 2>/dev/null || true
cmp -n "$(stat -c %s "$work/partial")" "$work/partial" "$rootfs/$file" || fail "a wrong byte was read"
cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"

step "the chunk put right again"
cp "$work/right" "$(registry_blob "$chunk")"
cmp "$mnt/$file" "$rootfs/$file"
unmount

step "a chunk falsified in the cache"
cached=$(find "$cache/blobs" -name "${chunk#sha256:}")
[[ -f $cached ]] || fail "the cache does not have $chunk"
falsify "$cached"
rm -rf "$cache"/{files,recipes} # of which it would be read
start=$(mark)
mount_image "$registry/debian"
cmp "$mnt/$file" "$rootfs/$file"
[[ $(blobs_since "$start") == "$chunk" ]] || fail "got other blobs than the falsified one"
unmount

step "a chunk cut short in the cache"
truncate -s 1000 "$cached"
rm -rf "$cache"/{files,recipes}
start=$(mark)
mount_image "$registry/debian"
cmp "$mnt/$file" "$rootfs/$file"
[[ $(blobs_since "$start") == "$chunk" ]] || fail "got other blobs than the one cut short"
unmount

step "the metadata falsified in the cache"
falsify "$(find "$cache/blobs" -name "$(metadata_digest | cut -d : -f 2)")"
mount_image "$registry/debian"
same_tree "$state/listing" "$mnt"
unmount

step "the metadata falsified in the registry"
falsify "$(registry_blob "$(metadata_digest)")"
rm -rf "$cache"
fails_with 1 "$(metadata_digest | cut -d : -f 2)" mount_image "$registry/debian"
! mountpoint -q "$mnt" || fail "mounted with falsified metadata"
