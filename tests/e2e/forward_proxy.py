#!/usr/bin/env python3
"""forward_proxy.py [--password-file FILE] [--log FILE] NAME:PORT=HOST:PORT…: an HTTP proxy.

It tunnels (CONNECT) and forwards to the names given, which nobody else need know, and to nothing
else. With a file that holds USER:PASSWORD it wants these. It prints its own HOST:PORT, and logs
"METHOD TARGET STATUS" of each request.
"""
import argparse
import base64
import selectors
import socket
import socketserver
import urllib.parse


def relay(one, other):
    """Passes on what each says to the other, until one of them has ended."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(1 << 16)
                if not data:
                    return
                key.data.sendall(data)


class Handler(socketserver.StreamRequestHandler):
    """One connection, which is good for one request."""
    rbufsize = 0  # what follows the headers is the server's

    def handle(self):
        try:
            self._handle()
        except ConnectionError:
            pass

    def _handle(self):
        method, target, _ = self.rfile.readline().decode("latin-1").split()
        headers = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            headers.append(line)
        status, upstream = self._connect(method, target, headers)
        if self.server.log:
            print(method, target, status, file=self.server.log, flush=True)
        if not upstream:
            challenge = 'Proxy-Authenticate: Basic realm="proxy"\r\n' if status == 407 else ""
            self.wfile.write(f"HTTP/1.1 {status} No\r\n{challenge}Content-Length: 0\r\n"
                             "Connection: close\r\n\r\n".encode())
            return
        with upstream:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                upstream.sendall(self._forwarded(method, target, headers))
            relay(self.connection, upstream)

    def _connect(self, method, target, headers):
        wanted = self.server.authorization
        if wanted and not any(line.strip().lower().startswith(b"proxy-authorization:")
                              and line.split()[-1] == wanted for line in headers):
            return 407, None
        name = target if method == "CONNECT" else urllib.parse.urlsplit(target).netloc
        if name not in self.server.names:
            return 502, None
        return 200, socket.create_connection(self.server.names[name])

    @staticmethod
    def _forwarded(method, target, headers):
        url = urllib.parse.urlsplit(target)
        path = urllib.parse.urlunsplit(("", "", url.path, url.query, ""))
        kept = [line for line in headers
                if not line.lower().startswith((b"proxy-", b"connection:"))]
        head = f"{method} {path} HTTP/1.1\r\nConnection: close\r\n".encode()
        return head + b"".join(kept) + b"\r\n"


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


def parse_address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--password-file", type=argparse.FileType("rb"))
    parser.add_argument("--log", type=argparse.FileType("a"))
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    with Server(("127.0.0.1", 0), Handler) as server:
        server.names = {name: parse_address(address)
                        for name, _, address in (text.partition("=") for text in options.names)}
        server.log = options.log
        server.authorization = options.password_file and base64.b64encode(
            options.password_file.read().strip())
        print("127.0.0.1:%d" % server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
