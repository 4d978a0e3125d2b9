#!/usr/bin/env bash
# Reading one file gets the manifest, the metadata and that file's chunks, each once; reading it again
# gets nothing, also after unmounting and with the registry stopped.
source "$(dirname "$0")/../lib.sh"

readonly file=usr/bin/bash
start_full_registry

step "the first read"
start=$(mark)
mount_image "$registry/debian" --prefetch none
cmp "$mnt/$file" "$rootfs/$file"
blobs_since "$start" >"$work/got"
{ metadata_digest; chunks_of "$file"; } | sort >"$work/wanted"
diff "$work/wanted" "$work/got" >&2 || fail "other blobs than those of $file were got"
requests_since "$start" >"$work/requests"
echo "$(wc -l <"$work/got") of $(find "$state/layout/blobs/sha256" -type f | wc -l) blobs," \
  "$(wc -l <"$work/requests") requests" >&2
others=$(grep -Ev '/blobs/|^(GET|HEAD) /v2/(debian/manifests/latest)? ' "$work/requests" || true)
[[ -z $others ]] || fail "unexpected requests: $others"

step "the second read"
start=$(mark)
cmp "$mnt/$file" "$rootfs/$file"
no_requests_since "$start" "the second read"

step "names and attributes"
find "$mnt" -ls >/dev/null
no_requests_since "$start" "listing the tree"

step "mounted again"
unmount
mount_image "$registry/debian"
cmp "$mnt/$file" "$rootfs/$file"
[[ -z $(blobs_since "$start") ]] || fail "blobs were got again after unmounting: $(blobs_since "$start")"
unmount

step "mounted again without a registry"
stop_registry
mount_image "$registry/debian"
cmp "$mnt/$file" "$rootfs/$file"
unmount
