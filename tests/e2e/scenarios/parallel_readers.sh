#!/usr/bin/env bash
# 64 readers of the mounted tree at once: equal contents, one fetch for each chunk by the log, and a
# constant number of threads in the daemon.
source "$(dirname "$0")/../lib.sh"

# One sum over all contents, in one order for all.
sum_of() {
  find "$1" -type f -print0 | sed -z "s,^$1/,," | sort -z |
    (cd "$1" && xargs -0 cat) | md5sum
}

threads_of() {
  awk '/^Threads:/ { print $2 }' "/proc/$1/status"
}

# Writes the number of threads to a file, again and again until the file "$2.stop" appears.
sample_threads() {
  while [[ ! -e $2.stop ]]; do
    threads_of "$1" >>"$2"
    sleep 0.05
  done
}

start_full_registry
expected=$(sum_of "$rootfs")
start=$(mark)
mount_image "$registry/debian"
cat "$mnt/etc/debian_version" >/dev/null
daemon=$(daemon_pid)
before=$(threads_of "$daemon")
sample_threads "$daemon" "$work/threads" &
sampler=$!

step "64 readers"
readers=()
for reader in {1..64}; do
  sum_of "$mnt" >"$work/sum.$reader" &
  readers+=($!)
done
for pid in "${readers[@]}"; do wait "$pid" || fail "a reader failed"; done
touch "$work/threads.stop"
wait "$sampler"

for reader in {1..64}; do
  [[ $(<"$work/sum.$reader") == "$expected" ]] || fail "reader $reader read something else"
done
[[ $(sort -u "$work/threads") == "$before" ]] ||
  fail "the daemon had $before threads, then: $(sort -nu "$work/threads" | tr '\n' ' ')"

blobs_since "$start" >"$work/got"
twice=$(uniq -d "$work/got")
[[ -z $twice ]] || fail "got more than once: $twice"
jq -r '.layers[].digest' "$(registry_blob "$("$puzzlefs" inspect "$state/layout" --format json | jq -r .digest)")" |
  sort -u | diff - "$work/got" >&2 || fail "not all blobs of the image were got, or others"
echo "$(wc -l <"$work/got") blobs got once each, $before threads" >&2
unmount
