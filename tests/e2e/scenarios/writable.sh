#!/usr/bin/env bash
# A writable mount takes changes and leaves the image as it is: into "upper" under the mount point,
# where LXC's oci template expects them to outlive the mount, or into a directory of the user's.
if [[ -z ${E2E_OWN_MOUNTS:-} ]]; then E2E_OWN_MOUNTS=1 exec unshare --mount "$0"; fi
source "$(dirname "$0")/../lib.sh"

readonly layout=$state/layout
readonly image=$layout:latest

change_tree() {
  echo "a new file" >"$mnt/srv/new"
  echo "appended" >>"$mnt/etc/debian_version"
  rm "$mnt/etc/issue"
  chmod 711 "$mnt/srv"
}

# has_changes DIR: the tree there is the image's with the changes.
has_changes() {
  [[ $(<"$1/srv/new") == "a new file" ]] || fail "$1: the new file is not there"
  [[ $(tail -n 1 "$1/etc/debian_version") == appended ]] || fail "$1: a change got lost"
  [[ ! -e $1/etc/issue ]] || fail "$1: a removed file is back"
  [[ $(stat -c %a "$1/srv") == 711 ]] || fail "$1: a mode got lost"
  cmp "$1/usr/bin/perl" "$rootfs/usr/bin/perl"
}

nothing_left() {
  ! grep -F " $mnt" /proc/self/mounts || fail "something is still mounted"
  [[ ! -e $mnt/ro && ! -e $mnt/work ]] || fail "umount left $(ls "$mnt")"
}

step "the contract of LXC's oci template: mount --writable, umount, and the changes are there again"
"$puzzlefs" mount --writable "$image" "$mnt"
same_tree "$state/listing" "$mnt"
daemon=$(daemon_pid)
change_tree
has_changes "$mnt"
"$puzzlefs" umount "$mnt"
nothing_left
wait_until gone "$daemon"
[[ $(<"$mnt/upper/srv/new") == "a new file" ]] || fail "upper does not hold the changes"
"$puzzlefs" mount --writable "$image" "$mnt"
has_changes "$mnt"
unmount

step "the image itself is as it was"
"$puzzlefs" mount "$image" "$mnt"
same_tree "$state/listing" "$mnt"
unmount
rm -rf "$mnt/upper"

step "--persist: the changes are where the user wants them, on another mount too"
mkdir "$work/other"
mount -t tmpfs tmpfs "$work/other"
for upper in "$work/changes, and a colon: here" "$work/other/upper"; do
  mount_image "$image" --persist "$upper"
  change_tree
  unmount
  nothing_left
  [[ -f $upper/srv/new && ! -e $mnt/upper ]] || fail "the changes are not in $upper"
  [[ ! -e $upper.work ]] || fail "$upper.work was left"
  mount_image "$image" -p "$upper/"
  has_changes "$mnt"
  unmount
done

step "an option of mount(8) holds for what is seen, not only for the image below"
mount_image "$image" -w -o nosuid,nodev,noexec,fsname=mine
[[ $(findmnt -no SOURCE "$mnt") == mine ]] || fail "fsname is not what is shown"
options=$(findmnt -no OPTIONS "$mnt")
for option in rw nosuid nodev noexec; do
  [[ ,$options, == *,$option,* ]] || fail "$option is not among $options"
done
! "$mnt/bin/true" 2>/dev/null || fail "a program runs in spite of noexec"
unmount

step "a second one on top of the first is refused, as is what contradicts a writable mount"
mount_image "$image" -w
fails_with 1 'in use by a writable mount' "$puzzlefs" mount -w "$image" "$mnt"
touch "$mnt/srv/alive"
unmount
fails_with 2 '"ro".*--writable' "$puzzlefs" mount -w -o ro "$image" "$mnt"
fails_with 2 'auto_unmount' "$puzzlefs" mount -w -o auto_unmount "$image" "$mnt"
fails_with 2 'allow_root' "$puzzlefs" mount -w -o allow_root "$image" "$mnt"
nothing_left

step "the same directory for the changes of two mounts is refused, whoever sees them"
mkdir "$work/second"
mount_image "$image" -p "$work/shared"
fails_with 1 'in use by a writable mount' "$puzzlefs" mount -p "$work/shared" "$image" "$work/second"
[[ -z $(ls "$work/second") ]] || fail "the refused mount left $(ls "$work/second")"
unmount

step "what others put under the mount point stays, and nothing is made through their links"
mkdir -p "$work/victim/work" "$mnt/work/work"
touch "$work/victim/work/data" "$mnt/work/work/data"
fails_with 1 'did not put there' "$puzzlefs" mount -w "$image" "$mnt"
fails_with 2 'sloppy' "$puzzlefs" mount -w -o sloppy "$image" "$mnt"
[[ -e $mnt/work/work/data ]] || fail "somebody's file was deleted"
rm -rf "$mnt/work" "$mnt/upper"
for name in ro upper work; do
  ln -sfn "$work/victim" "$mnt/$name"
  fails_with 1 "$name is in the way" "$puzzlefs" mount -w "$image" "$mnt"
  rm "$mnt/$name"
done
[[ $(find "$work/victim" -type f) == "$work/victim/work/data" ]] || fail "the link was followed"
mkdir -p "$work/plain/ro" "$work/plain/work/work"
touch "$work/plain/work/work/data"
"$puzzlefs" mount "$image" "$work/plain/ro"
fails_with 1 'Nothing is mounted' "$puzzlefs" umount "$work/plain"
"$puzzlefs" umount "$work/plain/ro"
[[ -e $work/plain/work/work/data ]] || fail "the end of a plain mount deleted somebody's file"

step "where overlayfs cannot write the reason is told, and nothing stays mounted"
mkdir "$work/readonly"
"$puzzlefs" mount "$image" "$work/readonly"
fails_with 1 'Read-only file system' "$puzzlefs" mount -p "$work/readonly/upper" "$image" "$mnt"
umount "$work/readonly"
mkdir "$work/low" "$work/up" "$work/wk" "$work/merged"
mount -t overlay overlay -o "lowerdir=$work/low,upperdir=$work/up,workdir=$work/wk" "$work/merged"
fails_with 1 'file system that overlayfs can write to' \
  "$puzzlefs" mount -p "$work/merged/upper" "$image" "$mnt"
nothing_left
umount "$work/merged"

step "in use"
mount_image "$image" -w
exec 8<"$mnt/etc/passwd"
fails_with 1 'busy' "$puzzlefs" umount "$mnt"
exec 8<&-
unmount

step "in use, and unmounted lazily: who has it open can go on, and nobody else gets in between"
mount_image "$image" -w
exec 8<"$mnt/etc"
"$puzzlefs" umount --lazy "$mnt"
echo late >/proc/self/fd/8/late || fail "a change after the lazy end is refused"
fails_with 1 'in use by a writable mount' "$puzzlefs" mount -w "$image" "$mnt"
exec 8<&-
wait_until test ! -e "$mnt/work"
[[ $(<"$mnt/upper/etc/late") == late ]] || fail "a change after the lazy end got lost"

step "SIGTERM takes all of it away"
"$puzzlefs" mount --foreground -w "$image" "$mnt" &
daemon=$!
wait_until test -d "$mnt/etc"
echo kept >"$mnt/srv/kept"
kill -TERM "$daemon"
wait "$daemon" || fail "the foreground mount ended with $?"
nothing_left
[[ $(<"$mnt/upper/srv/kept") == kept ]] || fail "SIGTERM lost a change"

step "after umount(8), which leaves the image below, puzzlefs umount takes that away"
mount_image "$image" -w
umount "$mnt"
"$puzzlefs" umount "$mnt"
nothing_left

step "the server that umount(8) left does nothing to a later mount"
mount_image "$image" -w
old=$(daemon_pid)
umount "$mnt"
fails_with 1 'in use by a writable mount' "$puzzlefs" mount -w "$image" "$mnt"
umount "$mnt/ro"
wait_until gone "$old"
mount_image "$image" -w
touch "$mnt/srv/alive"
unmount

step "covered by another mount, and on a mount point that is one itself"
mount_image "$image" -w
mount -t tmpfs tmpfs "$mnt"
fails_with 1 'covered by a mount of type tmpfs' "$puzzlefs" umount "$mnt"
umount "$mnt"
unmount
mount -t tmpfs tmpfs "$mnt"
mount_image "$image" -w
umount "$mnt"
"$puzzlefs" umount "$mnt"
nothing_left_but_tmpfs=$(grep -cF " $mnt" /proc/self/mounts)
[[ $nothing_left_but_tmpfs == 1 && ! -e $mnt/ro ]] || fail "something is left on the tmpfs"
umount "$mnt"

step "when the server was killed"
mount_image "$image" -w
kill -KILL "$(daemon_pid)"
unmount
nothing_left

step "without privilege, in a user namespace of one's own"
chmod 755 "$work"
install -d -o nobody "$work/nobody" "$work/nobody/mnt"
cp -a "$rootfs/usr/lib/systemd" "$work/tree"
chown 1234:5678 "$work/tree"
setfattr -n security.tests -v value "$work/tree"
"$puzzlefs" build "$work/tree" "$work/nobody/layout" >/dev/null
chown -R nobody "$work/nobody/layout"
let_users_mount
export puzzlefs work
fails_with 1 'unshare' as_nobody \
  "$puzzlefs" mount -w "$work/nobody/layout" "$work/nobody/mnt"
if ! as_nobody unshare --user --map-root-user --mount true 2>/dev/null; then
  step "left out: no user namespace can be made here, as in a chroot"
  exit 0
fi
# shellcheck disable=SC2016  # for the inner shell
as_nobody unshare --user --map-root-user --mount bash -euc '
  "$puzzlefs" mount -w "$work/nobody/layout" "$work/nobody/mnt"
  echo mine >"$work/nobody/mnt/new"
  [[ $(<"$work/nobody/mnt/new") == mine ]]
  "$puzzlefs" umount "$work/nobody/mnt"' || fail "no writable mount in a user namespace"
[[ $(<"$work/nobody/mnt/upper/new") == mine ]] || fail "the change is not in upper"
