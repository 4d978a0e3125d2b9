#!/usr/bin/env bash
# The cache on a disk that is full, read-only, somebody else's, or taken away while it is used, and
# with files of times that cannot be. Mounts go on with the right bytes and say each trouble once; when the
# trouble is over, what is fetched is kept again.
if [[ -z ${E2E_OWN_MOUNTS:-} ]]; then E2E_OWN_MOUNTS=1 exec unshare --mount "$0"; fi
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/../cache_faults.sh"

# blobs: how many of them, or of the files made from them, the cache holds.
blobs() { find "$cache" -type f '(' -path '*/sha256/*' -o -path '*/files/*' ')' | wc -l; }

# replace_by_file: puts a file where the cache was. The mount, which may still be keeping what was read
# last, can be faster and make the directory again.
replace_by_file() {
  local try
  for try in {1..50}; do
    mv "$cache" "$work/moved-$try"
    (set -o noclobber && echo "no cache" >"$cache") 2>/dev/null && return
  done
  fail "the mount makes its directory again and again"
}

# more_blobs_than COUNT
more_blobs_than() { (($(blobs) > $1)); }

registry_storage=$state/registry # nothing here changes it
start_registry
mkdir "$cache"

step "a full disk"
mount -t tmpfs -o size=80M,nr_inodes=2000 tmpfs "$cache"
readonly roomy=(--cache-size 72M) # far more than what is read: only others fill the disk
fill() { dd if=/dev/zero of="$cache/of-others" bs=64K status=none 2>/dev/null || true; }
mount_logged "${roomy[@]}"
same_parts etc
fill
before=$(blobs)
same_parts usr/sbin
! more_blobs_than "$before" || fail "it kept something on a full disk"
said_once 'kept'
before=$(blobs) # room was made for others
rm "$cache/of-others"
same_parts usr/share/perl5
more_blobs_than "$before" || fail "it keeps nothing although there is room again"
unmount
"$puzzlefs" cache verify --cache-dir "$cache" >&2

step "a disk that was full before there was a cache"
find "$cache" -mindepth 1 -delete
fill
mount_logged "${roomy[@]}"
same_parts etc
said_once 'kept'
rm "$cache/of-others"
same_parts usr/sbin
more_blobs_than 0 || fail "it keeps nothing although there is room again"
unmount
mount_logged "${roomy[@]}"
same_parts etc
unmount
said_nothing "the next mount has nothing to complain about"
readable_offline etc

step "no inodes: writes fail although there is room"
mount_logged "${roomy[@]}"
i=0
while : 2>/dev/null >"$cache/of-others-$i"; do i=$((i + 1)); done
before=$(blobs)
same_parts usr/sbin usr/share/perl5
said_once 'kept'
rm "$cache"/of-others-*
same_parts usr/share/perl5
unmount
mount_logged "${roomy[@]}"
same_parts
unmount
said_nothing "the next mount has nothing to complain about"
more_blobs_than "$before" || fail "it keeps nothing although there is room again"

step "read-only"
wait_until no_daemon # it has files open to write
mount -o remount,ro "$cache"
start=$(mark)
mount_logged "${roomy[@]}"
same_parts
[[ -z $(blobs_since "$start") ]] || fail "what a read-only cache has was fetched: $(blobs_since "$start")"
diff -rq --no-dereference "$rootfs/usr/share/doc" "$mnt/usr/share/doc" || fail "another part differs"
unmount
said_once 'Read-only file system'
mount -o remount,rw "$cache"
readable_offline "${parts[@]}"
wait_until no_daemon
umount "$cache"

step "root's, and the mount is a user's"
let_users_mount
mkdir "$work/home"
chmod 711 "$work"
chown nobody "$mnt" "$work/home"
mount_logged
same_parts etc
unmount
: >"$messages"
chmod 666 "$messages"
as_nobody "$puzzlefs" mount --cache-dir "$cache" --log-file "$messages" "$registry/debian" "$mnt" \
  2>"$work/said"
as_nobody cat "$mnt/usr/sbin/useradd" | cmp - "$rootfs/usr/sbin/useradd"
as_nobody "$puzzlefs" umount "$mnt"
said_once 'Permission denied'
chown root "$mnt"
readable_offline etc

# ------------------------------------------------------------------------------------------------

step "deleted while it is mounted"
mount_logged
same_parts etc
rm -rf "$cache" 2>/dev/null || rm -rf "$cache" # the mount may still be keeping what was read last
same_parts usr/sbin
more_blobs_than 0 || fail "it keeps nothing in a cache that was deleted"
said_once ''

step "replaced by a file"
replace_by_file
same_parts usr/share/perl5
said_once 'kept'
rm "$cache"
diff -rq --no-dereference "$rootfs/usr/share/zoneinfo" "$mnt/usr/share/zoneinfo" >"$work/diff" ||
  diff -rq --no-dereference "$rootfs/usr/share/doc" "$mnt/usr/share/doc" >"$work/diff" ||
  fail "another part differs: $(<"$work/diff")"
more_blobs_than 0 || fail "it keeps nothing although the file is gone"
unmount
said_once ''
echo "no cache" >"$work/file"
rm "$messages"
"$puzzlefs" mount --cache-dir "$work/file" --log-file "$messages" "$registry/debian" "$mnt" \
  2>"$work/said" || fail "$(<"$work/said")"
same_parts etc
unmount
said_once 'kept'
[[ $(<"$work/file") == "no cache" ]] || fail "a file that is no cache was touched"

# ------------------------------------------------------------------------------------------------

readonly limit=$((8 << 20))
# fits: what the cache has, and that it is neither too much nor nothing.
fits() {
  local bytes
  bytes=$(du -s --block-size=1 "$cache/blobs" | cut -f 1)
  # The directories come on top of the limit.
  ((bytes <= limit + limit / 20 + (1 << 20))) || fail "$1: the cache has $bytes bytes"
  ((bytes > limit / 4)) || fail "$1: of the cache are left $bytes bytes"
}

step "times that cannot be"
rm -rf "$cache"
mount_logged
same_parts
unmount
find "$cache" -type f -path '*/[0-7][0-9a-f]/*' -exec touch -d '2090-01-01' {} +
find "$cache" -type f -path '*/[8-f][0-9a-f]/*' -exec touch -d '1970-01-02' {} +
mount_logged --cache-size "$limit"
same_parts
same_parts
sleep 0.5 # for the one who makes room
unmount
fits "times that cannot be"
