#!/usr/bin/env bash
# Fetched files become whole files of the cache, which the kernel reads by itself: also while the
# daemon is stopped, and through two mounts from the same memory. Where the kernel or the user may not
# do that the daemon reads from the same files.
if [[ -z ${E2E_OWN_MOUNTS:-} ]]; then E2E_OWN_MOUNTS=1 exec unshare --mount "$0"; fi
unset E2E_IN_MEMORY # pages in memory are looked at
source "$(dirname "$0")/../lib.sh"

readonly small=etc/bash.bashrc
readonly large=usr/bin/perl
readonly second=$work/second
mkdir "$second"

kernel_passes_through() {
  printf '6.9\n%s\n' "$(uname -r)" | sort --version-sort --check=quiet
}

# whole_file PATH: the cache's whole file of a path of the tree; fails if there is none.
whole_file() {
  local file
  while read -r file; do
    if cmp -s "$file" "$rootfs/$1"; then
      echo "$file"
      return
    fi
  done < <(find "$cache/files" -type f -size "$(stat -c %s "$rootfs/$1")c")
  return 1
}
is_whole() { whole_file "$1" >/dev/null; }

# has_recipes COUNT: so many images have the large file. What a recipe names is the file's name in base64.
has_recipes() {
  local name
  name=$(basename "$(whole_file "$large")" | tr a-f A-F | basenc --decode --base16 | base64)
  (($(find "$cache/recipes" -lname "$name" | wc -l) == $1))
}

# pages_in_memory PATH: how much of it is in the page cache.
pages_in_memory() { fincore --bytes --noheadings --output PAGES "$1" | tr -d ' '; }

# drop_pages PATH: the kernel forgets what it has of that file.
drop_pages() {
  sync --data "$1"
  dd if="$1" iflag=nocache count=0 status=none
}

# read_without_daemon PATH: opened with the daemon's help, read without. What an earlier reader left in
# memory, of the mount's file or of the whole one, would be read whoever serves it.
read_without_daemon() {
  local daemon file status=0
  drop_pages "$mnt/$1"
  drop_pages "$(whole_file "$1")"
  (($(pages_in_memory "$mnt/$1") == 0)) || fail "pages of $1 are left in memory"
  daemon=$(daemon_pid)
  exec {file}<"$mnt/$1"
  kill -STOP "$daemon"
  timeout 10 cmp - "$rootfs/$1" <&"$file" || status=$?
  kill -CONT "$daemon"
  exec {file}<&-
  ((status == 0)) || fail "$1 is not read by the kernel alone"
}

start_registry
mkdir -p "$work/debian/usr/bin" "$work/other"
cp -a "$rootfs/etc" "$work/debian/etc"
cp "$rootfs/$large" "$work/debian/$large"
cp "$rootfs/$large" "$work/other/library"
for image in debian other; do
  "$puzzlefs" build "$work/$image" "$work/layout:$image" >&2
  "$puzzlefs" push --layout keep "$work/layout:$image" "$registry/$image" >&2
done

step "files become whole"
mount_image "$registry/debian"
cmp "$mnt/$small" "$rootfs/$small"
is_whole "$small" || fail "the small file is not whole once it was opened"
cmp "$mnt/$large" "$rootfs/$large"
wait_until is_whole "$large"
(($(stat -c %a "$(whole_file "$large")") == 600)) || fail "others may read the whole file"

if kernel_passes_through; then
  step "the kernel reads them by itself"
  read_without_daemon "$small"
  read_without_daemon "$large"

  step "two mounts of images that share a library share its pages"
  "$puzzlefs" mount --cache-dir "$cache" "$registry/other" "$second"
  cmp "$second/library" "$rootfs/$large"
  wait_until has_recipes 2 # the other image is cut into other chunks
  drop_pages "$second/library" # its own, if it has any
  drop_pages "$(whole_file "$large")"
  (($(pages_in_memory "$second/library") == 0)) || fail "pages are left in memory"
  read_without_daemon "$large"
  pages=$(($(stat -c %s "$rootfs/$large") / 4096 + 1))
  (($(pages_in_memory "$second/library") == pages)) ||
    fail "the second mount sees $(pages_in_memory "$second/library") of $pages pages in memory"
  "$puzzlefs" umount "$second"
else
  step "this kernel cannot read them by itself: $(uname -r)"
fi

step "what is open is not evicted"
exec {file}<"$mnt/$large"
"$puzzlefs" cache prune --cache-dir "$cache" >&2
is_whole "$large" || fail "a file in use was evicted"
! is_whole "$small" || fail "a file that nobody uses was not"
cmp - "$rootfs/$large" <&"$file"
exec {file}<&-
"$puzzlefs" cache prune --cache-dir "$cache" >&2
! is_whole "$large" || fail "it stays when nobody has it open"
[[ -z $(find "$cache/recipes" -type l) ]] || fail "recipes of evicted files are left"

step "what was falsified is made anew"
unmount # the kernel has the file in memory, and would fetch nothing
mount_image "$registry/debian"
cmp "$mnt/$large" "$rootfs/$large"
wait_until is_whole "$large"
cmp "$mnt/$small" "$rootfs/$small"
unmount
for path in "$small" "$large"; do falsify "$(whole_file "$path")"; done
mount_image "$registry/debian" --log-file "$work/log"
cmp "$mnt/$small" "$rootfs/$small"
cmp "$mnt/$large" "$rootfs/$large"
is_whole "$small" || fail "the small file was not made anew"
cmp "$mnt/$large" "$rootfs/$large"
wait_until is_whole "$large"
daemon=$(daemon_pid)
unmount
grep -q 'moved to .*quarantine' "$work/log" || fail "the log does not tell of it: $(<"$work/log")"
(($(find "$cache/quarantine" -name 'file-*' | wc -l) == 2)) || fail "not both are in quarantine"

step "after a restart, without the chunks that it stands for"
# demoted: the chunks that are evicted first, for a whole file has their bytes.
demoted() { find "$cache/blobs" -type f ! -newermt 1970-01-02 "$@"; }
wait_until gone "$daemon"
[[ -n $(demoted) ]] || fail "no chunk is to be evicted first"
for options in --offline ''; do
  demoted -delete
  start=$(mark)
  # shellcheck disable=SC2086  # none or one
  mount_image "$registry/debian" $options
  cmp "$mnt/$large" "$rootfs/$large" || fail "it is not read from the whole file (${options:-online})"
  [[ -z $(blobs_since "$start") ]] || fail "what the whole file has was got: $(blobs_since "$start")"
  daemon=$(daemon_pid)
  unmount
  wait_until gone "$daemon"
done

step "with changes on top"
mount_image "$registry/debian" --writable
cmp "$mnt/$large" "$rootfs/$large"
echo more >>"$mnt/$small"
[[ $(head -c -5 "$mnt/$small") == "$(<"$rootfs/$small")" ]] || fail "a change lost what was there"
unmount
rm -rf "${mnt:?}"/*

step "a user without the privilege"
let_users_mount
rm -rf "$cache"
mkdir "$work/home" "$cache"
chown -R nobody:nogroup "$work/home" "$cache" "$mnt"
chmod 755 "$work"
as_nobody env PUZZLEFS_LOG=debug "$puzzlefs" mount --cache-dir "$cache" --log-file "$work/home/log" \
  "$registry/debian" "$mnt"
for round in 1 2; do
  as_nobody cmp "$mnt/$small" "$rootfs/$small" || fail "the small file differs in round $round"
  as_nobody cmp "$mnt/$large" "$rootfs/$large" || fail "the large file differs in round $round"
  wait_until is_whole "$large"
done
as_nobody "$puzzlefs" umount "$mnt"
grep -iq 'passthrough' "$work/home/log" || fail "the log does not say that the kernel does not help"
