#!/usr/bin/env bash
# A trace is attached to an image in the registry, and whoever mounts that has its chunks at once.
source "$(dirname "$0")/../lib.sh"

readonly program=(chroot "$mnt" perl -e 'use POSIX; print floor(1.5), "\n"')
readonly mount_log=$work/mount.log
readonly type=application/vnd.puzzlefs.image.trace.v1
run_program() { [[ $("${program[@]}") == 1 ]] || fail "the program does not run"; }
chunk_count() { grep -c '^sha256:[0-9a-f]\{64\}$' "$1"; }
figure() { "$puzzlefs" stats --format json "$mnt" | jq ".$1"; }
logged() { grep -q "$1" "$mount_log"; }
ended() { ! daemon_pid >/dev/null; }
# mount_cold SOURCE [OPTION…]: with an empty cache, and what it says in $mount_log.
mount_cold() {
  wait_until ended # or else it would still write to the cache
  rm -rf "$cache" "$mount_log"
  mount_image -v --log-file "$mount_log" "$@"
}
# record SOURCE FILE
record() {
  mount_cold "$1" --record "$2" --prefetch none
  run_program
  unmount
  wait_until test -s "$2"
}
# asked_for WHAT MARK: how many requests since then have this in their path.
asked_for() { requests_since "$2" | awk -v what="$1" 'index($2, what)' | wc -l; }
# starts_at_once SOURCE COUNT: so many chunks come without anything being read, and then the program
# runs by these alone.
starts_at_once() {
  local start
  start=$(mark)
  mount_cold "$1"
  wait_until logged "^.*$2 of the $2 chunks that a start of .* is expected to need are here"
  [[ $(figure bytes_needed) == 0 ]] || fail "something was read before the program"
  echo "requests until all is here: $(requests_since "$start" | wc -l)" >&2
  start=$(mark)
  run_program
  no_requests_since "$start" "the program"
  [[ $(figure chunks_from_network) == 0 ]] || fail "readers waited for the network"
  unmount
}

start_full_registry
"$puzzlefs" build --layout packed "$rootfs" "$work/layout:packed"
"$puzzlefs" push "$work/layout:packed" "$registry/packed:1" >&2
image=$("$puzzlefs" digest "$registry/packed:1")
readonly image
record "$registry/packed:1" "$work/trace"
count=$(chunk_count "$work/trace")

step "without a trace: two requests say that there is none, and nothing is fetched ahead"
start=$(mark)
mount_cold "$registry/packed:1"
tag_asked() { (($(asked_for "/manifests/sha256-" "$start") == 1)); }
wait_until tag_asked
(($(asked_for "/referrers/" "$start") == 1)) || fail "referrers were asked for more than once"
unmount
! logged 'warn\|referrer\|trace' || fail "that there is none is worth a word: $(<"$mount_log")"

step "one is attached"
"$puzzlefs" attach --trace "$work/trace" --digestfile "$work/digest" "$registry/packed:1" |
  tee "$work/said" >&2
grep -q "^Attached the trace to $registry/packed:1@$image, as $(<"$work/digest"): $count chunks of the image\.$" "$work/said" ||
  fail "it said: $(<"$work/said")"
curl -sf "http://$registry/v2/packed/manifests/$(<"$work/digest")" \
  -H 'Accept: application/vnd.oci.image.manifest.v1+json' >"$work/manifest"
[[ $(jq -r '.artifactType, .config.mediaType, .subject.digest, .layers[].mediaType' "$work/manifest") == \
  "$type"$'\n'"application/vnd.oci.empty.v1+json"$'\n'"$image"$'\n'"$type" ]] ||
  fail "the manifest is $(<"$work/manifest")"
cmp <(curl -sf "http://$registry/v2/packed/blobs/$(jq -r '.layers[0].digest' "$work/manifest")") "$work/trace"
[[ $("$puzzlefs" digest "$registry/packed:1") == "$image" ]] || fail "the image is another one now"

step "and changes nothing a second time"
start=$(mark)
[[ $("$puzzlefs" attach --trace "$work/trace" --format json "$registry/packed:1" |
  jq -r '.new, .digest, .image, .chunks, .unknown_chunks' | paste -sd ' ') == \
  "false $(<"$work/digest") $image $count 0" ]] || fail "it is not said to be there"
! requests_since "$start" | grep -v '^\(GET\|HEAD\) ' || fail "something was pushed again"

step "its chunks are there at once"
starts_at_once "$registry/packed:1" "$count"

step "unless they are not wanted"
start=$(mark)
mount_cold "$registry/packed:1" --prefetch none
run_program
(($(figure chunks_from_network) > 0)) || fail "the program needed nothing that was not there"
(($(asked_for /referrers/ "$start") == 0)) || fail "referrers were asked for"
unmount

step "nor does a mount ask for them that finds the image in the cache"
start=$(mark)
mount_image "$registry/packed@$image"
run_program
unmount
wait_until ended
no_requests_since "$start" "the mount"

step "the last one counts"
head -n 6 "$work/trace" >"$work/shorter"
echo "sha256:$(printf '0%.0s' {1..64})" >>"$work/shorter"
"$puzzlefs" attach --trace "$work/shorter" "$registry/packed:1" | grep -q ': 5 chunks of the image, 1 that is not in it\.$'
mount_cold "$registry/packed:1"
wait_until logged '5 of the 5 chunks'
unmount

step "one that is falsified is as good as none"
falsify "$(registry_blob "sha256:$(sha256sum <"$work/shorter" | cut -d ' ' -f 1)")"
mount_cold "$registry/packed:1"
wait_until logged 'starts without a trace that may be attached to it: The registry sent wrong bytes'
run_program
unmount

step "of a chunked image, too"
record "$registry/debian" "$work/chunked"
"$puzzlefs" attach --trace "$work/chunked" "$registry/debian" >&2
starts_at_once "$registry/debian" "$(chunk_count "$work/chunked")"

step "what makes no sense"
sed -n '1p;$p' "$work/shorter" >"$work/other"
fails_with 1 "^puzzlefs: None of the chunks in $work/other is in $registry/packed:1@$image: it is" \
  "$puzzlefs" attach --trace "$work/other" "$registry/packed:1"
fails_with 1 ' line 1: not a trace' "$puzzlefs" attach --trace "$0" "$registry/packed:1"
fails_with 2 ' --trace FILE\.$' "$puzzlefs" attach "$registry/packed:1"
fails_with 1 'has no tag none' "$puzzlefs" attach --trace "$work/trace" "$registry/packed:none"
