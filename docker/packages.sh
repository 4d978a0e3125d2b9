#!/bin/sh
# packages.sh SECTION…: installs these sections of packages.txt, in an image that is being built.
set -eu
list=$(awk -v wanted=" $* " '
  /^\[.*\]$/ { inside = index(wanted, " " substr($0, 2, length($0) - 2) " "); next }
  inside && NF && !/^#/' "$(dirname "$0")/../packages.txt" | sort -u)
apt-get update
# shellcheck disable=SC2086  # one word for each package
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $list
rm -rf /var/lib/apt/lists/*
