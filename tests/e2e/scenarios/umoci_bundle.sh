#!/usr/bin/env bash
# What umoci has unpacked of an ordinary image, as root and as a user without privileges, becomes an
# image as it stands: of a rootless bundle also the notes of umoci on the owners that it stands for.
# And what should rather not be built is told apart.
source "$(dirname "$0")/../lib.sh"

readonly nobody=65534

as_nobody() {
  HOME=$work/home setpriv --reuid="$nobody" --regid="$nobody" --clear-groups "$@"
}

# is_tree TREE TAG: the image TAG is the tree, and stays mounted.
is_tree() {
  list_tree "$1" >"$work/listing"
  mount_image "$work/home/layout:$2"
  same_tree "$work/listing" "$mnt"
}

step "an ordinary image"
mkdir -p "$work/home" "$work/tree/usr/bin"
cd "$work/tree"
head -c 300000 "$puzzlefs" >usr/bin/tool
ln usr/bin/tool usr/bin/link
ln -s usr/bin bin
mkfifo pipe
mknod null c 1 3
setfattr -n user.note -v hello usr/bin/tool
chown -R 1000:1001 usr
chmod 4755 usr/bin/tool
cd "$work"
umoci init --layout "$work/image"
umoci new --image "$work/image:small"
umoci unpack --image "$work/image:small" "$work/empty"
cp -a "$work/tree/." "$work/empty/rootfs"
umoci repack --image "$work/image:small" "$work/empty"
chown -R "$nobody:$nobody" "$work/home" "$work/image"
chmod 755 "$work"

step "root's bundle"
umoci unpack --image "$work/image:small" "$work/bundle"
"$puzzlefs" build "$work/bundle/rootfs" "$work/home/layout:root"
is_tree "$work/bundle/rootfs" root
[[ $(stat -c %u:%g:%a "$mnt/usr/bin/tool") == 1000:1001:4755 ]] || fail "owner or mode is lost"
unmount

step "a rootless bundle"
chown -R "$nobody:$nobody" "$work/home"
as_nobody umoci unpack --rootless --image "$work/image:small" "$work/home/bundle"
as_nobody "$puzzlefs" build "$work/home/bundle/rootfs" "$work/home/layout:rootless"
is_tree "$work/home/bundle/rootfs" rootless
[[ $(stat -c %u "$mnt/usr/bin/tool") == "$nobody" ]] || fail "it has another owner than the bundle"
getfattr -d "$mnt/usr/bin/tool" 2>/dev/null | grep -q user.rootlesscontainers ||
  fail "umoci's note of the owner is lost"
unmount

step "the bundle instead of the tree in it: built, with a warning"
"$puzzlefs" build "$work/bundle" "$work/home/layout:bundle" 2>"$work/stderr"
grep -q "is a bundle; for an image of the tree in it build $work/bundle/rootfs" "$work/stderr" ||
  fail "no warning: $(<"$work/stderr")"
is_tree "$work/bundle" bundle
unmount

step "a layout in the tree itself: refused, and nothing made"
fails_with 2 "lies in the tree" "$puzzlefs" build "$work/tree" "$work/tree/usr/layout"
[[ ! -e $work/tree/usr/layout ]] || fail "there is a layout in the tree"
