#!/usr/bin/env bash
# The tree stays the same when its image is converted to the other layout and back, or ordered by a
# trace; push packs on the way, and after a change of one file sends little with few requests.
source "$(dirname "$0")/../lib.sh"

digest_of() {
  "$puzzlefs" inspect "$1" --format json | jq -er .digest
}

blobs_of() {
  jq -r '.layers[].digest' "$1/blobs/sha256/$(digest_of "$1:$2" | cut -d : -f 2)" | sort -u
}

same_tree_in() {
  "$puzzlefs" extract "$1" "$work/extracted"
  same_tree "$state/listing" "$work/extracted"
  rm -rf "$work/extracted"
}

step "chunked to packed"
"$puzzlefs" convert --layout packed "$state/layout" "$work/packed:one"
(($(blobs_of "$work/packed" one | wc -l) <= 9)) || fail "the packed image has more than 8 packs"
same_tree_in "$work/packed:one"

step "the same with one thread"
"$puzzlefs" convert --layout packed --threads 1 "$state/layout" "$work/packed:again"
[[ $(digest_of "$work/packed:one") == "$(digest_of "$work/packed:again")" ]] ||
  fail "the number of threads changes the image"

step "and back"
"$puzzlefs" convert --layout chunked "$work/packed:one" "$work/chunked:back"
# All but the metadata, which has link counts now.
[[ $(comm -12 <(blobs_of "$state/layout" latest) <(blobs_of "$work/chunked" back) | wc -l) == \
  $(($(blobs_of "$state/layout" latest | wc -l) - 1)) ]] || fail "the chunks are not the same"
same_tree_in "$work/chunked:back"
rm -rf "$work/chunked"

step "ordered by a trace"
{
  echo "puzzlefs-trace 1"
  chunks_of usr/bin/bash usr/bin/perl | tac
  echo "sha256:$(printf %064d 0)"
} >"$work/trace"
"$puzzlefs" optimize --format json --trace "$work/trace" "$state/layout" "$work/packed:hot" |
  jq -e ".hot_chunks == $(($(wc -l <"$work/trace") - 2)) and .unknown_chunks == 1" >&2 ||
  fail "optimize miscounts the chunks of the trace"
same_tree_in "$work/packed:hot"
echo "sha256:0" >>"$work/trace"
fails_with 1 "$work/trace, line $(wc -l <"$work/trace"): not the digest" \
  "$puzzlefs" optimize --trace "$work/trace" "$state/layout" "$work/packed:bad"
rm -rf "$work/packed"

step "pushed packed, without being told to"
start_registry
mkdir "$work/tmp"
start=$(mark)
TMPDIR=$work/tmp "$puzzlefs" push "$state/layout" "$registry/debian"
requests_since "$start" >"$work/requests"
(($(wc -l <"$work/requests") <= 60)) || fail "pushing made $(wc -l <"$work/requests") requests"
[[ -z $(ls -A "$work/tmp") ]] || fail "push left files behind: $(ls "$work/tmp")"
mount_image "$registry/debian"
same_tree "$state/listing" "$mnt"
unmount

step "pushed packed again"
start=$(mark)
TMPDIR=$work/tmp "$puzzlefs" push --format json "$state/layout" "$registry/debian" |
  jq -e '.new_blobs == 0' >&2 || fail "what is there was pushed again"
requests_since "$start" | grep -v '^GET /v2/ ' >"$work/requests"
[[ $(wc -l <"$work/requests") == 2 ]] ||
  fail "more than the manifest and its metadata was asked for: $(<"$work/requests")"

step "a change of one file, and told to pack"
cp -a --reflink=auto "$rootfs" "$work/tree"
printf 'changed\n' | dd of="$work/tree/usr/bin/bash" conv=notrunc bs=1 seek=500000 status=none
list_tree "$work/tree" >"$work/listing"
cp -a --reflink=auto "$state/layout" "$work/layout"
"$puzzlefs" build "$work/tree" "$work/layout:changed"
start=$(mark)
TMPDIR=$work/tmp "$puzzlefs" push --layout packed --format json "$work/layout:changed" "$registry/debian" \
  >"$work/result"
jq . "$work/result" >&2
requests_since "$start" >"$work/requests"
cat "$work/requests" >&2
(($(wc -l <"$work/requests") <= 10)) || fail "the change took $(wc -l <"$work/requests") requests"
jq -e '.new_bytes <= 1048576 and .new_blobs == 2' "$work/result" >/dev/null || fail "too much was pushed"
[[ -z $(ls -A "$work/tmp") ]] || fail "push left files behind: $(ls "$work/tmp")"
mount_image "$registry/debian"
same_tree "$work/listing" "$mnt"
unmount

step "pulled, packed as it is"
"$puzzlefs" pull "$registry/debian" "$work/pulled:copy"
"$puzzlefs" extract "$work/pulled:copy" "$work/extracted"
same_tree "$work/listing" "$work/extracted"

step "interrupted"
TMPDIR=$work/tmp "$puzzlefs" push "$state/layout" "$registry/other" 2>/dev/null &
pid=$!
wait_until compgen -G "$work/tmp/puzzlefs.*/blobs/sha256/*" >/dev/null
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
[[ $status == 143 ]] || fail "push ended with $status at SIGTERM"
[[ -z $(ls -A "$work/tmp") ]] || fail "an interrupted push left files behind"
