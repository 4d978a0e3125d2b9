#!/usr/bin/env bash
# The fault registry is a registry, as long as it behaves: skopeo copies images into it and back,
# lists and deletes them; without and with passwords, with tokens, and by way of a storage host.
source "$(dirname "$0")/../e2e/lib.sh"

umask 077
readonly faults=$project/tests/faults/fault_registry.py
export HOME=$work XDG_RUNTIME_DIR=$work
unset DOCKER_CONFIG REGISTRY_AUTH_FILE
printf ali:open-sesame-2846 >"$work/user"

# Two images with blobs in common.
mkdir "$work/tree"
head -c 300000 /dev/urandom >"$work/tree/random"
"$puzzlefs" build "$work/tree" "$work/layout:one" >/dev/null
echo more >"$work/tree/more"
"$puzzlefs" build "$work/tree" "$work/layout:two" >/dev/null

# And one as containers have them.
umoci init --layout "$work/plain"
umoci new --image "$work/plain:latest"

# start_faults OPTION…: the registry as $registry.
start_faults() {
  rm -f "$work/listening"
  "$faults" --log "$access_log" "$@" >"$work/listening" &
  registry_pid=$!
  disown "$registry_pid"
  wait_until test -s "$work/listening"
  registry=$(jq -r .registry "$work/listening")
  printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$registry" "$(base64 -w 0 "$work/user")" \
    >"$work/auth.json"
}

quietly() {
  "$@" >"$work/output" 2>&1 || fail "$*: $(<"$work/output")"
}

# with_skopeo OPTION…: all that skopeo does with a registry, of that kind.
with_skopeo() {
  local image layout=$work/layout copy=$work/copy tag
  step "skopeo, with ${*:-nothing special}"
  rm -rf "$copy" "$access_log"
  start_faults "$@"
  image=docker://$registry/library/tree
  local tls=(--authfile "$work/auth.json" --tls-verify=false)
  for tag in one two; do
    quietly skopeo copy "${tls[@]/--tls/--dest-tls}" "oci:$layout:$tag" "$image:$tag"
    skopeo inspect --raw "${tls[@]}" "$image:$tag" >"$work/manifest"
    skopeo inspect --raw "oci:$layout:$tag" | cmp - "$work/manifest" || fail "$tag is another image"
    quietly skopeo copy "${tls[@]/--tls/--src-tls}" "$image:$tag" "oci:$copy:$tag"
  done
  diff -r "$layout/blobs" "$copy/blobs" || fail "the copies have other blobs"
  [[ $(skopeo list-tags "${tls[@]}" "$image" | jq -c .Tags) == '["one","two"]' ]] ||
    fail "other tags are listed"
  quietly skopeo copy "${tls[@]/--tls/--dest-tls}" --format v2s2 "oci:$work/plain:latest" \
    "$image-plain"
  skopeo inspect "${tls[@]}" "$image-plain" | jq -e '.Os == "linux" and .RepoTags == ["latest"]' \
    >/dev/null || fail "skopeo inspect does not find its way"
  step "  another repository, with blobs mounted from the first"
  quietly skopeo copy --authfile "$work/auth.json" --src-tls-verify=false --dest-tls-verify=false \
    "$image:two" "docker://$registry/other:two"
  quietly skopeo delete "${tls[@]}" "$image:one"
  [[ $(skopeo list-tags "${tls[@]}" "$image" | jq -c .Tags) == '["two"]' ]] || fail "not deleted"
  fails_with 1 'manifest unknown|no such manifest' skopeo inspect "${tls[@]}" "$image:one"
  stop_registry
}

with_skopeo
grep -q '"path": "/v2/other/blobs/uploads/?.*mount=' "$access_log" || fail "nothing was mounted"
with_skopeo --auth basic --user-file "$work/user"
with_skopeo --auth bearer --user-file "$work/user"
with_skopeo --auth bearer --user-file "$work/user" --storage
jq -es 'map(select(.server == "storage")) | length > 0 and all(.authorization | not)' "$access_log" \
  >/dev/null || fail "the storage host saw nothing, or a password"

step "what it kept in a directory is there when it starts again"
start_faults --directory "$work/kept"
quietly skopeo copy --dest-tls-verify=false "oci:$work/layout:one" "docker://$registry/kept:one"
stop_registry
start_faults --directory "$work/kept"
quietly skopeo copy --src-tls-verify=false "docker://$registry/kept:one" "oci:$work/again:one"
for blob in "$work"/again/blobs/sha256/*; do
  cmp "$blob" "$work/layout/blobs/sha256/${blob##*/}"
done
stop_registry

step "ranges and pages of tags, which skopeo does not ask for"
start_faults --directory "$work/kept"
readonly url=http://$registry/v2/kept
quietly skopeo copy --dest-tls-verify=false "oci:$work/layout:two" "docker://$registry/kept:two"
blob=$(jq -r '.layers[-1].digest' "$work/layout/blobs/sha256/$(jq -r '.manifests[0].digest' \
  "$work/layout/index.json" | cut -d : -f 2)")
file=$work/layout/blobs/sha256/${blob#*:}
size=$(stat -c %s "$file")
# range RANGE FIRST LENGTH: the answer is that part of the blob.
range() {
  curl -sS -D "$work/headers" -o "$work/part" -r "$1" "$url/blobs/$blob"
  grep -q '^HTTP/1.1 206' "$work/headers" || fail "$1 is answered by $(head -n 1 "$work/headers")"
  grep -Fq "Content-Range: bytes $2-$(($2 + $3 - 1))/$size" "$work/headers" || fail "$1: another part"
  [[ $(stat -c %s "$work/part") == "$3" ]] || fail "$1: $3 bytes are announced, others come"
  cmp -i "$2:0" -n "$3" "$file" "$work/part"
}
range 5-9 5 5
range 100- 100 $((size - 100))
range -7 $((size - 7)) 7
range 5-99999999 5 $((size - 5))
[[ $(curl -sS -o /dev/null -w '%{http_code}' -r "$size-" "$url/blobs/$blob") == 416 ]] || fail "no 416"
[[ $(curl -sS -D "$work/headers" "$url/tags/list?n=1" | jq -c .tags) == '["one"]' ]] || fail "no page"
next=$(sed -n 's/^Link: <\(.*\)>; rel="next".*/\1/p' "$work/headers")
[[ $(curl -sS -D "$work/headers" "http://$registry$next" | jq -c .tags) == '["two"]' ]] || fail "no next"
! grep -q ^Link "$work/headers" || fail "the last page has a next one"
stop_registry

step "no password, no image"
start_faults --auth bearer --user-file "$work/user"
fails_with 1 'authentication required|unauthorized' skopeo inspect --no-creds --tls-verify=false \
  "docker://$registry/library/tree:two"
