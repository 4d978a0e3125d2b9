#!/usr/bin/env bash
# Pushing again uploads nothing; after a change of one file only the chunks that changed, and push
# says how many.
source "$(dirname "$0")/../lib.sh"

uploads_since() {
  requests_since "$1" | grep -c '^PUT /v2/debian/blobs/uploads/' || true
}

blobs_of() {
  find "$1/blobs/sha256" -type f -printf '%f\n' | sort
}

start_full_registry
stored=$(blobs_of "$state/layout" | wc -l)

step "push what is there"
start=$(mark)
"$puzzlefs" push --layout keep --format json "$state/layout" "$registry/debian" >"$work/result"
jq -e '.new_blobs == 0 and .new_bytes == 0' "$work/result" >&2 || fail "push counts new blobs"
# The manifest is a file of the layout too, but no blob of the image.
jq -e ".present_blobs == $stored - 1" "$work/result" >&2 || fail "push miscounts $stored blobs"
[[ $(uploads_since "$start") == 0 ]] || fail "blobs were uploaded again"

step "push it under another tag"
"$puzzlefs" push --layout keep "$state/layout" "$registry/debian:other" >"$work/text"
cat "$work/text" >&2
grep -q ': 0 new blobs (0 B), ' "$work/text" || fail "push does not say that nothing was new"
[[ $(uploads_since "$start") == 0 ]] || fail "blobs were uploaded again for another tag"

step "change one file"
cp -a --reflink=auto "$rootfs" "$work/tree"
printf 'changed\n' | dd of="$work/tree/usr/bin/bash" conv=notrunc bs=1 seek=500000 status=none
cp -a --reflink=auto "$state/layout" "$work/layout"
"$puzzlefs" build "$work/tree" "$work/layout:changed"
comm -13 <(blobs_of "$state/layout") <(blobs_of "$work/layout") >"$work/new"
# Among them the manifest and the metadata.
changed=$(($(wc -l <"$work/new") - 2))
((changed >= 1 && changed <= 4)) || fail "a change of 8 bytes made $changed new chunks"

step "push the change"
start=$(mark)
"$puzzlefs" push --layout keep --format json "$work/layout:changed" "$registry/debian:changed" >"$work/result"
jq . "$work/result" >&2
jq -e ".new_blobs == $((changed + 1))" "$work/result" >/dev/null || fail "push miscounts the new blobs"
[[ $(uploads_since "$start") == $((changed + 1)) ]] || fail "other uploads than the new blobs"

step "read the change"
mount_image "$registry/debian:changed"
list_tree "$work/tree" >"$work/listing"
same_tree "$work/listing" "$mnt"
unmount
