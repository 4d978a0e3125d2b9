#!/usr/bin/env bash
# The cache after crashes: daemons killed at any time, and a power cut that damaged what was written
# last. Mounts go on with the right bytes, say each trouble once, and leave the cache repaired.
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/../cache_faults.sh"

registry_storage=$state/registry # nothing here changes it
start_registry

step "daemons killed while readers read"
read_on() {
  while same_parts "$1" 2>/dev/null; do :; done
}
for round in 1 2 3 4 5 6; do
  mount_logged
  said_nothing "round $round"
  for part in "${parts[@]}"; do read_on "$part" & done
  sleep "0.$((RANDOM % 6))$((RANDOM % 10))"
  kill_daemon
  wait %% 2>/dev/null || true
  # Something must be written in the next round, too.
  find "$cache" -path "*/[0-7][0-9a-f]/*" -type f -delete
done
wait
for round in 1 2 3 4 5 6; do
  "$puzzlefs" mount --foreground --cache-dir "$cache" "$registry/debian" "$mnt" 2>"$messages" &
  daemon=$!
  sleep "0.0$((RANDOM % 10))"
  kill -KILL "$daemon"
  wait "$daemon" 2>/dev/null || true
  umount -l "$mnt" 2>/dev/null || true
done
mount_logged
same_parts
unmount
said_nothing "killing is no damage"
"$puzzlefs" cache verify --cache-dir "$cache" >&2
readable_offline "${parts[@]}"

step "what killed daemons left half written goes"
temporary() { find "$cache" -name '.tmp-*' -mtime +0; }
wait_until no_daemon # which may have some still
echo half >"$cache/tmp/.tmp-1"
echo half >"$cache/pins/.tmp-2"
find "$cache" -name '.tmp-*' -exec touch -h -d '2 days ago' {} +
mount_logged
[[ -z $(temporary) ]] || fail "temporary files stay: $(temporary)"
unmount

# What a power cut leaves of files that were not flushed: cut short, with zeros at their end, empty.
damage_newest() {
  local file size number=0
  find "$cache" -type f -size +0 ! -path '*/index/*' ! -path '*/quarantine/*' -printf '%T@ %p\n' |
    sort -rn | sed -n "1,$1p" | cut -d ' ' -f 2- >"$work/newest"
  while read -r file; do
    size=$(stat -c %s "$file")
    case $((number++ % 3)) in
      0) truncate -s $((size / 2)) "$file" ;;
      1) truncate -s $((size / 2)) "$file" && truncate -s "$size" "$file" ;;
      2) truncate -s 0 "$file" ;;
    esac
  done <"$work/newest"
}

step "a power cut: the files written last are damaged"
"$puzzlefs" build "$rootfs/etc/apt" "$work/layout" >/dev/null
for cut in 1 2; do
  # The second time also those that seldom change.
  if ((cut == 2)); then
    rm -rf "$cache"
    mount_logged
    same_parts
  else
    mount_logged
  fi
  kill_daemon
  damage_newest 60
  if ((cut == 2)); then
    truncate -s 20 "$cache/usage"
    truncate -s -4096 "$cache/index/data.mdb" && truncate -s +4096 "$cache/index/data.mdb"
    echo '{"name": "' >"$cache/pins/cut.json"
    : >"$cache/pins/empty.json"
  fi
  mount_logged
  same_parts
  unmount
  said_once 'is not used and moved to'
  readable_offline "${parts[@]}"
done

step "all small whole files are damaged"
rm -rf "$cache"
mount_logged
same_parts etc
unmount
find "$cache/files" -type f -size -64k >"$work/small"
(($(wc -l <"$work/small") > 50)) || fail "hardly any file is whole: $(wc -l <"$work/small")"
sed -n 'p;n' "$work/small" | xargs truncate -s 0
sed -n 'n;p' "$work/small" | xargs truncate -s -1
mount_logged
same_parts etc
unmount
said_once 'is not used and moved to'
(($(kinds_of_warnings | wc -l) == 1)) || fail "more than one warning: $(kinds_of_warnings)"
readable_offline etc

"$puzzlefs" cache verify --cache-dir "$cache" >&2
"$puzzlefs" cache ls --cache-dir "$cache" >&2
