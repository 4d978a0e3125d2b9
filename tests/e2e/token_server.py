#!/usr/bin/env python3
"""token_server.py --key FILE --certificate FILE --port-file FILE --log FILE [OPTION…]: a token service
for a registry (the distribution project's "Token Authentication Specification"), which asks no other
machine for anything: the Python standard library and the openssl command.

It listens on a port of 127.0.0.1, a free one by itself, and writes it to the port file. Users may do
everything, others pull. Each request is a line of the log: STATUS USER SERVICE SCOPES…, with "-" for
nobody and for what was not said. The users file, lines of USER:PASSWORD, is read at each request.
"""
import argparse
import base64
import json
import os
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--key", required=True, help="the private key, PEM, that signs tokens")
    parser.add_argument("--certificate", required=True, help="its certificate, which goes with them")
    parser.add_argument("--port-file", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--users", default=os.devnull)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--issuer", default="tests")
    parser.add_argument("--lifetime", type=int, default=300, help="how many seconds tokens are valid")
    parser.add_argument("--expires-in", type=int, help="what is said of that, if not the truth")
    parser.add_argument("--delay", type=float, default=0, help="seconds until each answer")
    return parser.parse_args()


OPTIONS = parse_arguments()
LOG_LOCK = threading.Lock()


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def make_token(service, user, access):
    with open(OPTIONS.certificate, encoding="ascii") as file:
        certificate = "".join(line.strip() for line in file if "-----" not in line)
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
    claims = {"iss": OPTIONS.issuer, "sub": user, "aud": service, "iat": now, "nbf": now - 600,
              "exp": now + OPTIONS.lifetime, "jti": os.urandom(8).hex(), "access": access}
    signed = encode(json.dumps(header).encode()) + b"." + encode(json.dumps(claims).encode())
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", OPTIONS.key], input=signed,
                               stdout=subprocess.PIPE, check=True).stdout
    return (signed + b"." + encode(signature)).decode()


def is_known(user, password):
    with open(OPTIONS.users, encoding="utf-8") as file:
        return f"{user}:{password}" in file.read().splitlines()


def allowed(scopes, user):
    access = []
    for scope in scopes:
        kind, rest = scope.split(":", 1)
        name, actions = rest.rsplit(":", 1)
        granted = [action for action in actions.split(",") if user or action == "pull"]
        if granted:
            access.append({"type": kind, "name": name, "actions": granted})
    return access


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # pylint: disable=invalid-name
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        scopes = " ".join(query.get("scope", [])).split()
        service = query.get("service", [""])[0]
        time.sleep(OPTIONS.delay)
        user, status = "", 200
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith("Basic "):
            user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
            if not is_known(user, password):
                status = 401
        with LOG_LOCK, open(OPTIONS.log, "a", encoding="utf-8") as log:
            print(status, user or "-", service or "-", *scopes or ["-"], file=log)
        if status == 401:
            return self.answer(401, {"errors": [{"code": "DENIED", "message": "who is that?"}]})
        token = make_token(service, user, allowed(scopes, user))
        said = OPTIONS.lifetime if OPTIONS.expires_in is None else OPTIONS.expires_in
        return self.answer(200, {"token": token, "access_token": token, "expires_in": said})

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", OPTIONS.port), Handler)
    with open(OPTIONS.port_file + ".new", "w", encoding="ascii") as file:
        print(server.server_address[1], file=file)
    os.rename(OPTIONS.port_file + ".new", OPTIONS.port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
