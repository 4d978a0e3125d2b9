#!/usr/bin/env bash
# startup_tree.sh TREE IMAGE: the Debian 12 tree of the start-up benchmark, with the programs of a usual
# application image, and the same as an ordinary OCI image of one layer, IMAGE:latest. What is there
# stays as it is.
set -euo pipefail

readonly tree=$1
readonly image=$2

make_tree() {
  local partial=$tree.partial
  echo "Making a Debian tree…" >&2
  rm -rf "$partial"
  {
    debootstrap --variant=minbase bookworm "$partial"
    chroot "$partial" apt-get update
    DEBIAN_FRONTEND=noninteractive chroot "$partial" apt-get install -y --no-install-recommends \
      python3 python3-numpy gcc git nginx-light nodejs perl ca-certificates curl
    chroot "$partial" apt-get clean
  } >"$tree.log" 2>&1
  mv "$partial" "$tree"
}

make_image() {
  echo "Making an ordinary image of it…" >&2
  rm -rf "$image.partial"
  umoci init --layout "$image.partial"
  umoci new --image "$image.partial:latest"
  umoci insert --image "$image.partial:latest" "$(realpath "$tree")" / >"$image.log" 2>&1
  mv "$image.partial" "$image"
}

mkdir -p "$(dirname "$tree")" "$(dirname "$image")"
[[ -d $tree ]] || make_tree
[[ -d $image ]] || make_image
