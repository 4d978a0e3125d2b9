#!/usr/bin/env bash
# A registry with TLS and an authority of its own, and one that wants its clients' certificates: the
# certificates come from --tls-ca or from where podman, skopeo and docker look for them.
source "$(dirname "$0")/../lib.sh"

export HOME=$work/home
cp -a "$rootfs/usr/share/perl5" "$work/tree"
list_tree "$work/tree" >"$work/listing"
"$puzzlefs" build "$work/tree" "$work/layout" >/dev/null

# certificate NAME ISSUER ARGUMENT…: NAME.pem and NAME-key.pem, signed by ISSUER.
certificate() {
  local name=$work/$1 issuer=$work/$2
  shift 2
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$name-key.pem" \
    -out "$name.csr" "$@" 2>/dev/null
  openssl x509 -req -in "$name.csr" -CA "$issuer.pem" -CAkey "$issuer-key.pem" -CAcreateserial \
    -days 2 -copy_extensions copy -out "$name.pem" 2>/dev/null
}
for authority in authority client-authority; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj "/CN=$authority" -keyout "$work/$authority-key.pem" -out "$work/$authority.pem" 2>/dev/null
done
certificate server authority -subj /CN=server \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1
certificate client client-authority -subj /CN=client

readonly server="certificate: $work/server.pem, key: $work/server-key.pem"
registry_tls="{ $server }"
start_registry
readonly image=localhost:${registry##*:}/tree

step "an authority that nobody knows is refused at once, and by name"
fails_with 1 'not trusted.*--tls-ca' timeout 20 "$puzzlefs" push "$work/layout" "$image"
fails_with 1 "$work/nowhere.pem" "$puzzlefs" push --tls-ca "$work/nowhere.pem" "$work/layout" "$image"
fails_with 1 'PEM' "$puzzlefs" push --tls-ca "$rootfs/bin/true" "$work/layout" "$image"

step "--tls-ca, for push, pull, inspect, extract and mount"
"$puzzlefs" push --tls-ca "$work/authority.pem" "$work/layout" "$image"
"$puzzlefs" pull --tls-ca "$work/authority.pem" "$image" "$work/copy"
"$puzzlefs" inspect --tls-ca "$work/authority.pem" --cache-dir "$cache" "$image" >/dev/null
"$puzzlefs" extract --tls-ca "$work/authority.pem" --cache-dir "$cache" "$image" "$work/extracted"
same_tree "$work/listing" "$work/extracted"
rm -rf "$cache"
mount_image "$image" --tls-ca "$work/authority.pem"
same_tree "$work/listing" "$mnt"
unmount

step "--tls-ca, for login"
fails_with 1 'not trusted' timeout 20 \
  "$puzzlefs" login -u ali --password-stdin --authfile "$work/auth.json" "${image%/*}" <<<password
[[ ! -e $work/auth.json ]] || fail "a password was kept that was never checked"
"$puzzlefs" login -u ali --password-stdin --authfile "$work/auth.json" \
  --tls-ca "$work/authority.pem" "${image%/*}" <<<password 2>"$work/login.err"
grep -q 'asks nobody' "$work/login.err" || fail "it did not say that nobody was asked"

step "certs.d"
readonly own=$HOME/.config/containers/certs.d/${image%/*}
mkdir -p "$own"
cp "$work/authority.pem" "$own/ca.crt"
rm -rf "$cache"
mount_image "$image"
same_tree "$work/listing" "$mnt"
unmount

step "a registry that wants a client's certificate"
stop_registry
registry_tls="{ $server, clientcas: [ $work/client-authority.pem ] }"
start_registry
rm -rf "$cache"
fails_with 1 "wants another client's certificate, or one at all" timeout 20 \
  "$puzzlefs" mount --cache-dir "$cache" "$image" "$mnt"
cp "$work/client.pem" "$own/client.cert"
fails_with 1 'client.key: a client.s certificate needs both' timeout 20 \
  "$puzzlefs" mount --cache-dir "$cache" "$image" "$mnt"
cp "$work/client-key.pem" "$own/client.key"
mount_image "$image"
same_tree "$work/listing" "$mnt"
unmount
pushed=$("$puzzlefs" push "$work/layout" "$image")
[[ $pushed == *" 0 new blobs"* ]] || fail "push did not see the blobs"

step "a certificate of another authority"
certificate client authority -subj /CN=impostor
cp "$work/client.pem" "$own/client.cert"
cp "$work/client-key.pem" "$own/client.key"
fails_with 1 "wants another client's certificate, or one at all" timeout 20 \
  "$puzzlefs" push "$work/layout" "$image"
