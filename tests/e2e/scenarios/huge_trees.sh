#!/usr/bin/env bash
# A file of 5 GiB that is nearly all hole, and 100,000 files in one directory: neither takes minutes,
# and the hole is stored neither in the image nor in what is extracted from it.
source "$(dirname "$0")/../lib.sh"

readonly files=100000
# Far more than is needed on a busy machine, far less than something quadratic takes.
readonly patience=90

within_patience() {
  timeout "$patience" "$@" || fail "$* failed or took more than $patience s"
}

kib_of() { du -sk "$1" | cut -f 1; }

# nonzero_blocks FILE: its size, and the offsets and digests of its blocks that are not all zero.
# Reading the holes takes the kernel longer than all the rest of this.
nonzero_blocks() {
  python3 - "$1" <<'END_OF_SCRIPT'
import hashlib
import os
import sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
print(size)
offset = 0
while offset < size:
    try:
        offset = os.lseek(fd, offset, os.SEEK_DATA) // 4096 * 4096
    except OSError:  # no more of it
        break
    block = os.pread(fd, 4096, offset)
    if any(block):
        print(offset, hashlib.sha256(block).hexdigest())
    offset += 4096
END_OF_SCRIPT
}

# --- A sparse file ------------------------------------------------------------------------------

mkdir "$work/sparse"
truncate -s 5G "$work/sparse/file"
printf 'middle' | dd of="$work/sparse/file" bs=1 seek=3000000001 conv=notrunc status=none
printf 'end' | dd of="$work/sparse/file" bs=1 seek=5368709117 conv=notrunc status=none

step "build a sparse file"
within_patience "$puzzlefs" build "$work/sparse" "$work/layout:sparse"
(($(kib_of "$work/layout") < 20000)) || fail "the image of a hole has $(kib_of "$work/layout") KiB"

step "mount it"
mount_image "$work/layout:sparse"
[[ $(stat -c %s "$mnt/file") == 5368709120 ]] || fail "it has another size"
for offset in 0 2999999000 5368708096; do
  cmp -n 1024 -i "$offset" "$work/sparse/file" "$mnt/file"
done
unmount

step "extract it"
within_patience "$puzzlefs" extract "$work/layout:sparse" "$work/copy"
diff <(nonzero_blocks "$work/sparse/file") <(nonzero_blocks "$work/copy/file") ||
  fail "the extracted file has other contents"
(($(kib_of "$work/copy/file") <= 64)) || fail "the hole takes $(kib_of "$work/copy/file") KiB"
rm -r "$work/sparse" "$work/copy"

# --- A large directory --------------------------------------------------------------------------

# list_names DIR: all names with what can be told of them without opening them, and some contents.
list_names() {
  (cd "$1" && find . -type f -printf '%P %s %m %U:%G %n\n' | sort && grep -rh . --include='*990' | sort)
}

same_names() {
  list_names "$1" >"$work/actual.listing"
  cmp "$work/listing" "$work/actual.listing" || fail "$1 differs"
}

# resident KIND: KiB of the daemon, as /proc names them.
# memory_files: KiB in the files in memory that the daemon has open.
memory_files() {
  find "/proc/$(daemon_pid)/fd" -lname '/memfd:*' -exec stat -L -c %b {} + | awk '{ sum += $1 } END { print int(sum / 2) }'
}
resident() { awk -v kind="$1:" '$1 == kind { print $2 }' "/proc/$(daemon_pid)/status"; }

is_listed() {
  list_names "$mnt" >"$work/actual.listing" 2>/dev/null && cmp -s "$work/listing" "$work/actual.listing"
}
no_daemon() { ! daemon_pid >/dev/null; }

step "make $files files"
# In memory, as this is not about how fast the disk makes files.
mkdir "$work/memory"
mount -t tmpfs -o mode=755 memory "$work/memory"
python3 - "$work/memory/many" "$files" <<'END_OF_SCRIPT'
import os
import sys
os.mkdir(sys.argv[1])
for index in range(int(sys.argv[2])):
    with open("%s/a file with a name of usual length %d" % (sys.argv[1], index), "w") as file:
        if index % 10 == 0:
            file.write(str(index))
END_OF_SCRIPT
list_names "$work/memory/many" >"$work/listing"

step "build, mount and extract them"
within_patience "$puzzlefs" build "$work/memory/many" "$work/layout:many"
mount_image "$work/layout:many"
same_names "$mnt"
unmount
within_patience "$puzzlefs" extract "$work/layout:many" "$work/memory/copy"
same_names "$work/memory/copy"

step "of large metadata only what is looked at is read, and what is damaged comes again"
within_patience "$puzzlefs" build --layout packed "$work/memory/many" "$work/layout:packed"
mount_image "$work/layout:packed" # makes what it is verified by
same_names "$mnt"
unmount
wait_until no_daemon
kept=$(find "$cache/blobs" -type f -size +4M)
[[ -s $cache/trees/$(basename "$kept") ]] || fail "nothing is kept by which the metadata is verified"
printf '#######' | dd of="$kept" bs=1 seek=$(($(stat -c %s "$kept") * 9 / 10)) conv=notrunc status=none
mount_image "$work/layout:packed"
[[ -e "$mnt/a file with a name of usual length 0" ]] || fail "the first file is not found"
(($(resident VmRSS) < 20 << 10)) || fail "the daemon has $(resident VmRSS) KiB in memory"
if find "/proc/$(daemon_pid)/fd" -lname '*data.mdb' | grep .; then fail "an image of a layout opened the index of names"; fi
! list_names "$mnt" >/dev/null 2>"$work/said" || fail "damaged metadata is believed"
grep -q 'Input/output error' "$work/said" || fail "no error: $(<"$work/said")"
wait_until is_listed
unmount
wait_until no_daemon

step "what it is verified by may be damaged, without an error"
tree=$cache/trees/$(basename "$kept")
cp "$tree" "$work/tree"
for place in 0 $(($(stat -c %s "$tree") / 2)) $(($(stat -c %s "$tree") - 7)); do
  printf '#######' | dd of="$tree" bs=1 seek="$place" conv=notrunc status=none
  mount_image "$work/layout:packed"
  find "$mnt" -ls >"$work/listed"
  memory=$(($(resident RssAnon) + $(memory_files)))
  ((memory < 12 << 10)) || fail "the daemon keeps $memory KiB of what was looked at"
  same_names "$mnt"
  unmount
  wait_until no_daemon
  cmp "$tree" "$work/tree" || fail "it was not mended"
done
truncate -s -32 "$tree"
mount_image "$work/layout:packed"
same_names "$mnt"
unmount
cmp "$tree" "$work/tree" || fail "it was not made anew"

# counts_of DIR: all names with their link counts.
counts_of() { (cd "$1" && find . -printf '%P %n\n' | sort); }

# same_counts NAME: what mounts of it tell, of which the first leaves what it has counted.
same_counts() {
  local note before
  counts_of "$work/memory/many" >"$work/counts"
  "$puzzlefs" cache prune --cache-dir "$cache" >/dev/null
  rm -rf "$cache/trees"
  for _ in first second third; do
    mount_image "$work/layout:$1"
    cmp "$work/counts" <(counts_of "$mnt") || fail "$1 has other link counts"
    unmount
    wait_until no_daemon
    note=("$cache"/trees/*.note)
    [[ -s ${note[0]} ]] || fail "no link counts of $1 are kept"
    [[ -z ${before:-} || $(stat -c %i "${note[0]}") == "$before" ]] || fail "the link counts of $1 were made anew"
    before=$(stat -c %i "${note[0]}")
  done
}

step "the first mount of a chunked image counts links, for all others"
mkdir -p "$work/memory/many/"{folder/{1,2/3},empty}
for index in 5 500 50000; do
  ln "$work/memory/many/a file with a name of usual length $index" "$work/memory/many/folder/$index"
done
ln "$work/memory/many/folder/5" "$work/memory/many/folder/2/3/again"
within_patience "$puzzlefs" build "$work/memory/many" "$work/layout:linked"
same_counts linked

step "and counts anew if that was damaged"
kept_counts=$(echo "$cache"/trees/*.note)
cp "$kept_counts" "$work/kept_counts"
printf '#######' | dd of="$kept_counts" bs=1 seek=30 conv=notrunc status=none
mount_image "$work/layout:linked"
cmp "$work/counts" <(counts_of "$mnt") || fail "damaged link counts are believed"
unmount
wait_until no_daemon
cmp "$kept_counts" "$work/kept_counts" || fail "damaged link counts stay"

step "of a delta too"
rm -r "$work/memory/many/folder/"{1,500}
ln "$work/memory/many/folder/5" "$work/memory/many/folder/added"
within_patience "$puzzlefs" build --base-layer linked "$work/memory/many" "$work/layout:relinked"
same_counts relinked
rm -r "$work/memory/many/"{folder,empty}

step "a delta to them"
rm "$work/memory/many/a file with a name of usual length 77777"
echo changed >"$work/memory/many/a file with a name of usual length 5"
within_patience "$puzzlefs" build --base-layer many "$work/memory/many" "$work/layout:fewer"
mount_image "$work/layout:fewer"
[[ $(find "$mnt" -type f | wc -l) == $((files - 1)) ]] || fail "another number of files"
[[ ! -e "$mnt/a file with a name of usual length 77777" ]] || fail "a deleted file is there"
[[ $(<"$mnt/a file with a name of usual length 5") == changed ]] || fail "a file did not change"
unmount
