#!/usr/bin/env bash
# build --base-layer: a later state of a tree, with the inode numbers of the earlier one, mounts and
# extracts as it is, and stores only what changed.
source "$(dirname "$0")/../lib.sh"

readonly tree=$work/tree
readonly layout=$work/layout
cp -a "$rootfs/usr/share/perl5" "$tree"
cp "$rootfs/usr/bin/perl" "$tree/large"
"$puzzlefs" build "$tree" "$layout:base" >/dev/null

# numbers TAG: "number path" of the mounted tree, sorted by path.
numbers() {
  mount_image "$layout:$1"
  (cd "$mnt" && find . -printf '%i %p\n' | sort -k 2)
  unmount
}
numbers base >"$work/base.numbers"

step "a state in which nothing changed is the same image"
"$puzzlefs" build -b base "$tree" "$layout:again" >/dev/null
[[ $("$puzzlefs" digest "$layout:again") == "$("$puzzlefs" digest "$layout:base")" ]] ||
  fail "an unchanged tree made another image"

step "names gone, added, changed and put elsewhere"
rm -r "$tree/Debian/DebConf"
rm "$tree/Debhelper.pm" 2>/dev/null || rm "$(find "$tree" -name '*.pm' | sort | head -n 1)"
echo new >"$tree/Debian/added"
echo more >>"$(find "$tree" -name '*.pm' | sort | tail -n 1)"
mv "$tree/large" "$tree/Debian/moved"
list_tree "$tree" >"$work/listing"
result=$("$puzzlefs" build --format json --base-layer base "$tree" "$layout:delta")
mount_image "$layout:delta"
same_tree "$work/listing" "$mnt"
unmount
"$puzzlefs" extract "$layout:delta" "$work/extracted"
same_tree "$work/listing" "$work/extracted"

step "paths keep their numbers, new ones get numbers that nobody had"
numbers delta >"$work/delta.numbers"
highest=$(sort -n "$work/base.numbers" | tail -n 1 | cut -d ' ' -f 1)
join -1 2 -2 2 <(sort -k 2 "$work/base.numbers") <(sort -k 2 "$work/delta.numbers") |
  awk '$2 != $3 { print; bad = 1 } END { exit bad }' || fail "paths changed their numbers"
for path in ./Debian/added ./Debian/moved; do
  number=$(awk -v path="$path" '$2 == path { print $1 }' "$work/delta.numbers")
  ((number > highest)) || fail "$path has the number $number, and the base goes up to $highest"
done

step "only what changed is stored"
new=$(jq .new_bytes <<<"$result")
((new < $(stat -c %s "$tree/Debian/moved") / 2)) || fail "$new bytes are new: $result"

step "a base that there is not"
fails_with 1 "no tag 'nosuch'.*base" "$puzzlefs" build -b nosuch "$tree" "$layout:x"
