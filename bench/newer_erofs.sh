#!/usr/bin/env bash
# newer_erofs.sh DIR: a minimal Debian 13 in DIR, for its mkfs.erofs: that of Debian 12 can deduplicate
# nothing within compressed images. dedup.py runs it with the libraries that are there.
set -euo pipefail

readonly target=$1

[[ -x $target/usr/bin/mkfs.erofs ]] && exit
rm -rf "$target"
mkdir -p "$target"
echo "Getting a newer mkfs.erofs…" >&2
debootstrap --variant=minbase --include=erofs-utils trixie "$target" >"$target.log" 2>&1
