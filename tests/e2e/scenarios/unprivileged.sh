#!/usr/bin/env bash
# A user without privileges builds, mounts by fusermount3, reads and unmounts.
if [[ -z ${E2E_OWN_MOUNTS:-} ]]; then E2E_OWN_MOUNTS=1 exec unshare --mount "$0"; fi
source "$(dirname "$0")/../lib.sh"

let_users_mount
mkdir "$work/home" "$cache"
cp -a "$rootfs/usr/share" "$work/home/tree"
chown -R nobody:nogroup "$work"

as_nobody "$puzzlefs" build "$work/home/tree" "$work/home/layout"
list_tree "$work/home/tree" >"$work/listing"

step "mount"
as_nobody "$puzzlefs" mount --cache-dir "$cache" "$work/home/layout" "$mnt"
as_nobody python3 "$here/tree_listing.py" "$mnt" >"$work/actual.listing"
diff "$work/listing" "$work/actual.listing" >&2 || fail "the mounted tree differs"

step "unmount"
as_nobody "$puzzlefs" umount "$mnt"
! mountpoint -q "$mnt" || fail "still mounted"

step "extract"
as_nobody "$puzzlefs" extract "$work/home/layout" "$work/home/copy"
list_tree "$work/home/copy" >"$work/actual.listing"
diff "$work/listing" "$work/actual.listing" >&2 || fail "the extracted tree differs"
