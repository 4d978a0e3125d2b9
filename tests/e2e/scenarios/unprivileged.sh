#!/usr/bin/env bash
# A user without privileges builds, mounts by fusermount3, reads and unmounts.
if [[ -z ${E2E_OWN_MOUNTS:-} ]]; then E2E_OWN_MOUNTS=1 exec unshare --mount "$0"; fi
source "$(dirname "$0")/../lib.sh"

let_users_mount
mkdir "$work/home" "$cache"
cp "$here/tree_listing.py" "$work"  # the checkout may be root's alone
cp -a "$rootfs/usr/share" "$work/home/tree"
chown -R nobody:nogroup "$work"

as_nobody "$puzzlefs" build "$work/home/tree" "$work/home/layout"
list_tree "$work/home/tree" >"$work/listing"

step "mount"
as_nobody "$puzzlefs" mount --cache-dir "$cache" "$work/home/layout" "$mnt"
as_nobody python3 "$work/tree_listing.py" "$mnt" >"$work/actual.listing"
diff "$work/listing" "$work/actual.listing" >&2 || fail "the mounted tree differs"

step "unmount"
as_nobody "$puzzlefs" umount "$mnt"
! mountpoint -q "$mnt" || fail "still mounted"

step "extract"
as_nobody "$puzzlefs" extract "$work/home/layout" "$work/home/copy" 2>"$work/stderr"
same_tree "$work/listing" "$work/home/copy"
! grep "Left out" "$work/stderr" >&2 || fail "something was left out of a tree of the user's own"

step "extract root's tree: all that a user may make, and a word on the rest"
cp -a "$rootfs/srv/kinds" "$work/home/kinds"
"$puzzlefs" build "$work/home/kinds" "$work/home/layout:kinds"
chmod -R go+rX "$work/home/layout"
as_nobody "$puzzlefs" extract "$work/home/layout:kinds" "$work/home/kinds-copy" 2>"$work/stderr"
for what in '[0-9]+ owners' '2 extended attributes' '2 devices'; do
  grep -Eq "^Left out, as it needs root: $what \(.*$work/home/kinds-copy" "$work/stderr" ||
    fail "no word on $what: $(<"$work/stderr")"
done
# What it leaves out, taken out of the original too.
rm "$work"/home/kinds/{char,block}
setfattr -x trusted.note "$work/home/kinds/deep"
list_tree "$work/home/kinds" --without owner,setid,capability >"$work/listing"
same_tree "$work/listing" "$work/home/kinds-copy" --without owner,setid,capability
[[ $(stat -c %U:%a "$work/home/kinds-copy/zeros") == nobody:755 ]] ||
  fail "root's set-user-ID program became one of nobody's"
