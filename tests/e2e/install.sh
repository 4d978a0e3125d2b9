#!/usr/bin/env bash
# install.sh BUILD_DIRECTORY: what is installed is there, and runs from there.
set -euo pipefail
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$1" --prefix "$prefix" >/dev/null
"$prefix/bin/puzzlefs" --version | grep -q '^puzzlefs [0-9]'
for file in share/man/man1/puzzlefs.1 share/bash-completion/completions/puzzlefs; do
  [[ -f $prefix/$file ]] || { echo "$file was not installed" >&2; exit 1; }
done
