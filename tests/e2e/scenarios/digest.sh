#!/usr/bin/env bash
# mount --digest takes the image with that fs-verity digest and no other, also where no file has
# fs-verity; where some have, fs_verity.sh shows it.
source "$(dirname "$0")/../lib.sh"

cp -a "$rootfs/usr/share/perl5" "$work/tree"
list_tree "$work/tree" >"$work/listing"
readonly layout=$work/layout
digest=$("$puzzlefs" build "$work/tree" "$layout" 2>/dev/null | sed -n 's/^puzzlefs image manifest digest: //p')
wrong=$(tr '0-9a-f' '1-9a-f0' <<<"$digest")
[[ ${#digest} == 64 && $wrong != "$digest" ]] || fail "build printed the digest \"$digest\""
start_registry
"$puzzlefs" push --layout keep "$layout" "$registry/tree" >/dev/null

for source in "$layout" "$registry/tree"; do
  step "the right digest and a wrong one: $source"
  mount_image "$source" --digest "$digest"
  same_tree "$work/listing" "$mnt"
  unmount
  fails_with 1 "$digest" mount_image "$source" --digest "$wrong"
  ! mountpoint -q "$mnt" || fail "the wrong image is mounted"
done

step "another image under the same name"
echo evil >"$work/tree/evil"
"$puzzlefs" build "$work/tree" "$layout" >/dev/null
"$puzzlefs" push --layout keep "$layout" "$registry/tree" >/dev/null
fails_with 1 "$digest" mount_image "$layout" -d "$digest"
fails_with 1 "$digest" mount_image "$registry/tree" -d "$digest"

step "fs-verity that is wanted and not there"
now=$("$puzzlefs" inspect --format json "$layout" | jq -r .manifest_verity)
fails_with 1 'enable-fs-verity' mount_image "$layout" -d "$now" --require-fs-verity
fails_with 2 'goes with --digest' mount_image "$layout" --require-fs-verity
fails_with 2 'layout' mount_image "$registry/tree" -d "$now" --require-fs-verity
fails_with 1 "$now" "$puzzlefs" enable-fs-verity "$layout" "$digest"

step "what is no digest"
fails_with 2 'digest' mount_image "$layout" -d "not-a-digest"
fails_with 2 'digest' mount_image "$layout" -d ""
