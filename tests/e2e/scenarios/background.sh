#!/usr/bin/env bash
# In the background mount returns when the mount is usable, or with the reason why it is not, also
# where there is no syslog; in the foreground it serves until it is unmounted or told to end.
source "$(dirname "$0")/../lib.sh"

readonly image=$state/layout

step "usable when mount returns, and over when umount was called"
mount_image "$image"
cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
daemon=$(daemon_pid)
unmount
wait_until gone "$daemon"

step "without a syslog, and without anything else in /dev"
export puzzlefs image cache mnt rootfs
# shellcheck disable=SC2016  # for the inner shell
timeout 60 unshare --mount bash -euc '
  mount -t tmpfs tmpfs /dev
  mknod -m 666 /dev/fuse c 10 229
  mknod -m 666 /dev/null c 1 3
  "$puzzlefs" mount --cache-dir "$cache" "$image" "$mnt"
  cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
  "$puzzlefs" umount "$mnt"' || fail "no mount without a syslog"

step "without standard streams"
"$puzzlefs" mount --cache-dir "$cache" "$image" "$mnt" <&- >&- 2>&-
cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
unmount

step "the reason of a failure"
fails_with 1 'nosuchtag' timeout 60 "$puzzlefs" mount "$image:nosuchtag" "$mnt"
fails_with 1 "$work/nowhere" timeout 60 "$puzzlefs" mount "$image" "$work/nowhere"
# shellcheck disable=SC2016
fails_with 1 '/dev/fuse|fusermount3' timeout 60 unshare --mount bash -euc '
  mount -t tmpfs tmpfs /dev
  mknod -m 666 /dev/null c 1 3
  "$puzzlefs" mount --cache-dir "$cache" "$image" "$mnt"'
fails_with 1 "$work" "$puzzlefs" umount "$work"
fails_with 2 'MOUNTPOINT|mountpoint' "$puzzlefs" mount "$image"
mkdir "$work/over"
"$puzzlefs" build "$rootfs/etc/apt" "$work/over/layout" >/dev/null
fails_with 2 'would hide it' "$puzzlefs" mount "$work/over/layout" "$work/over"

step "busy"
mount_image "$image"
exec 8<"$mnt/etc/debian_version"
fails_with 1 'busy|in use' "$puzzlefs" umount "$mnt"
"$puzzlefs" umount --lazy "$mnt"
! mountpoint -q "$mnt" || fail "umount --lazy left the mount"
exec 8<&-

step "in the foreground, until SIGTERM"
"$puzzlefs" mount --foreground --log-file "$work/log" "$image" "$mnt" &
daemon=$!
wait_until mountpoint -q "$mnt"
cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
kill -TERM "$daemon"
wait "$daemon" || fail "the foreground mount ended with $?"
! mountpoint -q "$mnt" || fail "SIGTERM left the mount"

step "in the foreground, until umount"
"$puzzlefs" mount -f "$image" "$mnt" &
daemon=$!
wait_until mountpoint -q "$mnt"
unmount
wait "$daemon" || fail "the foreground mount ended with $? after umount"
