#!/usr/bin/env bash
# Behind nginx as a caching proxy that knows no ranges: what one reader got, the next gets from its
# cache; what is falsified there is got past it, and so is put right.
source "$(dirname "$0")/../lib.sh"

readonly file=ldconfig
readonly nginx_log=$work/nginx.log
nginx_pid=
proxy=

nginx_has_begun() { [[ -s $work/nginx/pid ]] || gone "$nginx_pid"; }

# start_nginx: before $registry, as $proxy, with a cache of its own each time. nginx does not choose
# a port itself, and another scenario may be faster to take the one that was free.
start_nginx() {
  local attempt
  for attempt in {1..5}; do
    configure_nginx
    nginx -c "$work/nginx.conf" -e "$work/nginx.err" &
    nginx_pid=$!
    disown "$nginx_pid"
    # An answer would say nothing: it may be from whoever has the port. nginx writes its process id
    # when it has bound it, and otherwise ends.
    wait_until nginx_has_begun
    [[ ! -s $work/nginx/pid ]] || return 0
    nginx_pid=
    echo "nginx could not begin (attempt $attempt)" >&2
  done
  fail "nginx does not start: $(tail -n 5 "$work/nginx.err")"
}

configure_nginx() {
  local port
  rm -rf "$work/nginx"
  mkdir "$work/nginx"
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  proxy=127.0.0.1:$port
  cat >"$work/nginx.conf" <<END
user root;
worker_processes 1;
daemon off;
pid $work/nginx/pid;
error_log $work/nginx.err;
events {}
http {
  log_format cache '\$request_method \$uri \$status \$upstream_cache_status "\$http_range"';
  access_log $nginx_log cache;
  client_body_temp_path $work/nginx/body;
  proxy_temp_path $work/nginx/temporary;
  fastcgi_temp_path $work/nginx/fastcgi;
  uwsgi_temp_path $work/nginx/uwsgi;
  scgi_temp_path $work/nginx/scgi;
  proxy_cache_path $work/nginx/cache keys_zone=blobs:1m;
  server {
    listen $proxy;
    proxy_set_header Host \$http_host;
    proxy_set_header Range "";
    proxy_force_ranges off;
    max_ranges 0;
    location / { proxy_pass http://$registry; }
    location ~ /blobs/sha256: {
      proxy_pass http://$registry;
      proxy_cache blobs;
      proxy_cache_key \$uri;
      proxy_cache_valid 200 1h;
      proxy_cache_bypass \$http_cache_control;
    }
  }
}
END
}

stop_nginx() {
  [[ -n $nginx_pid ]] || return 0
  kill "$nginx_pid"
  wait_until gone "$nginx_pid"
  nginx_pid=
}
trap 'stop_nginx; cleanup' EXIT

# through_nginx MARK: "STATUS CACHE" of the requests for blobs since that line of its log.
through_nginx() {
  tail -n +"$(($1 + 1))" "$nginx_log" | awk '$2 ~ /\/blobs\/sha256:/ { print $3, $4 }'
}

# As mark, of nginx's log.
nginx_mark() {
  local name
  name=settle-$(wc -l <"$nginx_log")
  curl -sS -o /dev/null "http://$proxy/$name"
  wait_until grep -q "$name" "$nginx_log"
  wc -l <"$nginx_log"
}

# cached_since MARK WHAT…: nginx answered all requests for blobs since then so.
cached_since() {
  local start=$1
  shift
  nginx_mark >/dev/null
  [[ $(through_nginx "$start" | sort -u) == "$*" ]] ||
    fail "other answers of nginx than $*: $(through_nginx "$start" | sort | uniq -c)"
}

mount_cold() {
  rm -rf "$cache"
  mount_image "$@"
}

start_registry
"$puzzlefs" build "$rootfs/sbin/" "$work/layout:sbin" >/dev/null
"$puzzlefs" push --layout keep "$work/layout:sbin" "$registry/sbin" >/dev/null
chunk=$(python3 "$here/file_chunks.py" "$work/layout" sbin "$file" | sed -n 4p)
start_nginx

step "it knows no ranges"
status=$(curl -sS -o /dev/null -w '%{http_code}' -r 5-9 "http://$proxy/v2/sbin/blobs/$chunk")
[[ $status == 200 ]] || fail "nginx answers a range by $status"
stop_nginx
start_nginx

step "the first reader fills its cache"
start=$(nginx_mark)
mount_cold "$proxy/sbin"
cmp "$mnt/$file" "$rootfs/sbin/$file"
unmount
cached_since "$start" 200 MISS

step "the second is served from it"
start=$(nginx_mark)
registry_start=$(mark)
mount_cold "$proxy/sbin"
cmp "$mnt/$file" "$rootfs/sbin/$file"
unmount
cached_since "$start" 200 HIT
[[ -z $(blobs_since "$registry_start") ]] || fail "the registry was asked for blobs"

step "a chunk falsified in its cache is got past it"
kept=$(grep -rlF -- "KEY: /v2/sbin/blobs/$chunk" "$work/nginx/cache")
falsify "$kept"
start=$(nginx_mark)
registry_start=$(mark)
mount_cold "$proxy/sbin"
cmp "$mnt/$file" "$rootfs/sbin/$file"
unmount
[[ $(blobs_since "$registry_start") == "$chunk" ]] || fail "other blobs than the falsified one were got"
nginx_mark >/dev/null
[[ $(through_nginx "$start" | grep -v '200 HIT') == "200 BYPASS" ]] ||
  fail "the chunk was not got past the cache: $(through_nginx "$start" | sort | uniq -c)"

step "and is right there afterwards"
start=$(nginx_mark)
mount_cold "$proxy/sbin"
cmp "$mnt/$file" "$rootfs/sbin/$file"
unmount
cached_since "$start" 200 HIT

step "pull"
"$puzzlefs" pull "$proxy/sbin" "$work/pulled" >/dev/null
diff -r "$work/layout/blobs" "$work/pulled/blobs" || fail "other blobs were pulled"
start=$(nginx_mark)
"$puzzlefs" pull "$proxy/sbin" "$work/pulled-again" >/dev/null
cached_since "$start" 200 HIT

step "a body that breaks off behind it"
stop_nginx
stop_registry
mkdir "$work/tree"
# The same each time, as how large the chunks are depends on it.
python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(5).randbytes(300000))' \
  >"$work/tree/random"
"$puzzlefs" build "$work/tree" "$work/layout:tree" >/dev/null
chunk=$(python3 "$here/file_chunks.py" "$work/layout" tree random |
  while read -r digest; do
    echo "$(stat -c %s "$work/layout/blobs/sha256/${digest#sha256:}") $digest"
  done | sort -n | tail -n 1)
((${chunk% *} > 40000)) || fail "no large chunk: $chunk"
cat >"$work/script.json" <<END
[{"match": {"method": "GET", "path": "/blobs/${chunk#* }"}, "times": 1,
  "fault": {"kind": "truncate", "after": 20000}}]
END
"$project/tests/faults/fault_registry.py" --script "$work/script.json" --log "$work/faults.log" \
  >"$work/listening" &
registry_pid=$!
disown "$registry_pid"
wait_until test -s "$work/listening"
registry=$(jq -r .registry "$work/listening")
"$puzzlefs" push --layout keep "$work/layout:tree" "$registry/tree" >/dev/null
start_nginx
mount_cold "$proxy/tree"
cmp "$mnt/random" "$work/tree/random"
unmount
grep -q '"fault": "truncate"' "$work/faults.log" || fail "no body broke off"
nginx_mark >/dev/null
grep -Eq "/blobs/${chunk#* } 200 [A-Z]+ \"bytes=[0-9]+-\"\$" "$nginx_log" ||
  fail "the rest was not asked for"
