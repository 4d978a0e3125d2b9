#!/usr/bin/env bash
# A registry whose token service says who may do what: with a password and without one, tokens that
# expire while a mount is read from, and a password that changes meanwhile.
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/../token_service.sh"

readonly password=open-sesame-7391
export HOME=$work XDG_RUNTIME_DIR=$work XDG_CONFIG_HOME=$work
unset DOCKER_CONFIG REGISTRY_AUTH_FILE

# write_auth FILE PASSWORD
write_auth() {
  printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$registry" "$(printf 'ali:%s' "$2" | base64)" >"$1.new"
  mv "$1.new" "$1"
}

# expect_tokens MARK LINE…: these requests for tokens came since then, and no others.
expect_tokens() {
  local mark=$1
  shift
  printf '%s\n' "$@" >"$work/expected"
  token_requests_since "$mark" | diff "$work/expected" - >&2 || fail "other requests for tokens"
}

echo "ali:$password" >"$token_users"
start_token_service
start_registry
write_auth "$work/auth.json" "$password"
write_auth "$work/wrong.json" another
cp -a "$rootfs/usr/sbin" "$work/tree"
list_tree "$work/tree" >"$work/listing"
"$puzzlefs" build "$work/tree" "$work/layout" >/dev/null

step "nobody pushes without a password"
at=$(token_mark)
fails_with 1 'puzzlefs login' "$puzzlefs" push "$work/layout" "$registry/tree"
fails_with 1 'token service.* 401 .*puzzlefs login' \
  "$puzzlefs" push --authfile "$work/wrong.json" "$work/layout" "$registry/tree"
# Not grep -q, which may end before its input does: that would be a failure too.
(($(token_requests_since "$at" | grep -cx '401 ali tests repository:tree:pull,push') == 1)) ||
  fail "the wrong password did not come to the token service once"

step "one token for all of a push"
at=$(token_mark)
"$puzzlefs" push -vvv --authfile "$work/auth.json" "$work/layout" "$registry/tree" 2>"$work/push.log"
expect_tokens "$at" '200 ali tests repository:tree:pull,push'

step "tags, and an image that anybody may pull"
at=$(token_mark)
[[ $("$puzzlefs" tags --authfile "$work/auth.json" "$registry/tree") == latest ]] || fail "the tag is not listed"
[[ $("$puzzlefs" tags "$registry/tree") == latest ]] || fail "the tag is not listed for everybody"
expect_tokens "$at" '200 ali tests repository:tree:pull' '200 - tests repository:tree:pull'
"$puzzlefs" pull "$registry/tree" "$work/pulled"
mount_image "$registry/tree"
same_tree "$work/listing" "$mnt"
unmount

# The registry takes a token for another minute after its end, so that these are good for 5 seconds.
readonly brief=(--lifetime -55 --expires-in 300)
stop_token_service
start_token_service "${brief[@]}"

step "tokens expire under two mounts"
rm -rf "$cache"
write_auth "$work/changing.json" "$password"
mount_image -vvv --log-file "$work/mount.log" --authfile "$work/auth.json" "$registry/tree"
mkdir "$work/second"
"$puzzlefs" mount --cache-dir "$work/second-cache" --authfile "$work/changing.json" "$registry/tree" "$work/second"
sleep 6

step "sixteen readers wait for one new token, and go on"
stop_token_service
start_token_service --delay 1
at=$(token_mark)
requests=$(mark)
find "$mnt" -type f -print0 | xargs -0 -P 16 -n 8 cat >/dev/null
expect_tokens "$at" '200 ali tests repository:tree:pull'
(($(requests_since "$requests" | grep -c ' 401 ') > 0)) || fail "no token had expired"
same_tree "$work/listing" "$mnt"
expect_tokens "$at" '200 ali tests repository:tree:pull'
unmount

step "a password that changes under a mount"
file=$(cd "$work/tree" && find . -type f -size +8k | head -n 1)
echo "ali:$password-2" >"$token_users"
at=$(token_mark)
if cat "$work/second/$file" >/dev/null 2>&1; then fail "the old password and the old token are good still"; fi
(($(token_requests_since "$at" | grep -cx '401 ali tests repository:tree:pull') > 0)) ||
  fail "the old password was not tried"
at=$(token_mark)
write_auth "$work/changing.json" "$password-2"
cmp "$work/tree/$file" "$work/second/$file"
expect_tokens "$at" '200 ali tests repository:tree:pull'
same_tree "$work/listing" "$work/second"
"$puzzlefs" umount "$work/second"

step "never shown"
[[ -s $work/push.log && -s $work/mount.log ]] || fail "nothing was logged at the level trace"
encoded=$(printf 'ali:%s' "$password" | base64)
if grep -F -e "$password" -e "$encoded" -e 'Bearer ey' "$work"/*.log; then fail "a secret was logged"; fi
