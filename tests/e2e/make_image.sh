#!/usr/bin/env bash
# Builds the tree into $E2E_STATE/layout and pushes it into a registry whose storage is kept as
# $E2E_STATE/registry, for the scenarios to copy. $E2E_STATE/listing is what the tree looks like.
source "$(dirname "$0")/lib.sh"

"$here/make_rootfs.sh" "$rootfs"
rm -rf "$state"
mkdir -p "$state"
list_tree "$rootfs" >"$state/listing"

step "build"
"$puzzlefs" build "$rootfs" "$state/layout"

step "push"
start_registry
"$puzzlefs" push --layout keep "$state/layout" "$registry/debian"
stop_registry
cp -a "$registry_storage" "$state/registry"
