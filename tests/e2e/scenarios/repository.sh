#!/usr/bin/env bash
# What a repository holds: tags, digests, and images that go again.
source "$(dirname "$0")/../lib.sh"

# shellcheck disable=SC2034  # for start_registry
registry_deletes=true
"$puzzlefs" build "$rootfs/etc" "$work/layout:one" >/dev/null
"$puzzlefs" build "$rootfs/usr/share/perl5" "$work/layout:two" >/dev/null
start_registry
readonly repository=$registry/team/app
"$puzzlefs" push --layout keep "$work/layout:one" "$repository:one" >/dev/null
"$puzzlefs" push --layout keep "$work/layout:one" "$repository:same" >/dev/null
"$puzzlefs" push --layout keep "$work/layout:two" "$repository:two" >/dev/null

step "tags, of a layout and of a registry"
[[ $("$puzzlefs" tags "$work/layout" | xargs) == "one two" ]] || fail "tags of the layout"
[[ $("$puzzlefs" tags "$repository" | sort | xargs) == "one same two" ]] || fail "tags of the repository"
[[ $("$puzzlefs" tags --format json "$repository" | jq -r '.tags[]' | sort | xargs) == "one same two" ]] ||
  fail "tags as JSON"
[[ $("$puzzlefs" tags "$repository" | sort) == \
  $(skopeo list-tags --tls-verify=false "docker://$repository" | jq -r '.Tags[]' | sort) ]] ||
  fail "skopeo sees other tags"

step "digest"
digest=$("$puzzlefs" digest "$repository:one")
[[ $digest == "$("$puzzlefs" digest "$work/layout:one")" ]] || fail "the digests differ"
[[ $digest == "$(skopeo inspect --tls-verify=false --raw "docker://$repository:one" | sha256sum |
  sed 's/^\(.*\)  -/sha256:\1/')" ]] || fail "skopeo sees another digest"
[[ $digest == "$("$puzzlefs" digest "$repository@$digest")" ]] || fail "by digest"
[[ $digest == "$("$puzzlefs" digest --format json "$repository:one" | jq -r .digest)" ]] ||
  fail "as JSON"

step "delete takes the image and all its tags, and nothing else"
"$puzzlefs" delete "$repository:one" | grep -q "$digest"
[[ $("$puzzlefs" tags "$repository") == two ]] || fail "left: $("$puzzlefs" tags "$repository")"
fails_with 1 'has no manifest' "$puzzlefs" delete "$repository@$digest"
fails_with 1 'has no tag one' "$puzzlefs" delete "$repository:one"
mount_image "$repository:two"
unmount

step "a registry that lets nobody delete, and a repository that there is not"
fails_with 1 'There is no repository' "$puzzlefs" tags "$registry/none"
stop_registry
registry_deletes=false
start_registry
fails_with 1 'lets nobody delete' "$puzzlefs" delete "$repository:two"
