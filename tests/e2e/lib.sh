# shellcheck shell=bash
# What the scenarios share: a work directory that cleans up after itself, a registry with an access
# log, mounts, and ways to say what is wrong. Sourced first by every scenario.
#
# From the environment: PUZZLEFS (the command), E2E_ROOTFS (the tree, made by make_rootfs.sh) and
# E2E_STATE (the tree as an image and a registry's storage that holds it, made by make_image.sh).
# Without them: the release build's. E2E_IN_MEMORY: the work directory is in memory, if there is
# plenty; a scenario that needs a disk unsets it.
set -eEuo pipefail
trap 'echo "FAILED: ${BASH_SOURCE[0]}:$LINENO: $BASH_COMMAND" >&2' ERR

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
readonly here
readonly project=${here%/tests/e2e}
readonly puzzlefs=${PUZZLEFS:-$project/build/release/bin/puzzlefs}
# No symbolic link: a scenario that copied the link would write into the tree itself.
rootfs=$(realpath -m "${E2E_ROOTFS:-$project/build/rootfs}")
# shellcheck disable=SC2034  # the scenarios use them
readonly rootfs
# shellcheck disable=SC2034
readonly state=${E2E_STATE:-$project/build/release/tests/e2e/state}

if ((EUID != 0)); then
  echo "Skipped: needs root, for device files, owners and mount namespaces." >&2
  exit 77
fi

has_plenty_of_memory() { (($(df --output=avail --block-size=1G /dev/shm | tail -n 1) >= 8)); }
# It may be mounted without devices, and Linux before 6.6 has no attributes of users there.
memory_takes_all() {
  local probe
  probe=$(mktemp -d /dev/shm/puzzlefs-e2e.XXXXXX)
  mknod "$probe/null" c 1 3 && : 2>/dev/null >"$probe/null" &&
    setfattr -n user.probe -v x "$probe" 2>/dev/null
  local takes=$?
  rm -rf "$probe"
  return "$takes"
}
scratch=${TMPDIR:-/tmp}
if [[ -n ${E2E_IN_MEMORY:-} ]] && has_plenty_of_memory && memory_takes_all; then scratch=/dev/shm; fi
work=$(mktemp -d "$scratch/puzzlefs-e2e.XXXXXX")
readonly work
readonly cache=$work/cache
readonly mnt=$work/mnt
mkdir "$mnt"
registry_pid=
started=() # other processes, to be ended
registry=127.0.0.1:0
registry_auth=
registry_tls=
registry_deletes=false
registry_storage=$work/registry
readonly access_log=$work/access.log

# A daemon in the background has nowhere to report to; cleanup looks for these files.
for tool in ASAN TSAN UBSAN; do
  export "${tool}_OPTIONS=$(printenv "${tool}_OPTIONS" || true):log_path=$work/sanitizer"
done
# The checkout may be root's alone, and some scenarios run commands as others.
if [[ $TSAN_OPTIONS =~ suppressions=([^:]+) ]]; then
  cp "${BASH_REMATCH[1]}" "$work/tsan.supp"
  TSAN_OPTIONS+=:suppressions=$work/tsan.supp
fi

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

step() {
  echo "── $*" >&2
}

# --- Mounts -------------------------------------------------------------------------------------

mounts() {
  awk -v top="$work/" 'index($2, top) == 1 { print $2 }' /proc/self/mounts | tac
}

# mount_image SOURCE [OPTION…]: mounts at $mnt, with the scenario's own cache.
mount_image() {
  "$puzzlefs" mount --cache-dir "$cache" "$@" "$mnt"
}

unmount() {
  "$puzzlefs" umount "$mnt"
  ! mountpoint -q "$mnt" || fail "$mnt is still mounted after umount"
}

# wait_until COMMAND…: until it succeeds, for three minutes at most: a disk that others write to may
# keep a process for one.
wait_until() {
  local deadline=$((SECONDS + 180))
  until "$@"; do
    if ((SECONDS >= deadline)); then
      show_daemons
      fail "waited in vain for: $*"
    fi
    sleep 0.05
  done
}

# What the scenario's daemons are doing, thread by thread.
show_daemons() {
  local daemon thread
  for daemon in $(pgrep -f -- " mount .*$work/" || true); do
    tr '\0' ' ' <"/proc/$daemon/cmdline" >&2 || true
    for thread in "/proc/$daemon/task"/*; do
      echo "  $(<"$thread/comm"): $(grep ^State: "$thread/status"), in $(<"$thread/wchan")" >&2 || true
    done
  done
}

# gone PID: it has ended, whether or not init, which may take its time, has noticed.
gone() { ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# The process that serves $mnt.
daemon_pid() {
  # The newest: an earlier one may still be ending.
  pgrep -n -f -- " mount .*$mnt\$"
}

# let_users_mount: opens /dev/fuse to all, which not every machine does. For a scenario that runs in a
# mount namespace of its own.
let_users_mount() {
  # fusermount3 wants it, and every Debian that has booted has it.
  [[ -e /etc/mtab ]] || ln -s ../proc/self/mounts /etc/mtab
  mknod -m 666 "$work/fuse" c 10 229
  mount --bind "$work/fuse" /dev/fuse
}

as_nobody() {
  HOME=$work/home PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

# --- The registry -------------------------------------------------------------------------------

# start_registry: docker-registry on $registry; the first time on a free port, then on the same one.
# $registry_auth is added to its configuration, $registry_tls is what it has under http.tls,
# $registry_deletes whether it lets images be deleted.
start_registry() {
  local log=$work/registry.err
  cat >"$work/registry.yml" <<END
version: 0.1
log: { level: info, accesslog: { disabled: false } }
storage: { filesystem: { rootdirectory: $registry_storage }, delete: { enabled: $registry_deletes } }
http: { addr: "$registry"${registry_tls:+, tls: $registry_tls} }
END
  echo "$registry_auth" >>"$work/registry.yml"
  : >"$log"
  docker-registry serve "$work/registry.yml" >>"$access_log" 2>"$log" &
  registry_pid=$!
  disown "$registry_pid"
  wait_until grep -q 'listening on' "$log"
  registry=$(grep -o 'listening on [0-9.:]*' "$log" | cut -d ' ' -f 3)
}

stop_registry() {
  [[ -n $registry_pid ]] || return 0
  kill "$registry_pid"
  wait_until gone "$registry_pid"
  registry_pid=
}

# start_full_registry: one that holds the image already, as $registry/debian.
start_full_registry() {
  cp -a --reflink=auto "$state/registry" "$registry_storage"
  start_registry
}

# registry_blob DIGEST: where the registry stores a blob.
registry_blob() {
  local hex=${1#sha256:}
  echo "$registry_storage/docker/registry/v2/blobs/sha256/${hex:0:2}/$hex/data"
}

# An answer is logged after it was sent: ask something and wait for that line.
settle_log() {
  local name
  name=settle-$(wc -l <"$access_log")
  curl -sS -o /dev/null -A "$name" "http://$registry/v2/"
  wait_until grep -q "$name" "$access_log"
}

# mark: a position in the access log, for requests_since.
mark() {
  [[ -z $registry_pid ]] || settle_log
  wc -l <"$access_log"
}

# requests_since MARK: "METHOD PATH STATUS BYTES" of every request of ours since then.
requests_since() {
  [[ -z $registry_pid ]] || settle_log
  tail -n +"$(($1 + 1))" "$access_log" |
    awk '/"settle-/ { next } match($0, /"[A-Z]+ [^ ]+ HTTP/) { print substr($6, 2), $7, $9, $10 }'
}

# blobs_since MARK: the digests of the blobs got since then, one line for each request, sorted.
blobs_since() {
  requests_since "$1" | sed -n 's,^GET /v2/.*/blobs/\(sha256:[0-9a-f]*\) .*,\1,p' | sort
}

# no_requests_since MARK WHAT
no_requests_since() {
  local requests
  requests=$(requests_since "$1")
  [[ -z $requests ]] || fail "$2 made requests: $requests"
}

# --- Trees and files ----------------------------------------------------------------------------

# list_tree DIR [--without WHAT,…]
list_tree() {
  python3 "$here/tree_listing.py" "$@"
}

# same_tree EXPECTED_LISTING DIR [--without WHAT,…]
same_tree() {
  local expected=$1
  shift
  list_tree "$@" >"$work/actual.listing"
  diff "$expected" "$work/actual.listing" >"$work/diff" ||
    fail "$1 differs: $(head -n 20 "$work/diff" | cut -c 1-300)"
}

# chunks_of PATH…: the digests of the chunks that hold these files of the tree, each once, sorted.
chunks_of() {
  local path
  for path in "$@"; do python3 "$here/file_chunks.py" "$state/layout" latest "$path"; done | sort -u
}

metadata_digest() {
  python3 "$here/file_chunks.py" "$state/layout" latest
}

# falsify FILE: changes one byte in its middle, and nothing else of it.
falsify() {
  local offset byte
  offset=$(($(stat -c %s "$1") / 2))
  byte=$(od -An -tu1 -j "$offset" -N 1 "$1")
  # shellcheck disable=SC2059  # the format is the byte
  printf "\\$(printf %03o $((byte ^ 255)))" |
    dd of="$1" bs=1 seek="$offset" conv=notrunc status=none
}

# fails_with STATUS PATTERN COMMAND…: the command ends so, and says so on stderr.
fails_with() {
  local wanted=$1 pattern=$2 status=0
  shift 2
  "$@" >/dev/null 2>"$work/stderr" || status=$?
  [[ $status == "$wanted" ]] || fail "$* ended with $status instead of $wanted: $(<"$work/stderr")"
  grep -Eq "$pattern" "$work/stderr" || fail "$* did not say \"$pattern\": $(<"$work/stderr")"
}

# --- The end ------------------------------------------------------------------------------------

cleanup() {
  local status=$?
  set +e
  local point
  while read -r point; do umount -l "$point"; done < <(mounts)
  if [[ -n $registry_pid ]]; then kill "$registry_pid"; fi
  if ((${#started[@]})); then kill "${started[@]}" 2>/dev/null; fi
  # The daemons end by themselves now; a sanitizer reports at the end.
  local deadline=$((SECONDS + 20))
  while pgrep -f -- " mount .*$work/" >/dev/null && ((SECONDS < deadline)); do sleep 0.1; done
  if compgen -G "$work/sanitizer*" >/dev/null; then
    cat "$work"/sanitizer* >&2
    status=1
  fi
  if ((status == 0)) || [[ -z ${E2E_KEEP:-} ]]; then rm -rf "$work"; fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
