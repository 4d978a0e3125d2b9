#!/usr/bin/env bash
# What each option after -o does to a mount.
if [[ -z ${E2E_OWN_MOUNTS:-} ]]; then E2E_OWN_MOUNTS=1 exec unshare --mount "$0"; fi
source "$(dirname "$0")/../lib.sh"

readonly image=$state/layout
chmod 755 "$work"

let_users_mount

# has_option OPTION: /proc/mounts shows it for $mnt.
has_option() {
  local options
  options=$(findmnt -no OPTIONS "$mnt")
  [[ ,$options, == *,$1,* ]]
}

dead() {
  ! ls "$mnt" >/dev/null 2>&1
}

unmounted() {
  ! grep -qF " $mnt " /proc/self/mounts
}

# A small image with programs that show what is in force.
mkdir "$work/tree"
cp /bin/true "$work/tree/program"
cp /usr/bin/id "$work/tree/suid"
chown nobody "$work/tree/suid"
chmod u+s "$work/tree/suid"
mknod -m 666 "$work/tree/null" c 1 3
echo secret >"$work/tree/private"
chmod 600 "$work/tree/private"
"$puzzlefs" build "$work/tree" "$work/small" >/dev/null
readonly small=$work/small

step "by default everybody sees root's mount; programs, set-user-ID bits and devices work"
mount_image "$small"
as_nobody "$mnt/program"
[[ $("$mnt/suid" -un) == nobody ]] || fail "the set-user-ID bit does nothing"
echo x >"$mnt/null" || fail "the device does not work"
! as_nobody cat "$mnt/private" 2>/dev/null || fail "permissions are not checked"
has_option ro || fail "the mount is not read-only"
unmount

step "noexec, nosuid, nodev"
mount_image "$small" -o noexec
! "$mnt/program" 2>/dev/null || fail "a program runs"
unmount
mount_image "$small" -o nosuid
[[ $("$mnt/suid" -un) == root ]] || fail "the set-user-ID bit works"
unmount
mount_image "$small" -o nodev
! (echo x >"$mnt/null") 2>/dev/null || fail "a device works"
unmount

step "the last of contradicting ones wins, and several -o add up"
mount_image "$small" -o noexec,exec -o nodev
"$mnt/program"
has_option nodev || fail "the second -o was forgotten"
unmount

step "dev, suid, atime, async: the opposites of what came before them"
mount_image "$small" -o nodev,nosuid,noatime,sync,dev,suid,atime,async
[[ $("$mnt/suid" -un) == nobody ]] || fail "suid does not win"
echo x >"$mnt/null" || fail "dev does not win"
for option in noatime sync; do
  ! has_option "$option" || fail "$option is still in force"
done
unmount

step "max_read, default_permissions"
mount_image "$small" -o max_read=4096,default_permissions
has_option max_read=4096 || fail "max_read is not in force"
has_option default_permissions || fail "default_permissions is not in force"
cmp "$mnt/program" "$work/tree/program"
unmount

step "allow_root: only root and the owner of the mount"
mount_image "$small" -o allow_root
"$mnt/program"
! as_nobody "$mnt/program" 2>/dev/null || fail "another user sees the mount"
unmount

step "a user's own mount is his only, unless he says allow_other and may"
install -d -o nobody "$work/nobody"
as_nobody "$puzzlefs" mount "$small" "$work/nobody"
! ls "$work/nobody" 2>/dev/null || fail "root sees the mount of a user"
as_nobody "$puzzlefs" umount "$work/nobody"
if ! grep -qs '^user_allow_other' /etc/fuse.conf; then
  fails_with 1 'user_allow_other' as_nobody "$puzzlefs" mount -o allow_other \
    "$small" "$work/nobody"
fi

step "fsname and subtype are what /proc/mounts shows"
mount_image "$small" -o fsname=mine,subtype=special
[[ $(findmnt -no SOURCE,FSTYPE "$mnt" | xargs) == "mine fuse.special" ]] ||
  fail "it shows $(findmnt -no SOURCE,FSTYPE "$mnt")"
fails_with 1 'not a puzzlefs mount.*fuse.special' "$puzzlefs" umount "$mnt"
umount "$mnt"
"$puzzlefs" mount -f -o subtype=special "$small" "$mnt" &
daemon=$!
wait_until mountpoint -q "$mnt"
kill -TERM "$daemon"
wait "$daemon" || fail "it ended with $?"
unmounted || fail "SIGTERM left a mount of another type"

step "as a line of /etc/fstab has them"
mount_image "$small" -o defaults,nofail,_netdev,x-systemd.automount,relatime,lazytime
"$mnt/program"
unmount

step "a user lets others in when /etc/fuse.conf allows it"
echo user_allow_other >"$work/fuse.conf"
[[ -e /etc/fuse.conf ]] || touch /etc/fuse.conf
mount --bind "$work/fuse.conf" /etc/fuse.conf
as_nobody "$puzzlefs" mount -o allow_other,default_permissions "$small" "$work/nobody"
cat "$work/nobody/program" >/dev/null || fail "allow_other lets nobody in"
as_nobody "$puzzlefs" umount "$work/nobody"
umount /etc/fuse.conf

step "noatime, sync: shown by the kernel"
mount_image "$small" -o noatime,sync
has_option noatime || fail "noatime is not in force"
has_option sync || fail "sync is not in force"
unmount

step "auto_unmount: the mount goes with its server, however that ends"
# fusermount3 looks only once, and takes a server for alive that takes long to die.
went=
for _ in 1 2 3 4 5; do
  mount_image "$small" -o auto_unmount
  kill -KILL "$(daemon_pid)"
  for _ in {1..50}; do
    if unmounted; then went=yes && break 2; fi
    sleep 0.1
  done
  umount -l "$mnt"
done
[[ $went == yes ]] || fail "auto_unmount does nothing"
mount_image "$image"
kill -KILL "$(daemon_pid)"
wait_until dead
! unmounted || fail "it went without auto_unmount"
unmount

step "what cannot be had is refused with what can"
fails_with 2 '"sloppy".*allow_other.*nodev.*fsname=VALUE' "$puzzlefs" mount -o sloppy "$small" "$mnt"
fails_with 2 'read-only' "$puzzlefs" mount -o rw "$small" "$mnt"
! mountpoint -q "$mnt" || fail "a refused mount is there"
