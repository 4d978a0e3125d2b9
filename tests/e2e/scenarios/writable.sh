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
  mount_image "$image" -p "$upper"
  has_changes "$mnt"
  unmount
done

step "an option of mount(8) holds for what is seen, not only for the image below"
mount_image "$image" -w -o nosuid,nodev,noexec
options=$(findmnt -no OPTIONS "$mnt")
for option in rw nosuid nodev noexec; do
  [[ ,$options, == *,$option,* ]] || fail "$option is not among $options"
done
! "$mnt/bin/true" 2>/dev/null || fail "a program runs in spite of noexec"
unmount

step "a second one on top of the first is refused, as is what contradicts a writable mount"
mount_image "$image" -w
fails_with 1 'already' "$puzzlefs" mount -w "$image" "$mnt"
touch "$mnt/srv/alive"
unmount
fails_with 2 '"ro".*--writable' "$puzzlefs" mount -w -o ro "$image" "$mnt"
fails_with 2 'auto_unmount' "$puzzlefs" mount -w -o auto_unmount "$image" "$mnt"
nothing_left

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

step "when the server was killed"
mount_image "$image" -w
kill -KILL "$(daemon_pid)"
unmount
nothing_left

step "without privilege, in a user namespace of one's own"
chmod 755 "$work"
install -d -o nobody "$work/nobody" "$work/nobody/mnt"
"$puzzlefs" build "$rootfs/usr/bin" "$work/nobody/layout" >/dev/null
chown -R nobody "$work/nobody/layout"
let_users_mount
export puzzlefs work
fails_with 1 'unshare' as_nobody \
  "$puzzlefs" mount -w "$work/nobody/layout" "$work/nobody/mnt"
# shellcheck disable=SC2016  # for the inner shell
as_nobody unshare --user --map-root-user --mount bash -euc '
  "$puzzlefs" mount -w "$work/nobody/layout" "$work/nobody/mnt"
  echo mine >"$work/nobody/mnt/new"
  [[ $(<"$work/nobody/mnt/new") == mine ]]
  "$puzzlefs" umount "$work/nobody/mnt"' || fail "no writable mount in a user namespace"
[[ $(<"$work/nobody/mnt/upper/new") == mine ]] || fail "the change is not in upper"
