#!/usr/bin/env bash
# By way of a proxy that the environment names, to a registry whose name only the proxy knows: with
# and without TLS, with a password for the proxy, and past it where no_proxy says so.
source "$(dirname "$0")/../lib.sh"

readonly password=open-sesame-6620
readonly proxy_log=$work/proxy.log
readonly name=registry.test
export HOME=$work/home
unset http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY
proxy_pid=
proxy=

# start_proxy [OPTION…]: as $proxy, which knows $name.
start_proxy() {
  rm -f "$work/proxy"
  : >"$proxy_log"
  "$here/forward_proxy.py" --log "$proxy_log" "$@" "$registry=$registry" "$name:5000=$registry" \
    "$name:443=$registry" >"$work/proxy" &
  proxy_pid=$!
  disown "$proxy_pid"
  wait_until test -s "$work/proxy"
  proxy=$(<"$work/proxy")
}

stop_proxy() {
  [[ -n $proxy_pid ]] || return 0
  kill "$proxy_pid"
  wait_until gone "$proxy_pid"
  proxy_pid=
}
trap 'stop_proxy; cleanup' EXIT

proxied() {
  grep -Eq "^$1\$" "$proxy_log" || fail "the proxy saw no \"$1\": $(<"$proxy_log")"
}

# mounted_is_right IMAGE OPTION…: with an empty cache.
mounted_is_right() {
  rm -rf "$cache"
  mount_image "$@"
  same_tree "$work/listing" "$mnt"
  unmount
}

cp -a "$rootfs/usr/share/perl5" "$work/tree"
list_tree "$work/tree" >"$work/listing"
"$puzzlefs" build "$work/tree" "$work/layout" >/dev/null
start_registry
start_proxy

! getent hosts "$name" || fail "everybody knows $name"

step "HTTP, forwarded"
http_proxy=http://$proxy "$puzzlefs" push --layout keep --plain-http "$work/layout" "$name:5000/tree"
http_proxy=http://$proxy "$puzzlefs" pull --plain-http "$name:5000/tree" "$work/pulled"
diff -r "$work/layout/blobs" "$work/pulled/blobs" || fail "other blobs were pulled"
proxied "GET http://$name:5000/v2/tree/manifests/latest 200"
http_proxy=http://$proxy mounted_is_right "$name:5000/tree" --plain-http

step "no_proxy"
: >"$proxy_log"
http_proxy=http://$proxy no_proxy=example.test,127.0.0.1 mounted_is_right "$registry/tree" --plain-http
[[ ! -s $proxy_log ]] || fail "the proxy was used: $(<"$proxy_log")"
http_proxy=http://$proxy no_proxy=example.test mounted_is_right "$registry/tree" --plain-http
proxied "GET http://$registry/v2/tree/manifests/latest 200"

step "a background mount keeps to the proxy when the command has gone"
rm -rf "$cache"
http_proxy=http://$proxy mount_image "$name:5000/tree" --plain-http
: >"$proxy_log"
same_tree "$work/listing" "$mnt"
proxied "GET http://$name:5000/v2/tree/blobs/sha256:[0-9a-f]* 200"
unmount

step "TLS, in a tunnel"
stop_proxy
stop_registry
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
  -subj /CN=$name -addext subjectAltName=DNS:$name \
  -keyout "$work/key.pem" -out "$work/certificate.pem" 2>/dev/null
# shellcheck disable=SC2034  # for start_registry
registry_tls="{ certificate: $work/certificate.pem, key: $work/key.pem }"
start_registry
start_proxy
https_proxy=http://$proxy mounted_is_right "$name/tree" --tls-ca "$work/certificate.pem"
proxied "CONNECT $name:443 200"
! grep -v '^CONNECT' "$proxy_log" || fail "the proxy saw more than tunnels"
https_proxy=http://$proxy fails_with 1 'not trusted.*--tls-ca' timeout 20 \
  "$puzzlefs" pull "$name/tree" "$work/untrusted"

step "a proxy that wants a password"
stop_proxy
printf 'ali:%s' "$password" >"$work/password"
start_proxy --password-file "$work/password"
https_proxy=http://ali:$password@$proxy mounted_is_right "$name/tree" \
  --tls-ca "$work/certificate.pem" -vvv --log-file "$work/mount.log"
proxied "CONNECT $name:443 200"
https_proxy=http://ali:$password@$proxy "$puzzlefs" pull -vvv --tls-ca "$work/certificate.pem" \
  "$name/tree" "$work/again" 2>"$work/pull.log"
https_proxy=http://ali:wrong-$password@$proxy fails_with 1 407 timeout 90 "$puzzlefs" mount -vvv \
  --tls-ca "$work/certificate.pem" --cache-dir "$work/none" "$name/tree" "$mnt"
cp "$work/stderr" "$work/wrong.log"
if grep -F -e "$password" -e "$(base64 "$work/password")" "$work"/{mount,pull,wrong}.log; then
  fail "the proxy's password was logged"
fi
