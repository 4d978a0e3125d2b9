#!/usr/bin/env bash
# Mirrors of registries.conf: a pull-through cache is read from in place of the registry, passed over
# while it is away, and read from again when it is back.
source "$(dirname "$0")/../lib.sh"

export HOME=$work CONTAINERS_REGISTRIES_CONF=$work/registries.conf
mirror=127.0.0.1:0
mirror_pid=
readonly mirror_log=$work/mirror.log

start_mirror() {
  local log=$work/mirror.err
  cat >"$work/mirror.yml" <<END
version: 0.1
log: { level: info, accesslog: { disabled: false } }
storage: { filesystem: { rootdirectory: $work/mirror } }
proxy: { remoteurl: "http://$registry" }
http: { addr: "$mirror" }
END
  docker-registry serve "$work/mirror.yml" >>"$mirror_log" 2>"$log" &
  mirror_pid=$!
  disown "$mirror_pid"
  wait_until grep -q 'listening on' "$log"
  mirror=$(grep -o 'listening on [0-9.:]*' "$log" | cut -d ' ' -f 3)
}

stop_mirror() {
  [[ -n $mirror_pid ]] || return 0
  kill "$mirror_pid"
  wait_until gone "$mirror_pid"
  mirror_pid=
}

# asked LOG SERVER: how many requests of ours the server's log has. A line comes after its answer,
# so ask something and wait for that line.
asked() {
  local name
  name=settle-$(wc -l <"$1")
  curl -sS -o /dev/null -A "$name" "http://$2/v2/"
  wait_until grep -q "$name" "$1"
  grep -c '"puzzlefs/' "$1" || true
}

# Files that no other step reads, each with chunks of its own.
mapfile -t others < <(cd "$rootfs" && find usr/lib -type f -size +30k | sort | head -n 200)

# Reads one of them each time; true when the mirror has served it.
serves_again() {
  ((${#others[@]})) || fail "the mirror has served none of the files: $(<"$work/mount.log")"
  cmp "$mnt/${others[0]}" "$rootfs/${others[0]}" || fail "it was read wrong"
  others=("${others[@]:1}")
  grep -q 'serves again' "$work/mount.log" || { sleep 0.5 && false; }
}

trap 'stop_mirror; cleanup' EXIT
start_full_registry
start_mirror
cat >"$CONTAINERS_REGISTRIES_CONF" <<END
[[registry]]
location = "$registry"
[[registry.mirror]]
location = "$mirror"
END

step "the mirror is read from, and the registry is not"
# Of a trace that may be attached the registry would have the last word.
mount_image -v --log-file "$work/mount.log" --prefetch none "$registry/debian"
cmp "$mnt/usr/bin/perl" "$rootfs/usr/bin/perl"
[[ $(asked "$access_log" "$registry") == 0 ]] || fail "the registry was asked: $(grep '"puzzlefs/' "$access_log")"
(($(asked "$mirror_log" "$mirror") > 3)) || fail "the mirror was not asked"

step "it is away: the registry serves, and is asked once for each chunk"
stop_mirror
start=$(mark)
cmp "$mnt/bin/bash" "$rootfs/bin/bash"
[[ -n $(blobs_since "$start") ]] || fail "the registry was not asked"
[[ -z $(blobs_since "$start" | uniq -d) ]] || fail "a chunk was got twice: $(blobs_since "$start")"
[[ $(grep -c 'warn.*does not serve' "$work/mount.log") == 1 ]] || fail "the log: $(<"$work/mount.log")"

step "it is back, and read from again after a while"
start_mirror
wait_until serves_again
before=$(asked "$access_log" "$registry")
mirror_before=$(asked "$mirror_log" "$mirror")
cmp "$mnt/usr/bin/sort" "$rootfs/usr/bin/sort"
[[ $(asked "$access_log" "$registry") == "$before" ]] || fail "the registry was asked though its mirror is back"
(($(asked "$mirror_log" "$mirror") > mirror_before)) || fail "the mirror was not asked again"
unmount

step "what is pushed goes to the registry"
"$puzzlefs" build "$rootfs/etc" "$work/layout" >/dev/null
"$puzzlefs" push --layout keep "$work/layout" "$registry/etc" | grep -q 'new blobs'

step "another location"
cat >"$CONTAINERS_REGISTRIES_CONF" <<END
[[registry]]
prefix = "*.example"
location = "$registry"
END
"$puzzlefs" pull registry.example/etc "$work/pulled"
[[ $("$puzzlefs" digest "$work/pulled") == "$("$puzzlefs" digest "$work/layout")" ]] || fail "another image"

step "a registry that is blocked"
printf '[[registry]]\nprefix = "%s"\nblocked = true\n' "$registry" >"$CONTAINERS_REGISTRIES_CONF"
fails_with 1 'blocked by .*registries.conf' "$puzzlefs" pull "$registry/etc" "$work/pulled"
fails_with 1 'blocked by .*registries.conf' "$puzzlefs" push "$work/layout" "$registry/etc"
printf '[[registry]]\nprefix = 3\n' >"$CONTAINERS_REGISTRIES_CONF"
fails_with 1 'registries.conf .*line 2' "$puzzlefs" digest "$registry/etc"
