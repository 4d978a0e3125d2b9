#!/usr/bin/env bash
# make_rootfs.sh DIR: the tree that the scenarios and the demo are about. A real Debian 12 (about
# 190 MB), and in srv/kinds one of each kind of file that it lacks. Made once: a tree that is there
# already is left as it is, and whoever comes while it is being made waits for it.
#
# A DIR that ends in ".small" is the same tree (DIR without the ending, made too) without its bulk, for
# programs that are slow: what apt has downloaded, its lists, and translations, which are many files
# alike. About 90 MB stay.
set -euo pipefail

# Raise it when this script makes a different tree.
readonly version=1

add_kinds() {
  local kinds=$1/srv/kinds
  mkdir -p "$kinds/deep/er"
  cd "$kinds"
  head -c 1500000 "$1/usr/bin/perl" >big
  ln big big.hard
  ln -s big big.soft
  ln -s "$(printf 'b%.0s' {1..4000})" long.soft
  : >empty
  truncate -s 1000000 zeros
  mkfifo pipe
  mknod char c 4095 1048575
  mknod block b 8 17
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
  printf 'n' >"$(printf '\xff\xfe not UTF-8')"
  printf 'u' >ünïcode
  printf 'l' >"$(printf 'a%.0s' {1..255})"
  printf 'x' >deep/er/one
  setfattr -n user.binary -v 0x0001ff00 empty
  setfattr -n user.note -v hello empty
  setfattr -n user.empty -v '' empty
  setfattr -n trusted.note -v secret deep
  setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 big
  chown 4000000000:3000000000 zeros
  chown -h 7:8 big.soft
  chmod 4755 zeros
  chmod 2755 deep
  chmod 1777 deep/er
  chmod 000 deep/er/one
}

make_full() {
  local tree=$1
  if ! debootstrap --variant=minbase bookworm "$tree.partial" >"$tree.log" 2>&1; then
    echo "debootstrap failed; $tree.log ends:" >&2
    tail -n 5 "$tree.log" >&2
    exit 1
  fi
  (add_kinds "$(realpath "$tree.partial")")
}

make_small() {
  local tree=$1
  "$0" "${tree%.small}"
  cp -a "${tree%.small}" "$tree.partial"
  rm -rf "$tree.partial"/{var/cache/apt,var/lib/apt/lists,usr/share/locale}/*
}

main() {
  local tree=$1
  mkdir -p "$(dirname "$tree")"
  exec 9>"$tree.lock"
  flock 9
  [[ $(cat "$tree.version" 2>/dev/null) != "$version" ]] || return 0
  rm -rf "$tree" "$tree.partial"
  if [[ $tree == *.small ]]; then
    make_small "$tree"
  else
    echo "Making a Debian tree at $tree with debootstrap…" >&2
    make_full "$tree"
  fi
  mv "$tree.partial" "$tree"
  echo "$version" >"$tree.version"
}

if (($# != 1)); then
  echo "Usage: $0 DIR" >&2
  exit 2
fi
main "$1"
