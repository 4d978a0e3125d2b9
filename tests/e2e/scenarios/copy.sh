#!/usr/bin/env bash
# Images go from a layout to a registry, within it, to another one and back to a layout, whole and
# with their digests; only what is missing moves. So do indexes of images.
source "$(dirname "$0")/../lib.sh"

# start_second_registry: another one, at $second.
start_second_registry() {
  local log=$work/second.err
  cat >"$work/second.yml" <<END
version: 0.1
storage: { filesystem: { rootdirectory: $work/second } }
http: { addr: "127.0.0.1:0" }
END
  : >"$log"
  docker-registry serve "$work/second.yml" >/dev/null 2>"$log" &
  started+=($!)
  disown $!
  wait_until grep -q 'listening on' "$log"
  second=$(grep -o 'listening on [0-9.:]*' "$log" | cut -d ' ' -f 3)
}

skopeo_digest() {
  skopeo inspect --tls-verify=false --raw "docker://$1" | sha256sum | sed 's/^\(.*\)  -/sha256:\1/'
}

# member NAME: of the JSON that a command printed last.
member() {
  jq -r ".$1" "$work/result"
}

copy() {
  "$puzzlefs" copy --format json "$@" >"$work/result"
}

start_registry
start_second_registry
"$puzzlefs" build "$rootfs/usr/share/perl5" "$work/layout:one" >/dev/null
list_tree "$rootfs/usr/share/perl5" >"$work/listing"
digest=$("$puzzlefs" digest "$work/layout:one")
# All but the manifest.
blobs=$(($(find "$work/layout/blobs/sha256" -type f | wc -l) - 1))
readonly digest blobs

step "a dry run counts, and changes nothing"
start=$(mark)
copy --dry-run --digestfile "$work/digest" "$work/layout:one" "$registry/first:one"
[[ $(member new_blobs) == "$blobs" && $(member dry_run) == true ]] || fail "counts $(<"$work/result")"
! requests_since "$start" | grep -Ev '^(GET|HEAD) ' >&2 || fail "a dry run changes something"
[[ ! -e $work/digest ]] || fail "a dry run wrote the digest"
fails_with 1 'has no tag one|no repository' "$puzzlefs" digest "$registry/first:one"

step "from a layout to a registry"
copy --digestfile "$work/digest" "$work/layout:one" "$registry/first:one"
[[ $(member new_blobs) == "$blobs" && $(member dry_run) == false ]] || fail "counts $(<"$work/result")"
[[ $(<"$work/digest") == "$digest" && $(stat -c %s "$work/digest") == 71 ]] ||
  fail "the digest file has $(<"$work/digest")"
[[ $(skopeo_digest "$registry/first:one") == "$digest" ]] || fail "skopeo sees another digest"

step "to another repository of the registry: no blob is read or sent"
start=$(mark)
copy "$registry/first:one" "docker://$registry/team/second:one"
[[ $(member mounted_blobs) == "$blobs" && $(member new_blobs) == 0 ]] || fail "counts $(<"$work/result")"
[[ -z $(blobs_since "$start") ]] || fail "blobs were read"
! requests_since "$start" | grep -q '^PUT .*/blobs/' || fail "blobs were sent"
[[ $(requests_since "$start" | grep -c '^POST .*?mount=.* 201 ') == "$blobs" ]] ||
  fail "other requests than $blobs mounts: $(requests_since "$start")"

step "again: nothing is asked for but the manifests"
start=$(mark)
copy "$registry/first:one" "$registry/team/second:one"
[[ $(member present_blobs) == "$blobs" ]] || fail "counts $(<"$work/result")"
! requests_since "$start" | grep -Ev '^GET /v2/((first|team/second)/manifests/one)? ' >&2 ||
  fail "more was asked for than the manifests"

step "to another registry, back to a layout, and to another layout"
copy "$registry/team/second:one" "$second/far:one"
[[ $(member new_blobs) == "$blobs" && $(member mounted_blobs) == 0 ]] || fail "counts $(<"$work/result")"
[[ $(skopeo_digest "$second/far:one") == "$digest" ]] || fail "skopeo sees another digest"
copy "docker://$second/far:one" "oci:$work/back"
copy "$work/back:one" "$work/other"
[[ $("$puzzlefs" digest "$work/other:one") == "$digest" ]] || fail "the digest changed on the way"
mount_image "$work/other:one"
same_tree "$work/listing" "$mnt"
unmount

step "an index, with an image that is not PuzzleFS's"
"$puzzlefs" build "$rootfs/etc" "$work/layout:two" >/dev/null
add_blob() {
  local file=$work/blob hex
  cat >"$file"
  hex=$(sha256sum "$file" | cut -d ' ' -f 1)
  cp "$file" "$work/layout/blobs/sha256/$hex"
  jq -nc --arg type "$1" --arg digest "sha256:$hex" --argjson size "$(stat -c %s "$file")" \
    '{mediaType: $type, digest: $digest, size: $size}'
}
readonly type=application/vnd.oci.image
statement=$(echo '{"signed": "yes"}' | add_blob application/vnd.in-toto+json)
config=$(echo '{}' | add_blob $type.config.v1+json)
attestation=$(jq -nc --argjson layer "$statement" --argjson config "$config" --arg type $type \
  '{schemaVersion: 2, mediaType: "\($type).manifest.v1+json", config: $config, layers: [$layer]}' |
  add_blob $type.manifest.v1+json)
# platform_of TAG PLATFORM: the layout's entry of that tag, for a platform.
platform_of() {
  jq -c --arg tag "$1" --argjson platform "$2" '.manifests[] |
    select(.annotations["org.opencontainers.image.ref.name"] == $tag) |
    del(.annotations) | .platform = $platform' "$work/layout/index.json"
}
host=$(jq -c '.manifests[0].platform' "$work/layout/index.json")
index=$(jq -nc --argjson one "$(platform_of one "$host")" --arg type $type \
  --argjson two "$(platform_of two '{"os":"linux","architecture":"arm","variant":"v7"}')" \
  --argjson attestation "$(jq -c '.platform = {os: "unknown", architecture: "unknown"}' <<<"$attestation")" \
  '{schemaVersion: 2, mediaType: "\($type).index.v1+json", manifests: [$two, $attestation, $one]}' |
  add_blob $type.index.v1+json)
jq -c --argjson index "$index" '.manifests += [$index |
  .annotations["org.opencontainers.image.ref.name"] = "all"]' "$work/layout/index.json" >"$work/index"
cp "$work/index" "$work/layout/index.json"
index_digest=$(jq -r .digest <<<"$index")
readonly index_digest

"$puzzlefs" push "$work/layout:all" "$registry/first:all" >&2
copy "$registry/first:all" "$registry/team/second:all"
copy "$registry/team/second:all" "$second/far:all"
[[ $(skopeo_digest "$second/far:all") == "$index_digest" ]] || fail "skopeo sees another digest"
skopeo --insecure-policy copy --quiet --all --preserve-digests --src-tls-verify=false \
  "docker://$second/far:all" "oci:$work/skopeo:all"
"$puzzlefs" pull --platform all "$second/far:all" "$work/whole" >&2
[[ $("$puzzlefs" digest "$work/whole") == "$index_digest" ]] || fail "pull changed the digest"
diff <(find "$work/skopeo/blobs" -type f -printf '%f\n' | sort) \
  <(find "$work/whole/blobs" -type f -printf '%f\n' | sort) || fail "skopeo has other blobs"

step "one image of it"
[[ $("$puzzlefs" digest --platform linux/arm/v7 "$second/far:all") == \
  $("$puzzlefs" digest "$work/layout:two") ]] || fail "another digest for a platform"
"$puzzlefs" pull "$second/far:all" "$work/host" >&2
[[ $("$puzzlefs" digest "$work/host") == "$digest" ]] || fail "pull took another image"
"$puzzlefs" extract --platform linux/arm --cache-dir "$cache" "$second/far:all" "$work/etc"
list_tree "$rootfs/etc" >"$work/listing"
same_tree "$work/listing" "$work/etc"
mount_image --platform linux/arm/v7 "$work/whole:all"
same_tree "$work/listing" "$mnt"
unmount
fails_with 1 'It has: linux/arm/v7, unknown/unknown, ' \
  "$puzzlefs" copy --platform plan9/mips "$second/far:all" "$work/none"
[[ ! -e $work/none ]] || fail "a layout was made for nothing"
