#!/usr/bin/env bash
# What a mount says it has fetched is what the registry says it has sent, byte for byte. It says so to
# the command, to Prometheus at its socket, and in attributes that copies of the tree do not get; the
# socket is there as long as the mount is, and what a killed server leaves of it harms nobody.
source "$(dirname "$0")/../lib.sh"

readonly file=usr/bin/bash
start_full_registry
start=$(mark)

figure() { "$puzzlefs" stats --format json "$mnt" | jq ".$1"; }
xattr() { getfattr --absolute-names --only-values -n "user.puzzlefs.$1" "$mnt"; }
stored_size() {
  local digest total=0
  while read -r digest; do total=$((total + $(stat -c %s "$(registry_blob "$digest")"))); done
  echo "$total"
}
# as_registry_says: requests, and the bytes of their answers.
as_registry_says() {
  local wanted got
  wanted=$(requests_since "$start" | awk '{ bytes += $4 } END { print NR, bytes }')
  got="$(figure requests) $(figure bytes_fetched)"
  [[ $got == "$wanted" ]] || fail "requests and bytes are said to be $got; the registry says $wanted"
}
is() {
  [[ $(figure "$1") == "$2" ]] || fail "$1 is $(figure "$1") and not $2"
}

step "mounted"
mount_image "$registry/debian" --prefetch none
as_registry_says
is bytes_fetched_to_open "$(figure bytes_fetched)"
is bytes_needed 0
is "hit_rate == 1" true

step "the first read"
exec 3<"$mnt/$file" # while it is open it is read piece by piece
cmp "$mnt/$file" "$rootfs/$file"
as_registry_says
is bytes_needed "$(chunks_of "$file" | stored_size)"
is "bytes_fetched - .bytes_fetched_to_open - .bytes_needed" 0
is "chunks_from_network >= $(chunks_of "$file" | wc -l)" true
is chunks_from_disk 0
is "seconds_waited > 0" true
is "hit_rate < 1" true

step "the second read"
before=$("$puzzlefs" stats --format json "$mnt")
dd if="$mnt/$file" iflag=direct bs=128K status=none | cmp - "$rootfs/$file"
exec 3<&-
as_registry_says
for name in requests bytes_fetched bytes_needed chunks_from_network chunks_failed seconds_waited; do
  is "$name" "$(jq ".$name" <<<"$before")"
done
is "chunks_from_memory + .chunks_from_disk > $(jq '.chunks_from_memory + .chunks_from_disk' <<<"$before")" true

step "for people"
"$puzzlefs" stats "$mnt" >"$work/text"
cat "$work/text" >&2
grep -q "^Image: *$registry/debian:latest@sha256:" "$work/text"
grep -q "^Fetched: .* in $(figure requests) requests, " "$work/text"
grep -q '^Needed: .*, 1.00 times that was fetched$' "$work/text"

step "at the socket"
socket=$(xattr socket)
[[ -S $socket && $(stat -c %a "$socket" "${socket%/*}") == $'600\n700' ]] || fail "$socket is open to others"
curl -sS --fail --unix-socket "$socket" http://localhost/metrics >"$work/metrics"
python3 - "$work/metrics" >"$work/samples" <<'END'
import re, sys
types = {}
for line in open(sys.argv[1]):
    if line.startswith("# TYPE"):
        types[line.split()[2]] = line.split()[3]
    elif not line.startswith("# HELP "):
        name, labels, value = re.fullmatch(
            r'([a-z_]+)\{(\w+="[^"\n]*"(?:,\w+="[^"\n]*")*)\} (\S+)\n', line).groups()
        assert types[name] == "counter" and name.endswith("_total"), line
        source = re.search(r'source="(\w+)"', labels)
        print(name + (" " + source[1] if source else ""), float(value))
END
for pair in "requests requests_total" "bytes_fetched fetched_bytes_total" \
  "chunks_from_network chunk_reads_total network" "seconds_waited wait_seconds_total"; do
  value=$(sed -n "s/^puzzlefs_${pair#* } //p" "$work/samples")
  is "${pair%% *} - $value | fabs < 1e-9" true # jq may read the same number as its neighbour
done
curl -sS --fail --unix-socket "$socket" http://localhost/stats >"$work/stats"
xattr stats | diff - <(printf %s "$(<"$work/stats")") >&2 || fail "attribute and socket differ"
[[ $(curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$socket" http://localhost/other) == 404 ]]
! as_nobody curl -sS --unix-socket "$socket" http://localhost/stats 2>/dev/null ||
  fail "everybody may use the socket"

step "attributes"
[[ $(xattr image) == "$(sed -n 's/^Image: *//p' "$work/text")" ]] || fail "the image is called $(xattr image)"
! getfattr --absolute-names -d -m - "$mnt" | grep puzzlefs || fail "copies would have the attributes"
! getfattr --absolute-names -n user.puzzlefs.stats "$mnt/etc" 2>/dev/null || fail "they are not the root's alone"

step "what is no mount"
fails_with 1 "^puzzlefs: Nothing is mounted at $work\.$" "$puzzlefs" stats "$work"
fails_with 1 "^puzzlefs: /proc is not a puzzlefs mount: a file system of type proc is mounted there\.$" \
  "$puzzlefs" stats /proc
fails_with 1 "^puzzlefs: Nothing is mounted at $mnt/etc\.$" "$puzzlefs" stats "$mnt/etc"

step "unmounted"
unmount
wait_until test ! -e "$socket"
fails_with 1 "^puzzlefs: Nothing is mounted at $mnt\.$" "$puzzlefs" stats "$mnt"

step "killed"
start=$(mark)
mount_image "$registry/debian"
killed=$(xattr socket)
pid=$(daemon_pid)
kill -KILL "$pid"
wait_until gone "$pid"
fails_with 1 "The server of the mount at $mnt has died" "$puzzlefs" stats "$mnt"
unmount
start=$(mark)
mount_image "$registry/debian"
as_registry_says
curl -sS --fail -o /dev/null --unix-socket "$(xattr socket)" http://localhost/metrics
unmount
rm -f "$killed"

step "below an overlay"
mount -t tmpfs tmpfs "$mnt"
start=$(mark)
mount_image "$registry/debian" --writable
as_registry_says
cat "$mnt/$file" >/dev/null
is chunks_failed 0
"$puzzlefs" umount "$mnt"
umount "$mnt"
