"""What benchmarks with a registry share: docker-registry and what it was asked, a proxy that counts what
is sent to it, and waiting."""
import asyncio
import os
import re
import subprocess
import threading
import time
from typing import NamedTuple

DEADLINE = 300  # seconds, for anything
LINE = re.compile(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" (\d+) (\d+) "[^"]*" "([^"]*)"$')


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.05)


def read_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def pids_with(word):
    """The processes that have this on their command line."""
    found = []
    for folder in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{folder}/cmdline", "rb") as file:
                if word.encode() in file.read().split(b"\0"):
                    found.append(int(folder))
        except OSError:  # it has ended meanwhile
            pass
    return found


def is_argument(word):
    """Whether there is a process with this on its command line."""
    return bool(pids_with(word))


class Request(NamedTuple):
    method: str
    path: str
    status: int
    size: int  # of the answer's body


class Registry:
    """A docker-registry with its storage in a directory, as a context. It listens at a free port of
    the address, and is run by the command that "within" is, if any: in a network namespace."""

    def __init__(self, scratch, address="127.0.0.1", within=()):
        self.scratch = scratch
        self.address = address
        self.within = list(within)
        self.log = os.path.join(scratch, "access.log")
        self.asked = 0
        self.process = None
        self.host = None

    def __enter__(self):
        settings = os.path.join(self.scratch, "registry.yml")
        errors = os.path.join(self.scratch, "registry.log")
        with open(settings, "w", encoding="utf-8") as file:
            file.write(f"""version: 0.1
log: {{ level: info, accesslog: {{ disabled: false }} }}
storage: {{ filesystem: {{ rootdirectory: {self.scratch}/registry }} }}
http: {{ addr: "{self.address}:0" }}
""")
        with open(self.log, "wb") as out, open(errors, "wb") as err:
            self.process = subprocess.Popen([*self.within, "docker-registry", "serve", settings],
                                            stdout=out, stderr=err)
        wait_until(lambda: "listening on " in read_text(errors), "the registry")
        self.host = re.search(r"listening on ([0-9.:]*)", read_text(errors))[1]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def _lines(self):
        """All that was logged until now. An answer is logged after it was sent: ask, and await that line."""
        self.asked += 1
        agent = f"settle-{self.asked}"
        subprocess.run([*self.within, "curl", "-sS", "-o", "/dev/null", "-A", agent, f"http://{self.host}/v2/"],
                       check=True)
        wait_until(lambda: f'"{agent}"' in read_text(self.log), "the registry's log")
        return read_text(self.log).splitlines()

    def mark(self):
        """A position, for since()."""
        return len(self._lines())

    def since(self, mark):
        """The requests that were answered since then."""
        found = filter(None, map(LINE.search, self._lines()[mark:]))
        return [Request(method, path, int(status), int(size))
                for method, path, status, size, agent in (match.groups() for match in found)
                if not agent.startswith("settle-")]


class CountingProxy:
    """Passes connections on to a host and port and counts what clients send, as a context."""

    def __init__(self, host):
        self.target = host.rsplit(":", 1)
        self.sent = 0
        self.host = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        self.thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self.loop).result()
        self.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def _serve(self, reader, writer):
        up_reader, up_writer = await asyncio.open_connection(*self.target)
        await asyncio.gather(self._pass(reader, up_writer, True), self._pass(up_reader, writer, False),
                             return_exceptions=True)

    async def _pass(self, reader, writer, count):
        try:
            while block := await reader.read(1 << 18):
                self.sent += len(block) if count else 0
                writer.write(block)
                await writer.drain()
        finally:
            writer.close()
