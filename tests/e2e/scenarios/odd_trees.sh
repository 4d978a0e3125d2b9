#!/usr/bin/env bash
# What Linux allows and few trees have comes back from a mount and from an extraction: all names,
# kinds, modes, owners and attributes, and directories deeper than a path can be long.
source "$(dirname "$0")/../lib.sh"

python3 "$here/make_odd_tree.py" "$work/tree"
list_tree "$work/tree" >"$work/listing"

for option in "" --compression; do
  step "build $option"
  # shellcheck disable=SC2086  # no option is no word
  "$puzzlefs" build $option "$work/tree" "$work/layout:odd$option"

  step "mount"
  mount_image "$work/layout:odd$option"
  same_tree "$work/listing" "$mnt"
  unmount

  step "extract"
  "$puzzlefs" extract "$work/layout:odd$option" "$work/copy"
  same_tree "$work/listing" "$work/copy"
  rm -r "$work/copy"
done

step "a delta that deletes most of it"
"$puzzlefs" build --base-layer odd "$work/tree" "$work/layout:same"
rm -r "$work"/tree/{modes,names,deep/level-0000/level-0001,links/many-*}
list_tree "$work/tree" >"$work/listing"
"$puzzlefs" build --base-layer odd "$work/tree" "$work/layout:less"
mount_image "$work/layout:less"
same_tree "$work/listing" "$mnt"
unmount
