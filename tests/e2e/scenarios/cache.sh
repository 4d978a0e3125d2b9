#!/usr/bin/env bash
# The cache stays within its limit while a whole tree is read, is shared by mounts, finds what was
# falsified, and holds pinned images whole: they are read without a registry.
source "$(dirname "$0")/../lib.sh"

readonly file=usr/bin/perl
readonly limit=$((48 << 20))
readonly second=$work/second
mkdir "$second"

cache_command() {
  "$puzzlefs" cache "$@" --cache-dir "$cache"
}

# json_of COMMAND FILTER: what a subcommand of cache says in its JSON.
json_of() {
  cache_command "$1" --format json | jq -r "$2"
}

# Writes how many bytes of disk the blobs and the files made of them take up to a file, again and again
# until "$1.stop" appears.
sample_size() {
  while [[ ! -e $1.stop ]]; do
    # Files go while it counts.
    du -cs --block-size=1 "$cache/blobs" "$cache/files" 2>/dev/null | tail -n 1 | cut -f 1 >>"$1" || true
    sleep 0.2
  done
}

registry_storage=$state/registry # nothing here changes it
start_registry

step "a tree that is larger than the cache"
mount_image "$registry/debian" --cache-size 48M
sample_size "$work/sizes" &
sampler=$!
same_tree "$state/listing" "$mnt"
touch "$work/sizes.stop"
wait "$sampler"
unmount
largest=$(sort -n "$work/sizes" | tail -n 1)
echo "$(wc -l <"$work/sizes") samples, at most $largest bytes" >&2
((largest <= limit + limit / 20)) || fail "the cache had $largest bytes"
((largest > limit / 2)) || fail "the cache was not used: $largest bytes"

step "two mounts share it"
rm -rf "$cache"
mount_image "$registry/debian"
cmp "$mnt/$file" "$rootfs/$file"
start=$(mark)
"$puzzlefs" mount --cache-dir "$cache" "$registry/debian" "$second"
cmp "$second/$file" "$rootfs/$file"
[[ -z $(blobs_since "$start") ]] || fail "the second mount got blobs: $(blobs_since "$start")"
"$puzzlefs" umount "$second"

step "verify finds a falsified blob, and a mount gets it anew"
chunk=$(chunks_of "$file" | sed -n 2p)
cache_command verify >&2
falsify "$(find "$cache/blobs" -name "${chunk#sha256:}")"
fails_with 1 '1 blob in the cache .* had changed' cache_command verify
[[ $(json_of info .quarantined) == 1 ]] || fail "info does not count the quarantined blob"
unmount
rm -rf "$cache"/{files,recipes} # of which it would be read
start=$(mark)
mount_image "$registry/debian"
cmp "$mnt/$file" "$rootfs/$file"
[[ $(blobs_since "$start") == "$chunk" ]] || fail "got other blobs than the falsified one"
unmount

step "a pinned image"
cache_command ls | grep -q "^$registry/debian:latest@sha256:[0-9a-f]*: [0-9]* of [0-9]* blobs" ||
  fail "ls says: $(cache_command ls)"
[[ $(json_of ls '.images[0] | .pinned == false and .blobs < .blobs_total') == true ]] ||
  fail "ls says: $(cache_command ls --format json)"
cache_command pin "$registry/debian" >&2
[[ $(json_of ls '.images[0] | .pinned and .blobs == .blobs_total') == true ]] ||
  fail "ls says: $(cache_command ls --format json)"
[[ $(json_of info .pins) == 1 ]] || fail "info does not count the pin"
start=$(mark)
"$puzzlefs" pull --pin --cache-dir "$cache" "$registry/debian" >&2
[[ -z $(blobs_since "$start") ]] || fail "blobs were got again for a pinned image"

step "it stays, and is read without a registry"
cache_command prune >&2
start=$(mark)
mount_image "$registry/debian" --offline
stop_registry
same_tree "$state/listing" "$mnt"
unmount
no_requests_since "$start" "the mount with --offline"
"$puzzlefs" -v inspect --offline --cache-dir "$cache" "$registry/debian" 2>"$work/stderr" >&2
grep -q 'stood for when it was pinned' "$work/stderr" || fail "it does not say what it took for the tag"
mount_image "$registry/debian" --offline --log-file "$work/log"

step "unpinned, it goes"
cache_command unpin "$registry/debian" >&2
fails_with 1 'is not pinned' cache_command unpin "$registry/debian"
cache_command prune >&2
[[ $(json_of info .bytes) == 0 ]] || fail "there is something left: $(cache_command info)"
fails_with 1 'Input/output error' cat "$mnt/$file"
grep -q -- "--offline forbids" "$work/log" || fail "the log has no reason: $(<"$work/log")"
unmount
fails_with 1 'offline forbids' mount_image "$registry/debian" --offline
cache_command ls | grep -q 'its manifest is not there' || fail "ls says: $(cache_command ls)"
