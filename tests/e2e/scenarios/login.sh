#!/usr/bin/env bash
# Logging in and out: what is written is what skopeo reads and the other way round, nothing is written
# that the registry did not accept, and the password is shown to nobody.
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/../token_service.sh"

readonly password=open-sesame-7391
export HOME=$work/home XDG_RUNTIME_DIR=$work/run XDG_CONFIG_HOME=$work/config
unset DOCKER_CONFIG REGISTRY_AUTH_FILE
mkdir -p "$HOME" "$XDG_RUNTIME_DIR"
readonly auth=$XDG_RUNTIME_DIR/containers/auth.json
exec 2> >(tee -a "$work/output" >&2)

htpasswd -Bin ali <<<"$password" >"$work/htpasswd" 2>/dev/null
registry_auth="auth: { htpasswd: { realm: tests, path: $work/htpasswd } }"
start_registry
"$puzzlefs" build "$rootfs/etc" "$work/layout" >/dev/null

# login ARGUMENT…: with the password, and everything logged.
login() {
  "$puzzlefs" login -vvv -u ali --password-stdin "$@" <<<"$password"
}
# What skopeo and puzzlefs say to the image.
skopeo_reads() { skopeo inspect --raw --tls-verify=false "$@" "docker://$registry/etc" >/dev/null 2>&1; }
puzzlefs_reads() { "$puzzlefs" digest "$@" "$registry/etc" >/dev/null 2>&1; }
nobody_reads() {
  ! skopeo_reads "$@" || fail "skopeo is let in: $*"
  ! puzzlefs_reads "$@" || fail "puzzlefs is let in: $*"
}

step "what is not accepted is not kept"
fails_with 1 'did not accept .* "ali": 401' "$puzzlefs" login -u ali --password-stdin "$registry" <<<"wrong"
fails_with 1 'did not accept .* "eve": 401' "$puzzlefs" login -u eve --password-stdin "$registry" <<<"$password"
fails_with 2 'empty' "$puzzlefs" login -u ali --password-stdin "$registry" </dev/null
fails_with 2 'too long' "$puzzlefs" login -u ali --password-stdin "$registry" < <(head -c 20000 /dev/zero)
[[ ! -e $auth ]] || fail "a login was kept"

step "login, for skopeo too"
said=$(login "$registry")
[[ $said == "Logged in to $registry as ali; the password is kept in $auth." ]] || fail "it said: $said"
[[ $(stat -c %a "$auth" "${auth%/*}") == $'600\n700' ]] || fail "others can read $auth"
"$puzzlefs" push "$work/layout" "$registry/etc" >/dev/null
skopeo_reads || fail "skopeo is not let in"
skopeo_reads --authfile "$auth" || fail "skopeo is not let in by the file"
printf '%s\r\n' "$password" | "$puzzlefs" login -u ali --password-stdin --authfile "$work/dos.json" "$registry" >/dev/null
cmp "$auth" "$work/dos.json"

step "logout"
said=$("$puzzlefs" logout -vvv "$registry")
[[ $said == "Logged out of $registry." ]] || fail "it said: $said"
nobody_reads
fails_with 1 "Not logged in to $registry" "$puzzlefs" logout "$registry"

step "a login by skopeo"
skopeo login --tls-verify=false -u ali --password-stdin "$registry" <<<"$password" >/dev/null
puzzlefs_reads || fail "puzzlefs is not let in"
mkdir -p "$HOME/.docker"
cp "$auth" "$HOME/.docker/config.json"
fails_with 0 "$HOME/.docker/config.json still has a login for $registry" "$puzzlefs" logout "$registry"
puzzlefs_reads || fail "the other login is gone too"
rm "$HOME/.docker/config.json"
nobody_reads

step "a part of a registry"
login "$registry/etc" >/dev/null
skopeo_reads || fail "skopeo is not let in"
fails_with 1 'puzzlefs login' "$puzzlefs" push "$work/layout" "$registry/etcetera"
skopeo logout "$registry/etc" >/dev/null
nobody_reads

step "Docker Hub, by all its names"
printf '{"auths": {"docker.io": {"auth": "%s"}}}\n' "$(printf 'ali:x' | base64)" >"$work/hub.json"
[[ $(skopeo login --get-login --authfile "$work/hub.json" docker.io) == ali ]] || fail "skopeo reads another key"
"$puzzlefs" logout --authfile "$work/hub.json" https://index.docker.io/v1/ >/dev/null
! skopeo login --get-login --authfile "$work/hub.json" docker.io 2>/dev/null || fail "the login is still there"

step "out of all"
login "$registry" >/dev/null
login "$registry/etc" >/dev/null
[[ $("$puzzlefs" logout --all | wc -l) == 2 ]] || fail "it did not log out of both"
nobody_reads

# --- A helper -----------------------------------------------------------------------------------

step "a helper keeps it, and no process shows the password"
mkdir "$work/bin"
export PATH=$work/bin:$PATH
printf '%s' "$password" >"$work/password"
cat >"$work/bin/docker-credential-tests" <<END
#!/bin/sh
echo "\$*" >>"$work/calls"
case \$1 in
  store)
    cat >"$work/kept"
    grep -lFf "$work/password" /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>"$work/shown" 2>/dev/null ;;
  get) cat "$work/kept" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
  erase) grep -Fqx "$registry" && rm "$work/kept" ;;
esac
[ "\$1" != store ] || exit 0
END
chmod +x "$work/bin/docker-credential-tests"
printf '{"credHelpers": {"%s": "tests"}}\n' "$registry" >"$work/helper.json"
cp "$work/helper.json" "$work/before.json"
said=$(login --authfile "$work/helper.json" "$registry")
[[ $said == *"kept by the helper tests." ]] || fail "it said: $said"
cmp "$work/before.json" "$work/helper.json"
[[ $(jq -r .Secret "$work/kept") == "$password" ]] || fail "the helper has another password"
[[ ! -s $work/shown ]] || fail "the password can be seen in $(<"$work/shown")"
skopeo_reads --authfile "$work/helper.json" || fail "skopeo is not let in"
puzzlefs_reads --authfile "$work/helper.json" || fail "puzzlefs is not let in"
"$puzzlefs" logout --authfile "$work/helper.json" "$registry" >/dev/null
[[ ! -e $work/kept ]] || fail "the helper still has it"
nobody_reads --authfile "$work/helper.json"

# --- A terminal ---------------------------------------------------------------------------------

at_terminal() { python3 "$here/at_terminal.py" "$work/answers" "$puzzlefs" login "$@"; }

step "asked at a terminal, which shows the user and not the password"
printf '%s\t%s\n' Username: ali Password: "$password" >"$work/answers"
at_terminal "$registry" >"$work/terminal.out"
[[ $(grep -c 'ECHO off' "$work/terminal.out") == 1 ]] || fail "the terminal: $(<"$work/terminal.out")"
grep -q 'ECHO restored' "$work/terminal.out" || fail "the terminal shows nothing any more"
grep -q 'Username: ali' "$work/terminal.out" || fail "the terminal: $(<"$work/terminal.out")"
puzzlefs_reads || fail "the password that was typed is not kept"
"$puzzlefs" logout "$registry" >/dev/null

step "interrupted, or ended"
for answer in ^C ^D; do
  printf 'Password:\t%s\n' "$answer" >"$work/answers"
  status=0
  at_terminal -u ali "$registry" >"$work/interrupted.out" || status=$?
  [[ $status == $([[ $answer == ^C ]] && echo 130 || echo 1) ]] || fail "it ended with $status"
  grep -q 'ECHO restored' "$work/interrupted.out" || fail "the terminal shows nothing any more"
done
nobody_reads

# --- A token service ----------------------------------------------------------------------------

step "the token service is asked"
stop_registry
echo "ali:$password" >"$token_users"
start_token_service --lifetime 300
start_registry
fails_with 1 'did not accept .* "ali": the token service .* 401' \
  "$puzzlefs" login -u ali --password-stdin "$registry" <<<"wrong"
login "$registry" >/dev/null
token_requests_since 0 >"$work/tokens"
printf '%s\n' '401 ali tests -' '200 ali tests -' | diff - "$work/tokens" || fail "other requests for tokens"
"$puzzlefs" push "$work/layout" "$registry/etc" >/dev/null
"$puzzlefs" logout "$registry" >/dev/null
fails_with 1 'puzzlefs login' "$puzzlefs" push "$work/layout" "$registry/other"

step "never shown"
encoded=$(printf 'ali:%s' "$password" | base64)
[[ -s $work/output ]] || fail "nothing was logged"
if grep -F -e "$password" -e "$encoded" "$work/output" "$work"/*.out "$work/stderr"; then
  fail "the password was shown"
fi
