#!/usr/bin/env bash
# In the background mount returns when the mount is usable, or with the reason why it is not, also
# where there is no syslog; in the foreground it serves until it is unmounted or told to end.
unset E2E_IN_MEMORY # one step empties /dev
source "$(dirname "$0")/../lib.sh"

readonly image=$state/layout

# said FILE PATTERN: the file is one line, which matches.
said() {
  [[ $(wc -l <"$1") == 1 && $(<"$1") =~ $2 ]] || fail "no line \"$2\": $(<"$1")"
}

step "usable when mount returns, and over when umount was called"
mount_image "$image"
cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
daemon=$(daemon_pid)
if grep libcurl "/proc/$daemon/maps"; then fail "libcurl was loaded for a local image"; fi
unmount
wait_until gone "$daemon"

step "what was read is not asked for again, not even to open it"
# Each request takes the daemon a read of its device.
requests() { awk '/^syscr/ { print $2 }' "/proc/$daemon/io"; }
read_some() { find "$1/etc" -type f -print0 | sort -z | xargs -0 cat | sha256sum; }
mount_image "$image"
daemon=$(daemon_pid)
[[ $(read_some "$mnt") == "$(read_some "$rootfs")" ]] || fail "other bytes than in the tree"
before=$(requests)
[[ $(read_some "$mnt") == "$(read_some "$rootfs")" ]] || fail "other bytes the second time"
count=$(($(requests) - before))
((before > 100 && count < 10)) || fail "$before requests, and then $count"
unmount

step "without a syslog, and without anything else in /dev"
export puzzlefs image cache mnt rootfs work
# shellcheck disable=SC2016  # for the inner shell
timeout 60 unshare --mount bash -euc '
  mount -t tmpfs tmpfs /dev
  mknod -m 666 /dev/fuse c 10 229
  mknod -m 666 /dev/null c 1 3
  for option in rw ro; do
    mount -t tmpfs -o "$option" tmpfs /var/log
    "$puzzlefs" mount --cache-dir "$cache" "$image" "$mnt" 2>"$work/$option"
    cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
    "$puzzlefs" umount "$mnt"
  done' || fail "no mount without a syslog"
said "$work/rw" 'messages go to /var/log/puzzlefs.log'
said "$work/ro" 'Nothing will be logged.* /var/log/puzzlefs.log .*--log-file'

step "a log file of one's choice"
mount_image --log-file "$work/chosen" "$image" 2>"$work/stderr"
[[ ! -s $work/stderr && -e $work/chosen ]] || fail "no quiet log file: $(<"$work/stderr")"
unmount
mkdir "$work/unused"
for place in "" --foreground; do
  # A mount that got further would make directories in "unused".
  # shellcheck disable=SC2086  # or there would be an empty argument
  fails_with 1 "no directory $work/none" timeout 60 "$puzzlefs" mount $place \
    --log-file "$work/none/log" --persist "$work/unused" "$image" "$mnt"
done
rmdir "$work/unused"
[[ ! -e $work/none ]] || fail "the directory of the log file was made"
! mountpoint -q "$mnt" || fail "mounted without the log file"

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

step "libcurl is missed where it is needed, and only there"
libcurl=$(ldconfig -p | awk '$1 == "libcurl.so.4" { print $NF; exit }')
export libcurl
# shellcheck disable=SC2016
timeout 60 unshare --mount bash -euc '
  mount --bind /dev/null "$libcurl"
  "$puzzlefs" mount --cache-dir "$cache" "$image" "$mnt"
  cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
  "$puzzlefs" umount "$mnt"
  if "$puzzlefs" tags localhost:1/image; then exit 1; fi' 2>"$work/libcurl" || fail "no mount without libcurl"
grep -q 'Cannot load libcurl.*libcurl4' "$work/libcurl" || fail "no word of libcurl: $(<"$work/libcurl")"

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
