#!/usr/bin/env bash
# mount --init-pipe tells a waiting program how the mount went: "s" or "f", one letter.
source "$(dirname "$0")/../lib.sh"

readonly image=$state/layout
readonly pipe=$work/pipe
mkfifo "$pipe"

# told LETTER COMMAND…: what the reader of the pipe gets, up to its end, while the command runs.
told() {
  local letter=$1 got status=0
  shift
  "$@" 2>"$work/stderr" &
  local command=$!
  got=$(timeout 30 cat "$pipe") || status=$?
  [[ $got == "$letter" && $status == 0 ]] ||
    fail "$* told \"$got\" (status $status) instead of $letter: $(<"$work/stderr")"
  if [[ $letter == s ]]; then
    cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
    unmount
    wait "$command" || fail "$* ended with $?"
  else
    ! wait "$command" || fail "$* succeeded after all"
  fi
}

step "success, in the foreground and in the background"
told s "$puzzlefs" mount --foreground --init-pipe "$pipe" "$image" "$mnt"
told s "$puzzlefs" mount -i "$pipe" "$image" "$mnt"
told s "$puzzlefs" mount -i "$pipe" --writable "$image" "$mnt"

step "failure"
told f "$puzzlefs" mount --foreground --init-pipe "$pipe" "$image:nosuchtag" "$mnt"
told f "$puzzlefs" mount --init-pipe "$pipe" "$image:nosuchtag" "$mnt"
told f "$puzzlefs" mount -i "$pipe" "$image" "$work/nowhere"
told f "$puzzlefs" mount -f -i "$pipe" -o sloppy "$image" "$mnt"
told f "$puzzlefs" mount -f -i "$pipe" --on-outage=never "$image" "$mnt"
told f "$puzzlefs" mount -f -i "$pipe" --no-such-option "$image" "$mnt"
told f "$puzzlefs" -v mount "$image" --init-pipe="$pipe"

step "a reader that goes away does no harm"
"$puzzlefs" mount -f -i "$pipe" "$image" "$mnt" &
daemon=$!
: <"$pipe"
wait_until mountpoint -q "$mnt"
cmp "$mnt/etc/debian_version" "$rootfs/etc/debian_version"
unmount
wait "$daemon" || fail "the mount ended with $?"

step "no pipe"
fails_with 1 "$work/nopipe" "$puzzlefs" mount -i "$work/nopipe" "$image" "$mnt"
fails_with 2 'not a named pipe' "$puzzlefs" mount -i "$rootfs/etc/passwd" "$image" "$mnt"
