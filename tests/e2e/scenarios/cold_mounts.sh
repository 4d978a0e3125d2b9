#!/usr/bin/env bash
# Several mounts of one image that start with an empty cache and read at the same time: right
# contents in each, and each blob got once for all of them.
source "$(dirname "$0")/../lib.sh"

readonly mounts=8
readonly directory=usr/lib/x86_64-linux-gnu/perl-base

registry_storage=$state/registry # nothing here changes it
start_registry
start=$(mark)
for ((i = 1; i <= mounts; i++)); do
  mkdir "$work/mnt.$i"
  "$puzzlefs" mount --cache-dir "$cache" "$registry/debian" "$work/mnt.$i" &
done
wait
step "$mounts readers, of a mount each"
readers=()
for ((i = 1; i <= mounts; i++)); do
  diff -r "$rootfs/$directory" "$work/mnt.$i/$directory" >&2 &
  readers+=($!)
done
for pid in "${readers[@]}"; do wait "$pid" || fail "a reader found something else"; done

blobs_since "$start" >"$work/got"
(($(wc -l <"$work/got") > 10)) || fail "hardly anything was got"
twice=$(uniq -d "$work/got")
[[ -z $twice ]] || fail "got more than once: $twice"

step "one of them is killed while it fetches"
chunk=$(chunks_of usr/bin/perl | sed -n 1p)
[[ $(grep -c "$chunk" "$work/got") == 0 ]] || fail "the chunk is there already"
kill -STOP "$registry_pid"
cat "$work/mnt.1/usr/bin/perl" >/dev/null 2>&1 &
sleep 0.3
cat "$work/mnt.2/usr/bin/perl" >"$work/perl" &
reader=$!
sleep 0.3
kill -KILL "$(pgrep -f -- " mount .*$work/mnt.1\$")"
kill -CONT "$registry_pid"
wait "$reader" || fail "the other reader got an error"
cmp "$work/perl" "$rootfs/usr/bin/perl"
