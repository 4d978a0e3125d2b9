# shellcheck shell=bash
# What the scenarios of a damaged cache share. Sourced after lib.sh.
# shellcheck disable=SC2034,SC2154  # lib.sh has what it uses, the scenarios use what it has

readonly messages=$work/messages
readonly parts=(etc usr/sbin usr/share/perl5)

# same_parts [PART…]: every byte of them is right.
same_parts() {
  local part
  for part in "${@:-${parts[@]}}"; do
    diff -rq --no-dereference "$rootfs/$part" "$mnt/$part" >"$work/diff" 2>&1 ||
      fail "$part differs: $(head -n 5 "$work/diff"; tail -n 5 "$messages")"
  done
}

# What it says before it is mounted comes to standard error.
mount_logged() {
  rm -f "$messages" "$work/said"
  mount_image "$registry/debian" --log-file "$messages" "$@" 2>"$work/said" || fail "$(<"$work/said")"
}

# kinds_of_warnings: each warning with what differs from blob to blob left out.
kinds_of_warnings() {
  sed -nE 's/^.*(\[warning\]|warning:|\[error\]) //p' "$messages" "$work/said" |
    sed -E 's/[0-9a-f]{8,}/…/g; s,/[0-9a-f]{2}/,/…/,g; s/[0-9]+ bytes/… bytes/g'
}

# said_once [WHAT]: no kind of warning was given twice, and WHAT is among them.
said_once() {
  [[ -z $(kinds_of_warnings | sort | uniq -d) ]] || fail "said more than once: $(kinds_of_warnings)"
  [[ -z ${1:-} ]] || kinds_of_warnings | grep -q "$1" || fail "the log lacks \"$1\": $(kinds_of_warnings)"
}

said_nothing() {
  [[ -z $(kinds_of_warnings) ]] || fail "$1: $(kinds_of_warnings)"
}

# kill_daemon: kill -9, and the mount it leaves goes.
kill_daemon() {
  local daemon
  daemon=$(daemon_pid)
  kill -KILL "$daemon"
  wait_until gone "$daemon"
  umount -l "$mnt"
}

no_daemon() { ! pgrep -f -- " mount .*$mnt\$" >/dev/null; }

# readable_offline: what was read once is there, and what its name stands for is known.
readable_offline() {
  local start
  start=$(mark)
  mount_logged --offline
  same_parts "$@"
  unmount
  no_requests_since "$start" "the mount with --offline"
  said_nothing "the cache was not repaired"
}
