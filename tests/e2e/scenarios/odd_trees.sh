#!/usr/bin/env bash
# What Linux allows and few trees have comes back from a mount and from an extraction: all names,
# kinds, modes, owners and attributes, and directories deeper than a path can be long.
source "$(dirname "$0")/../lib.sh"

# what_some_may DIR: which files some users may read there, of those with access control lists.
what_some_may() {
  local uid gid file
  cd "$1/attributes"
  for uid in 1000 1001; do
    for gid in 2000 3000 4000; do
      for file in readable withheld passes-on; do
        printf '%s %s %s: ' "$uid" "$gid" "$file"
        setpriv --reuid="$uid" --regid="$gid" --clear-groups test -r "$file" && echo yes || echo no
      done
    done
  done
}

python3 "$here/make_odd_tree.py" "$work/tree"
(what_some_may "$work/tree") >"$work/allowed"
grep -q yes "$work/allowed" || fail "no access control list allows anything: $(cat "$work/allowed")"
list_tree "$work/tree" >"$work/listing"

for option in "" --compression; do
  step "build $option"
  # shellcheck disable=SC2086  # no option is no word
  "$puzzlefs" build $option "$work/tree" "$work/layout:odd$option"

  step "mount"
  mount_image "$work/layout:odd$option"
  same_tree "$work/listing" "$mnt"
  (what_some_may "$mnt") | diff "$work/allowed" - || fail "others are allowed than in the tree"
  unmount

  step "extract"
  "$puzzlefs" extract "$work/layout:odd$option" "$work/copy"
  same_tree "$work/listing" "$work/copy"
  rm -r "$work/copy"
done

step "where those whom access control lists name are unknown, the lists hinder nobody"
export puzzlefs mnt work
# shellcheck disable=SC2016  # for the inner shell
timeout 60 unshare --user --map-root-user --mount bash -euc '
  "$puzzlefs" mount --cache-dir "$work/cache-inside" "$work/layout:odd" "$mnt"
  trap "umount \"$mnt\"" EXIT
  cat "$mnt/attributes/open"; echo' >"$work/inside"
[[ $(<"$work/inside") == "to all" ]] || fail "another text: $(<"$work/inside")"

step "a delta that deletes most of it"
"$puzzlefs" build --base-layer odd "$work/tree" "$work/layout:same"
rm -r "$work"/tree/{modes,names,deep/level-0000/level-0001,links/many-*}
list_tree "$work/tree" >"$work/listing"
"$puzzlefs" build --base-layer odd "$work/tree" "$work/layout:less"
mount_image "$work/layout:less"
same_tree "$work/listing" "$mnt"
unmount
