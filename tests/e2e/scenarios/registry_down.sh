#!/usr/bin/env bash
# A registry that is down: the mount command fails in seconds with a sentence; a read that needs it
# fails with EIO after the deadline, and works again when it is back.
source "$(dirname "$0")/../lib.sh"

readonly file=usr/bin/perl
start_full_registry
stop_registry

step "mount"
fails_with 1 "$registry" timeout 20 "$puzzlefs" mount --cache-dir "$cache" "$registry/debian" "$mnt"
cat "$work/stderr" >&2
! mountpoint -q "$mnt" || fail "mounted without a registry"

step "read"
start_registry
mount_image "$registry/debian" --on-outage fail:2
stop_registry
fails_with 1 'Input/output error' timeout 30 cat "$mnt/$file"
find "$mnt" -ls >/dev/null

step "the registry is back"
start_registry
cmp "$mnt/$file" "$rootfs/$file"
unmount

step "an end while a read waits"
rm -rf "$cache"
mount_image "$registry/debian" --on-outage wait
daemon=$(daemon_pid)
stop_registry
cat "$mnt/$file" >/dev/null 2>&1 &
reader=$!
sleep 1
kill -TERM "$daemon"
wait_until gone "$daemon"
wait "$reader" && fail "the read did not fail"
! mountpoint -q "$mnt" || fail "SIGTERM left the mount"
start_registry

step "a read that waits for the registry"
rm -rf "$cache"
mount_image "$registry/debian" --on-outage wait
stop_registry
cmp "$mnt/$file" "$rootfs/$file" &
reader=$!
sleep 3
! gone "$reader" || fail "the read did not wait"
start_registry
wait "$reader" || fail "the read that waited failed"
unmount
