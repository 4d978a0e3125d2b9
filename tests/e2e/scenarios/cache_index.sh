#!/usr/bin/env bash
# The cache's index lost, garbage, or something else than files, before a mount and during one: it costs
# nobody a mount or a byte, and afterwards there is an index again.
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/../cache_faults.sh"

# Not the whole system: it is mounted again and again.
start_registry
mkdir "$work/tree"
cp -a "$rootfs/etc" "$work/tree/etc"
"$puzzlefs" build "$work/tree" "$work/layout" >&2
"$puzzlefs" push "$work/layout" "$registry/debian" >&2

# shellcheck disable=SC2034  # the damages use it
readonly index=$cache/index
# shellcheck disable=SC2016  # they are evaluated later
damages=(
  'rm -r "$index"'
  'rm "$index/data.mdb"'
  'rm "$index/lock.mdb"'
  'truncate -s 0 "$index/data.mdb"'
  'truncate -s 5000 "$index/data.mdb"'
  'head -c 40000 /dev/urandom >"$index/data.mdb"'
  'dd if=/dev/urandom of="$index/data.mdb" bs=4096 seek=2 count=1 conv=notrunc status=none'
  'dd if=/dev/zero of="$index/data.mdb" bs=4096 seek=2 count=9 conv=notrunc status=none'
  'head -c 8192 /dev/urandom >"$index/lock.mdb"'
  'truncate -s 0 "$index/lock.mdb"'
  'rm "$index/data.mdb"; mkdir -p "$index/data.mdb/deep"'
  'rm "$index/lock.mdb"; mkdir "$index/lock.mdb"'
  'rm "$index/data.mdb"; ln -s "$work/nowhere" "$index/data.mdb"'
  'rm -r "$index"; echo garbage >"$index"'
  'rm -r "$index"; ln -s "$work/nowhere" "$index"'
  'rm -r "$index"; mkfifo "$index"'
)

readonly small=etc
mount_logged
same_parts "$small"
unmount
for damage in "${damages[@]}"; do
  step "$damage"
  # While it is mounted, in the foreground to see how it ends.
  : >"$work/said"
  "$puzzlefs" mount --foreground --cache-dir "$cache" "$registry/debian" "$mnt" 2>"$messages" &
  daemon=$!
  wait_until mountpoint -q "$mnt"
  eval "$damage"
  same_parts "$small"
  unmount
  wait "$daemon" || fail "the daemon ended with $?"
  said_once ''
  # And before a mount: again, for the daemon may have repaired it.
  eval "$damage" 2>/dev/null || true
  mount_logged
  same_parts "$small"
  unmount
  said_once ''
  readable_offline "$small"
done
