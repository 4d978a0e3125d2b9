#!/usr/bin/env bash
# A packed image costs a registry few requests: when it is pushed, when it is pushed again with one
# file changed, and none when all of its names are listed. The goals are those of the benchmark.
source "$(dirname "$0")/../lib.sh"

TMPDIR=$work PYTHONDONTWRITEBYTECODE=1 \
  python3 "$project/bench/requests.py" "$puzzlefs" --files 20000 --mib 256 --listed 20000 >&2 ||
  fail "more requests than there should be"
