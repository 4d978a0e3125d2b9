#!/usr/bin/env bash
# A packed image: few blobs in the registry, read by ranges, the same tree wherever it is; its times
# and link counts are those of the tree; a cache keeps and pins it chunk by chunk.
source "$(dirname "$0")/../lib.sh"

readonly layout=$work/packed
readonly image_listing=$work/tree.listing

figure() { "$puzzlefs" stats --format json "$mnt" | jq ".$1"; }
# ranges_since MARK: requests for parts of packs.
ranges_since() { requests_since "$1" | grep -c ' 206 ' || true; }

step "built, twice the same"
"$puzzlefs" build --layout packed -j 1 "$rootfs" "$layout:one"
"$puzzlefs" build --layout packed -j 3 "$rootfs" "$layout:two"
[[ $("$puzzlefs" digest "$layout:one") == "$("$puzzlefs" digest "$layout:two")" ]] ||
  fail "the number of threads changes the image"
packs=$("$puzzlefs" inspect --format json "$layout:one" | jq .packs)
((packs >= 2 && packs <= 6)) || fail "$packs packs"
chunked=$(du -sb "$state/layout" | cut -f 1)
(($(du -sb "$layout" | cut -f 1) < chunked)) || fail "packs take more than chunks one by one"

step "read in place"
list_tree "$rootfs" >"$image_listing"
"$puzzlefs" mount "$layout:one" "$mnt"
same_tree "$image_listing" "$mnt"
diff <(cd "$rootfs" && find . -type f -printf '%P %T@ %n\n' | sort) \
  <(cd "$mnt" && find . -type f -printf '%P %T@ %n\n' | sort) >"$work/diff" ||
  fail "times or link counts differ: $(head -n 5 "$work/diff")"
unmount

step "extracted, with its times"
"$puzzlefs" extract "$layout:one" "$work/extracted"
same_tree "$image_listing" "$work/extracted"
diff <(cd "$rootfs" && find . ! -type s -printf '%P %T@\n' | sort) \
  <(cd "$work/extracted" && find . ! -type s -printf '%P %T@\n' | sort) >"$work/diff" ||
  fail "times differ: $(head -n 5 "$work/diff")"

step "pushed"
start_registry
"$puzzlefs" push "$layout:one" "$registry/packed"
start=$(mark)
"$puzzlefs" push "$layout:one" "$registry/packed:again"
(($(requests_since "$start" | grep -c ' 201 ') == 1)) || fail "more than a manifest was pushed again"

step "a cold mount and one file"
start=$(mark)
mount_image "$registry/packed" --prefetch none
(($(requests_since "$start" | wc -l) <= 3)) || fail "the mount made more than three requests"
start=$(mark)
find "$mnt" -ls >/dev/null
no_requests_since "$start" "a walk over the tree"
cmp "$mnt/usr/bin/perl" "$rootfs/usr/bin/perl"
ranges=$(ranges_since "$start")
((ranges > 0 && ranges <= 8)) || fail "perl took $ranges requests"

step "all of it, with few requests and no byte twice"
same_tree "$image_listing" "$mnt"
ranges=$(ranges_since "$start")
# 90 MB of packs: a reader's windows, of which each is a request, grow to 4 MiB.
((ranges < 300)) || fail "the tree took $ranges requests"
stored=$("$puzzlefs" inspect --format json "$layout:one" | jq .stored_bytes)
fetched=$(figure "bytes_fetched - .bytes_fetched_to_open")
((fetched <= stored * 102 / 100)) || fail "$fetched bytes were fetched of $stored"
start=$(mark)
echo 3 >/proc/sys/vm/drop_caches
same_tree "$image_listing" "$mnt"
no_requests_since "$start" "what is in the cache"
unmount

step "pinned, and read without the registry"
rm -rf "$cache"
"$puzzlefs" cache pin --cache-dir "$cache" "$registry/packed"
"$puzzlefs" cache ls --cache-dir "$cache" --format json >"$work/images"
jq -e '.images[0] | .pinned and .blobs == .blobs_total and .blobs > 1000' "$work/images" >/dev/null ||
  fail "the pin is not whole: $(<"$work/images")"
"$puzzlefs" cache prune --cache-dir "$cache" >/dev/null
stop_registry
mount_image --offline "$registry/packed"
same_tree "$image_listing" "$mnt"
unmount
"$puzzlefs" cache verify --cache-dir "$cache"
start_registry

step "a falsified pack"
pack=$(jq -r '.layers[1].digest' "$layout/blobs/sha256/$("$puzzlefs" digest "$layout:one" | sed 's/.*sha256://')")
rm -rf "$cache"
falsify "$(registry_blob "$pack")"
mount_image "$registry/packed"
status=0
cat "$mnt"/usr/bin/* "$mnt"/usr/lib/*/*.so* >/dev/null 2>"$work/errors" || status=$?
((status != 0)) || list_tree "$mnt" >/dev/null 2>"$work/errors" || status=1
((status != 0)) || fail "nothing noticed the falsified pack"
grep -q 'Input/output error' "$work/errors" || fail "it is not an I/O error: $(head -n 3 "$work/errors")"
unmount
