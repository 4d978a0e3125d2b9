#!/usr/bin/env python3
"""A registry that speaks the OCI distribution protocol and misbehaves on a script.

As a program it prints where it listens, as one line of JSON, and serves until it is terminated;
--help lists its options. As a module it is the class FaultRegistry. misbehaviour.py says what a
script looks like, protocol.py is what is true of a good registry too, access.py who is let in.
"""
import argparse
import http.server
import json
import re
import select
import signal
import socket
import socketserver
import struct
import sys
import threading
import time

from access import Access, Signer
from misbehaviour import Request, Rule, Script, misbehave
from protocol import Registry, Store

ENDLESS = 64 << 20  # bytes are as good as no end


class Log:
    """All requests, in the order in which they came. Thread-safe."""

    def __init__(self, path=None):
        self._lock = threading.Lock()
        self._entries = []
        self._file = open(path, "a", encoding="utf-8") if path else None

    def begin(self, request):
        entry = {"time": time.time(), "server": request.server, "method": request.method,
                 "path": request.target, "range": request.headers.get("range"),
                 "authorization": "authorization" in request.headers,
                 "cache_control": request.headers.get("cache-control"),
                 "status": None, "sent": 0, "fault": None, "ended": False}
        with self._lock:
            self._entries.append(entry)
        return entry

    def end(self, entry):
        entry["ended"] = True
        if self._file:
            with self._lock:
                print(json.dumps(entry), file=self._file, flush=True)

    def entries(self, method=".*", path="", server=""):
        """Copies of those that match, as rules match. One under way has no status yet."""
        with self._lock:
            return [dict(entry) for entry in self._entries
                    if server in ("", entry["server"]) and re.fullmatch(method, entry["method"])
                    and re.search(path, entry["path"])]


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self):
        # A client may try TLS first: it must not wait for an answer to its greeting.
        try:
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
                return
            super().handle()
        except (ConnectionError, TimeoutError):
            pass

    def log_message(self, *_arguments):
        pass

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.server.role, self.command, self.path, headers, self._body())
        owner = self.server.owner
        entry = owner.log.begin(request)
        try:
            fault = owner.script.fault_for(request)
            entry["fault"] = fault and fault["kind"]
            reply = misbehave(fault, request, owner.registry.serve, owner.registry.refuse)
            self._deliver(reply, entry)
        except ConnectionError:
            self.close_connection = True
        finally:
            owner.log.end(entry)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _deliver(self, reply, entry):
        if not reply.silent:
            entry["status"] = reply.status
            body = b"" if self.command == "HEAD" else reply.body[:reply.sent]
            head = self._head(reply)
            if reply.pace or reply.endless:
                self.wfile.write(head)
                self._trickle(body, reply, entry)
            else:
                entry["sent"] = len(body)
                self.wfile.write(head + body)
        if reply.ending == "keep":
            return
        self.close_connection = True
        if reply.ending == "stall":
            self._wait_for(None)
        elif reply.ending == "reset":
            time.sleep(0.05)  # what was sent must have arrived
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack("ii", 1, 0))

    def _head(self, reply):
        headers = dict(reply.headers)
        if reply.endless == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        elif reply.endless == "announced":
            headers["Content-Length"] = 1 << 40
        elif not reply.endless and reply.status != 204:
            headers["Content-Length"] = len(reply.body)
        if reply.ending != "keep" and reply.endless:
            headers["Connection"] = "close"
        phrase = self.responses.get(reply.status, ("Strange",))[0]
        lines = [f"HTTP/1.1 {reply.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def _trickle(self, body, reply, entry):
        size, seconds = reply.pace or (len(body), 0)
        while entry["sent"] < (ENDLESS if reply.endless else len(body)):
            start = entry["sent"] % len(body) if reply.endless else entry["sent"]
            piece = body[start:start + size]
            framed = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.wfile.write(framed if reply.endless == "chunked" else piece)
            entry["sent"] += len(piece)
            if seconds and self._wait_for(seconds):
                raise ConnectionAbortedError

    def _wait_for(self, seconds):
        """Waits so long (None: for ever), or until the client has gone: then it is true."""
        return bool(select.select([self.connection], [], [], seconds)[0])


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One port. `role` is "registry" or "storage"."""
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner, role, port):
        super().__init__(("127.0.0.1", port), Handler)
        self.owner, self.role = owner, role
        self._connections = set()
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def process_request(self, request, client_address):
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self._connections.discard(request)
        linger = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        if struct.unpack("ii", linger)[0]:
            self.close_request(request)  # without a good-bye: a reset
        else:
            super().shutdown_request(request)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def stop(self):
        """Closes the port and all connections, as when a registry ends."""
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was faster


class FaultRegistry:
    """A running registry. `user` and `password` for `auth`, which is none, basic or bearer; with
    `storage`, blobs are redirected to signed locations on another port.

    As a context it stops at the end."""

    def __init__(self, store=None, *, port=0, auth="none", user="", password="",
                 token_lifetime=300, storage=False, storage_port=0, location_lifetime=300,
                 rules=(), log_file=None):
        self.access = Access(auth, user, password, token_lifetime)
        self.signer = Signer(location_lifetime)
        self.registry = Registry(store or Store(), self.access, self.signer)
        self.script = Script(rules)
        self.log = Log(log_file)
        self._servers = [Server(self, "registry", port)]
        self.host = self._servers[0].host
        self.registry.url = "http://" + self.host
        self.storage_host = ""
        if storage:
            self._servers.append(Server(self, "storage", storage_port))
            self.storage_host = self._servers[1].host
            self.registry.storage_url = "http://" + self.storage_host

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.stop()

    def stop(self):
        for server in self._servers:
            server.stop()

    def fault(self, kind, *, match=None, skip=0, times=None, **details):
        """Adds a rule: `match` has method, path and server; `details` are the fault's."""
        rule = Rule({"kind": kind, **details}, **(match or {}), skip=skip, times=times)
        return self.script.add(rule)

    def heal(self):
        """Takes all rules away."""
        self.script.clear()

    def requests(self, method=".*", path="", server=""):
        return self.log.entries(method, path, server)


def main():
    parser = argparse.ArgumentParser(description="A registry that misbehaves on a script.")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--directory", help="keep images there, not only in memory")
    parser.add_argument("--auth", choices=("none", "basic", "bearer"), default="none")
    parser.add_argument("--user-file", type=argparse.FileType(), help="has USER:PASSWORD")
    parser.add_argument("--token-lifetime", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--storage", action="store_true", help="redirect to a storage host")
    parser.add_argument("--storage-port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--location-lifetime", type=int, default=300, metavar="SECONDS")
    parser.add_argument("--script", type=argparse.FileType(), help="rules, a JSON list")
    parser.add_argument("--log", help="write each request there, a line of JSON")
    options = parser.parse_args()
    login = options.user_file.read().strip() if options.user_file else ""
    user, _, password = login.partition(":")
    rules = [Rule.from_json(rule) for rule in json.load(options.script)] if options.script else []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with FaultRegistry(Store(options.directory), port=options.port, auth=options.auth, user=user,
                       password=password, token_lifetime=options.token_lifetime,
                       storage=options.storage, storage_port=options.storage_port,
                       location_lifetime=options.location_lifetime, rules=rules,
                       log_file=options.log) as registry:
        print(json.dumps({"registry": registry.host, "storage": registry.storage_host}),
              flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
