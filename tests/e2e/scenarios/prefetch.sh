#!/usr/bin/env bash
# What a start needs is recorded, and fetched ahead of the next one; the rest comes in the background.
source "$(dirname "$0")/../lib.sh"

readonly program=(chroot "$mnt" perl -e 'use POSIX; print floor(1.5), "\n"')
readonly mount_log=$work/mount.log
run_program() { [[ $("${program[@]}") == 1 ]] || fail "the program does not run"; }
chunk_count() { grep -c '^sha256:[0-9a-f]\{64\}$' "$1"; }
figure() { "$puzzlefs" stats --format json "$mnt" | jq ".$1"; }
logged() { grep -q "$1" "$mount_log"; }
ended() { ! daemon_pid >/dev/null; }
# mount_logged SOURCE [OPTION…]: with an empty cache, and what it says in $mount_log.
mount_logged() {
  wait_until ended # or else it would still write to the cache
  rm -rf "$cache"
  rm -f "$mount_log"
  mount_image -v --log-file "$mount_log" "$@"
}
# record SOURCE FILE
record() {
  rm -f "$2"
  mount_logged "$1" --record "$2"
  run_program
  "$puzzlefs" trace "$mnt" >"$work/live"
  unmount
  wait_until test -s "$2"
}
# without_requests SOURCE TRACE: once the trace is here, the program runs by it alone.
without_requests() {
  local start
  mount_logged "$1" --prefetch "$2"
  wait_until logged 'chunks that a start of .* is expected to need are here'
  logged "$(chunk_count "$2") of the $(chunk_count "$2") chunks" || fail "not all came: $(<"$mount_log")"
  echo "requests: $(figure requests)" >&2
  start=$(mark)
  run_program
  no_requests_since "$start" "the program"
  [[ $(figure chunks_from_network) == 0 ]] || fail "readers waited for the network"
  unmount
}

start_full_registry
"$puzzlefs" build --layout packed "$rootfs" "$work/layout:packed"
"$puzzlefs" push "$work/layout:packed" "$registry/packed:1" >&2

step "a trace is recorded"
record "$registry/packed:1" "$work/trace"
[[ $(head -n 1 "$work/trace") == "puzzlefs-trace 1" ]] || fail "the trace begins with $(head -n 1 "$work/trace")"
(($(chunk_count "$work/trace") > 10)) || fail "the trace has $(chunk_count "$work/trace") chunks"
[[ -z $(sort "$work/trace" | uniq -d) ]] || fail "the trace names chunks more than once"
# Nothing was read after it was asked for.
cmp "$work/live" "$work/trace"

step "and again with a cache that has whole files, and by a signal"
mount_image "$registry/packed:1"
run_program
unmount
mount_image "$registry/packed:1" --record "$work/again"
run_program
kill -TERM "$(daemon_pid)"
wait_until test -s "$work/again"
# How far the kernel reads ahead may differ.
common=$(sort "$work/trace" "$work/again" | uniq -d | grep -c ^sha256)
((common * 10 > $(chunk_count "$work/trace") * 9)) || fail "whole files hid what was read"

step "what is recorded is prefetched"
without_requests "$registry/packed:1" "$work/trace"

step "what an image marks comes together with its metadata"
"$puzzlefs" optimize "$work/layout:packed" "$work/hot:1" --trace "$work/trace" >&2
"$puzzlefs" push "$work/hot:1" "$registry/hot:1" >&2
mount_logged "$registry/hot:1"
wait_until logged 'chunks that a start of .* is expected to need are here'
# The greeting of a registry that speaks no TLS, the manifest, the metadata, and what is marked.
(($(figure requests) == 4)) || fail "$(figure requests) requests"
start=$(mark)
run_program
no_requests_since "$start" "the program"
unmount
for _ in {1..5}; do # while it is still coming
  mount_logged "$registry/hot:1"
  run_program
  unmount
done

step "of a chunked image, too"
record "$registry/debian" "$work/chunked"
without_requests "$registry/debian" "$work/chunked"

step "all the rest comes in the background"
mount_logged "$registry/packed:1" --background-fetch
wait_until logged "All of $registry/packed:1@sha256:.* is in the cache"
stop_registry
list_tree "$rootfs" >"$work/rootfs.listing"
same_tree "$work/rootfs.listing" "$mnt"
unmount
start_registry

step "at a rate"
start=$(date +%s%N)
mount_logged "$registry/packed:1" --background-fetch=1M
sleep 4
fetched=$(figure bytes_fetched)
seconds=$((($(date +%s%N) - start) / 1000000000 + 1))
# A portion is of four seconds, and metadata, and what lies between the chunks of a request.
((fetched > 1 << 20 && fetched < (seconds + 6) << 20)) || fail "$fetched bytes came in $seconds s"
unmount

step "until the cache is full"
mount_logged "$registry/packed:1" --background-fetch --cache-size 24M
wait_until logged "The cache has no room for the rest"
(($(du -sb "$cache/blobs" | cut -f 1) < 25 << 20)) || fail "the cache has become too large"
unmount

step "until it is unmounted"
mount_logged "$registry/packed:1" --background-fetch=1K # a portion in two minutes
pid=$(daemon_pid)
sleep 1
unmount
wait_until gone "$pid"
! logged "could not be had" || fail "what was given up counts as a failure: $(<"$mount_log")"

step "what makes no sense"
fails_with 2 '^puzzlefs: --background-fetch is "x"; it can be a number of bytes a second' \
  "$puzzlefs" mount --background-fetch=x "$registry/packed:1" "$mnt"
fails_with 2 'and --offline asks none\.$' \
  "$puzzlefs" mount --offline --background-fetch "$registry/packed:1" "$mnt"
fails_with 1 "^puzzlefs: $0, line 1: not a trace" \
  "$puzzlefs" mount --prefetch "$0" "$registry/packed:1" "$mnt"
fails_with 1 "there is no directory $work/none\.$" \
  "$puzzlefs" mount --record "$work/none/trace" "$registry/packed:1" "$mnt"
