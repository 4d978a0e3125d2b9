#!/usr/bin/env bash
# A registry that wants a password: refused with a sentence without one, served with one from a file
# that the user names, and the password is never shown, however much is logged.
source "$(dirname "$0")/../lib.sh"

readonly password=open-sesame-7391
encoded=$(printf 'ali:%s' "$password" | base64)
readonly encoded
htpasswd -Bbn ali "$password" >"$work/htpasswd"
# shellcheck disable=SC2034  # for start_registry
registry_auth="auth: { htpasswd: { realm: tests, path: $work/htpasswd } }"
start_registry
printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$registry" "$encoded" >"$work/auth.json"
"$puzzlefs" build "$rootfs/etc" "$work/layout"
list_tree "$rootfs/etc" >"$work/listing"
# The tests' own user may have logged in somewhere.
export HOME=$work XDG_RUNTIME_DIR=$work XDG_CONFIG_HOME=$work
unset DOCKER_CONFIG REGISTRY_AUTH_FILE

step "without a password"
fails_with 1 'login|credential|password' "$puzzlefs" push "$work/layout" "$registry/etc"

step "with one"
"$puzzlefs" push -vvv --authfile "$work/auth.json" "$work/layout" "$registry/etc" 2>"$work/push.log"
fails_with 1 'login|credential|password' mount_image "$registry/etc"
mount_image -vvv --log-file "$work/mount.log" --authfile "$work/auth.json" "$registry/etc" 2>"$work/mount.err"
same_tree "$work/listing" "$mnt"
unmount

step "from the environment"
REGISTRY_AUTH_FILE=$work/auth.json "$puzzlefs" pull "$registry/etc" "$work/pulled"

step "from a helper"
mkdir "$work/bin"
cat >"$work/bin/docker-credential-tests" <<END
#!/bin/sh
cat >"$work/asked"
echo '{"ServerURL": "$registry", "Username": "ali", "Secret": "$password"}'
END
chmod +x "$work/bin/docker-credential-tests"
printf '{"credHelpers": {"%s": "tests"}}\n' "$registry" >"$work/helper.json"
PATH=$work/bin:$PATH mount_image -vvv --log-file "$work/helper.log" --authfile "$work/helper.json" "$registry/etc" 2>"$work/helper.err"
[[ $(<"$work/asked") == "$registry" ]] || fail "the helper was asked for \"$(<"$work/asked")\""
same_tree "$work/listing" "$mnt"
unmount

step "never shown"
[[ -s $work/push.log ]] || fail "nothing was logged at the level trace"
if grep -F -e "$password" -e "$encoded" "$work"/*.log "$work"/*.err; then
  fail "the password was logged"
fi
