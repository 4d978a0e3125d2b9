#!/usr/bin/env bash
# push packs by default: one image, not an index of several, what is not PuzzleFS's or packed already.
# With --base the packs of another tag or repository are used again: mounted from there, or copied.
source "$(dirname "$0")/../lib.sh"

readonly layout=$work/layout

# push ARGUMENT…: its result in $work/result, its messages in $work/messages, its requests in $requests.
readonly requests=$work/requests
push() {
  local start
  start=$(mark)
  TMPDIR=$work/tmp "$puzzlefs" push --format json "$@" >"$work/result" 2>"$work/messages"
  requests_since "$start" >"$requests"
  cat "$work/messages" >&2
  jq -c . "$work/result" >&2
  [[ -z $(ls -A "$work/tmp") ]] || fail "push left files behind: $(ls "$work/tmp")"
}
uploads() { grep -c '^PUT .*/blobs/uploads/' "$requests" || true; }
result() { jq -er ".$1" "$work/result"; }
packs_of() { "$puzzlefs" inspect --format json "$1" | jq -r '.packs // 0'; }
manifest_of() { curl -sf -H "Accept: application/vnd.oci.image.manifest.v1+json" "http://$registry/v2/$1"; }
blob_file() { echo "$1/blobs/sha256/${2#sha256:}"; }
# put_blob FILE TYPE: into the layout; prints its descriptor.
put_blob() {
  local digest
  digest=$(sha256sum "$1" | cut -d ' ' -f 1)
  cp "$1" "$layout/blobs/sha256/$digest"
  jq -cn --arg type "$2" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$1")" \
    '{mediaType: $type, digest: $digest, size: $size}'
}
# tag NAME <DESCRIPTOR
tag() {
  jq -c --arg name "$1" '.annotations = {"org.opencontainers.image.ref.name": $name}' >"$work/entry"
  jq -c --slurpfile entry "$work/entry" '.manifests += $entry' "$layout/index.json" >"$work/index"
  cp "$work/index" "$layout/index.json"
}
readonly manifest_type=application/vnd.oci.image.manifest.v1+json

mkdir "$work/tmp"
cp -a "$rootfs/usr/lib" "$work/tree"
head -c 40000000 /dev/urandom >"$work/tree/large"
"$puzzlefs" build "$work/tree" "$layout:one" >&2
list_tree "$work/tree" >"$work/one.listing"
printf 'changed\n' | dd of="$work/tree/large" conv=notrunc bs=1 seek=500000 status=none
"$puzzlefs" build "$work/tree" "$layout:two" >&2
list_tree "$work/tree" >"$work/two.listing"
start_registry

step "packed without being told to"
push --dry-run --digestfile "$work/digest" "$layout:one" "$registry/app:1"
dry=$(result digest)
(($(result new_blobs) > 0)) || fail "nothing would be pushed"
[[ ! -e $work/digest && $(result dry_run) == true ]] || fail "a dry run wrote a digest"
! grep -Ev '^(GET|HEAD) ' "$requests" || fail "a dry run wrote"
push --digestfile "$work/digest" "$layout:one" "$registry/app:1"
[[ $(result digest) == "$dry" && $(<"$work/digest") == "$dry" ]] || fail "not the digest of the dry run"
[[ $(manifest_of app/manifests/1 | sha256sum) == "${dry#sha256:} "* ]] || fail "another digest was told"
packs=$(packs_of "$registry/app:1")
((packs >= 2 && $(uploads) == packs + 2)) || fail "$(uploads) uploads of $packs packs"
mount_image "$registry/app:1"
same_tree "$work/one.listing" "$mnt"
unmount
push "$layout:one" "$registry/app:1"
[[ $(result digest) == "$dry" && $(result new_blobs) == 0 ]] || fail "pushed anew"
! grep -Ev '^(GET|HEAD) ' "$requests" || fail "something was written again"

step "the tag of the version before as base"
push --base "$registry/app:1" "$layout:two" "$registry/app:2"
cat "$requests" >&2
[[ $(uploads) == 2 && $(wc -l <"$requests") -le 11 ]] || fail "too much was pushed"
(($(result new_bytes) < 1048576)) || fail "$(result new_bytes) bytes for one change"
first=$(result digest)
push --base "$registry/app:1" "$layout:two" "$registry/app:2"
[[ $(result digest) == "$first" && $(uploads) == 0 ]] || fail "the second push is not the first"
mount_image "$registry/app:2"
same_tree "$work/two.listing" "$mnt"
unmount

step "a base in another repository: mounted"
push --dry-run --base "$registry/app:1" "$layout:two" "$registry/team/other:2"
# The empty config too.
[[ $(result mounted_blobs) == $((packs + 1)) && $(result new_blobs) == 2 ]] || fail "a dry run miscounts"
push --base "$registry/app:1" "$layout:two" "$registry/team/other:2"
[[ $(result digest) == "$first" ]] || fail "another digest than with the base in the same repository"
[[ $(result mounted_blobs) == $((packs + 1)) && $(uploads) == 2 ]] || fail "the packs were not mounted"
[[ $(grep -c '^POST .*mount=' "$requests") == $((packs + 1)) ]] || fail "what is not there was asked for"
mount_image "$registry/team/other:2"
same_tree "$work/two.listing" "$mnt"
unmount

step "an image that is packed already: its packs are mounted too"
"$puzzlefs" pull "$registry/app:2" "$layout:packed" >&2
push --base "$registry/app:1" "$layout:packed" "$registry/again:2"
[[ $(result digest) == "$first" ]] || fail "a packed image was changed"
[[ $(result mounted_blobs) == $((packs + 1)) && $(uploads) == 2 ]] || fail "the packs were not mounted"

step "a base that is not there, not packed, or elsewhere"
push --base "$registry/app:none" "$layout:one" "$registry/alone:1"
grep -q "^Warning: $registry/app:none is not there" "$work/messages" || fail "no word of the base"
[[ $(result digest) == "$dry" && $(uploads) == "$((packs + 2))" ]] || fail "not all was pushed"
push --layout keep "$layout:one" "$registry/app:chunked"
[[ $(packs_of "$registry/app:chunked") == 0 ]] || fail "--layout keep packed"
[[ sha256:$(sha256sum "$(blob_file "$layout" "$(result digest)")" | cut -d ' ' -f 1) == "$(result digest)" ]] ||
  fail "--layout keep changed the manifest"
push --base "$registry/app:chunked" "$layout:one" "$registry/alone:2"
grep -q "^Warning: $registry/app:chunked is no packed image" "$work/messages" || fail "no word of the base"
fails_with 2 'is in another registry' "$puzzlefs" push --base elsewhere.example/app:1 "$layout:one" "$registry/app:3"
fails_with 2 'nothing is packed' "$puzzlefs" push --layout keep --base "$registry/app:1" "$layout:one" "$registry/app:3"

step "a name with a digest"
as_is=$("$puzzlefs" digest "$layout:one" | grep -o 'sha256:.*')
push "$layout:one" "$registry/exact:1@$as_is"
[[ $(result digest) == "$as_is" && $(packs_of "$registry/exact:1") == 0 ]] || fail "it is not the image asked for"
push "$layout:one" "$registry/exact:2@$dry"
[[ $(result digest) == "$dry" ]] || fail "it is not the packed image asked for"

step "what is no PuzzleFS image, and what a manifest says besides layers"
echo text >"$work/text"
echo '{"config":{"Env":["A=b"]}}' >"$work/config"
layer=$(put_blob "$work/text" text/plain)
config=$(put_blob "$work/config" application/vnd.oci.image.config.v1+json)
jq -cn --argjson layer "$layer" --argjson config "$config" \
  '{schemaVersion: 2, config: $config, layers: [$layer]}' >"$work/manifest"
put_blob "$work/manifest" "$manifest_type" | tag foreign
push "$layout:foreign" "$registry/foreign"
[[ $(result digest) == "sha256:$(sha256sum "$work/manifest" | cut -d ' ' -f 1)" ]] || fail "it was changed"
fails_with 1 'is not a PuzzleFS image' "$puzzlefs" push --layout packed "$layout:foreign" "$registry/foreign"
jq -c --argjson config "$config" '.config = $config | .annotations = {"made.by": "somebody"}' \
  "$(blob_file "$layout" "$as_is")" >"$work/manifest"
put_blob "$work/manifest" "$manifest_type" >"$work/annotated"
tag annotated <"$work/annotated"
push "$layout:annotated" "$registry/annotated"
manifest_of annotated/manifests/latest >"$work/pushed"
jq -e --argjson config "$config" \
  '.config == $config and .annotations["made.by"] == "somebody" and .layers[1].mediaType == "application/vnd.puzzlefs.image.pack.v1"' \
  "$work/pushed" >&2 || fail "not all that the manifest said was kept: $(<"$work/pushed")"
curl -sf "http://$registry/v2/annotated/blobs/$(jq -r .digest <<<"$config")" | cmp - "$work/config"

step "an index"
jq -c '.platform = {os: "linux", architecture: "arm64"}' "$work/annotated" >"$work/arm"
jq -cn --slurpfile entry "$work/arm" \
  '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: $entry}' >"$work/index.arm"
put_blob "$work/index.arm" application/vnd.oci.image.index.v1+json | tag index
push "$layout:index" "$registry/index"
[[ $(grep -c -e '--platform' "$work/messages") == 1 && $(wc -l <"$work/messages") == 1 ]] || fail "no word of the index"
[[ $(result digest) == "sha256:$(sha256sum "$work/index.arm" | cut -d ' ' -f 1)" ]] || fail "the index was changed"
push --platform linux/arm64 "$layout:index" "$registry/index:arm"
(($(packs_of "$registry/index:arm") >= 2)) || fail "the chosen image was not packed"
fails_with 2 'choose it with --platform' "$puzzlefs" push --layout packed "$layout:index" "$registry/index"
fails_with 2 'choose it with --platform' "$puzzlefs" push --base "$registry/app:1" "$layout:index" "$registry/index"
