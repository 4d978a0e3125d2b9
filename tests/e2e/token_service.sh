# shellcheck shell=bash disable=SC2154  # lib.sh has the variables
# A token service in front of a scenario's registry, for scenarios to source behind lib.sh. Users are
# the lines of $token_users, each request is a line of $token_log: STATUS USER SERVICE SCOPES…

readonly token_users=$work/token.users
readonly token_log=$work/token.log
token_port=0
token_pid=

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tokens -keyout "$work/token-key.pem" \
  -out "$work/token.pem" 2>/dev/null
: >"$token_users"
: >"$token_log"

# start_token_service [OPTION…]: the first time on a free port, then on the same one. The options are
# those of token_server.py. A registry that is started behind it takes its tokens.
start_token_service() {
  rm -f "$work/token.port"
  python3 "$here/token_server.py" --key "$work/token-key.pem" --certificate "$work/token.pem" \
    --users "$token_users" --log "$token_log" --port "$token_port" --port-file "$work/token.port" "$@" &
  token_pid=$!
  started+=("$token_pid")
  disown "$token_pid"
  wait_until test -e "$work/token.port"
  token_port=$(<"$work/token.port")
  # shellcheck disable=SC2034  # for start_registry
  registry_auth="auth: { token: { realm: \"http://127.0.0.1:$token_port/token\", service: tests, issuer: tests, rootcertbundle: $work/token.pem } }"
}

stop_token_service() {
  kill "$token_pid"
  wait_until gone "$token_pid"
}

# token_requests_since LINES: the lines of the log behind the first LINES.
token_requests_since() {
  tail -n +"$(($1 + 1))" "$token_log"
}

token_mark() {
  wc -l <"$token_log"
}
