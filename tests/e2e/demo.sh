#!/usr/bin/env bash
# The whole road on a real Debian: build an image, push it to a registry, mount it lazily from there
# with an empty cache, read from it, and say what each step cost. What ./dev demo runs.
source "$(dirname "$0")/lib.sh"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# As a person would type it: without our paths.
show() { printf '  $ %s\n' "$(sed "s,$puzzlefs,puzzlefs,; s,$work/,,g; s,$project/,,g" <<<"$*")"; }

run() {
  show "$@"
  "$@" 2>&1 | sed 's/^/    /'
}

# seconds COMMAND…: how long it takes; its output is shown only if it fails.
seconds() {
  local TIMEFORMAT=%R
  { time "$@" >"$work/seconds.out" 2>&1; } 2>&1 || { cat "$work/seconds.out" >&2; return 1; }
}

# fetched_since MARK: what the registry sent since then, by its access log.
fetched_since() {
  requests_since "$1" | awk '
    { requests++; if ($1 == "GET") bytes += $4 }
    END { printf "%d requests, %.1f MiB\n", requests, bytes / 1048576 }'
}

mebibytes() { du -s --apparent-size --block-size=1M "$@" | cut -f 1; }

"$here/make_rootfs.sh" "$rootfs"
say "A Debian tree: $(find "$rootfs" | wc -l) files, $(mebibytes "$rootfs") MiB"

say "Build an image of it"
show "$puzzlefs" build --compression "$rootfs" "$work/images:debian"
took=$(seconds "$puzzlefs" build --compression "$rootfs" "$work/images:debian")
echo "    $took s: $(mebibytes "$work/images") MiB in $(find "$work/images/blobs/sha256" -type f | wc -l) blobs"
run "$puzzlefs" inspect "$work/images:debian"

start_registry
say "Push it to a registry on $registry, twice"
run "$puzzlefs" push "$work/images:debian" "$registry/debian"
run "$puzzlefs" push "$work/images:debian" "$registry/debian"

say "Mount it from there, with an empty cache"
start=$(mark)
show "$puzzlefs" mount --cache-dir "$cache" "$registry/debian" "$mnt"
took=$(seconds "$puzzlefs" mount --cache-dir "$cache" "$registry/debian" "$mnt")
echo "    $took s: $(fetched_since "$start")"

say "Use it"
start=$(mark)
run chroot "$mnt" /bin/cat /etc/os-release
echo "    fetched for that: $(fetched_since "$start")"
start=$(mark)
run sh -c "ls -lR '$mnt' | wc -l"
echo "    fetched for that: $(fetched_since "$start")"
start=$(mark)
run chroot "$mnt" /usr/bin/perl -e 'print "perl $^V runs from the mount\n"'
echo "    fetched for that: $(fetched_since "$start")"

unmount
say "Done: the mount and the registry are gone. \`puzzlefs --help\` tells the rest."
