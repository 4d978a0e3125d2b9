"""What one process of the soak test does: it mounts, reads and compares."""

import errno
import fcntl
import mmap
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from soak_watch import is_alive, serving

POLICY = 8  # seconds that a read waits for the registry
GRACE = 90  # seconds that readers and daemons have to end
BROKEN = {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE, errno.EINTR, errno.ENXIO}
PROJECT = Path(__file__).resolve().parents[2]
PUZZLEFS = os.environ.get("PUZZLEFS") or str(PROJECT / "build/release/bin/puzzlefs")


class Reader:
    """One process that mounts, reads and compares."""

    def __init__(self, number, setup, shared):
        self.number, self.setup, self.shared = number, setup, shared
        self.random = random.Random(f"{setup.seed} reader {number}")

    def count(self, name, by=1):
        self.shared.counts[name][self.number] += by

    def fail(self, what):
        self.shared.failures.put(what)

    def run(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while not self.shared.stop.is_set():
            slot = self.random.randrange(self.setup.slots)
            with open(self.setup.lock(slot), "wb") as lock:
                self.visit(slot, lock)

    def visit(self, slot, lock):
        fcntl.flock(lock, fcntl.LOCK_SH)
        usable = self.shared.pid[slot] and not self.shared.killed[slot]
        if usable and self.random.random() > 0.05:
            return self.read_some(slot)
        try:
            fcntl.flock(lock, fcntl.LOCK_UN)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None  # somebody reads there or mounts it
        self.unmount(slot)
        return self.mount(slot)

    # --- Mounts -----------------------------------------------------------------------------------

    def unmount(self, slot):
        pid, point = self.shared.pid[slot], self.setup.point(slot)
        self.shared.pid[slot] = 0
        if not pid:
            return
        done = subprocess.run(
            [PUZZLEFS, "umount", point], stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode != 0:
            if not self.shared.killed[slot]:
                self.fail(f"umount of {point}: {done.stderr}")
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL, check=False)
        deadline = time.monotonic() + GRACE
        while is_alive(pid):
            if time.monotonic() > deadline:
                return self.fail(f"the daemon {pid} of {point} does not end")
            time.sleep(0.01)
        return None

    def mount(self, slot):
        shared, point = self.shared, self.setup.point(slot)
        image = self.random.randrange(self.setup.images)
        if self.random.random() < 0.3:  # one that is mounted elsewhere
            image = max(0, shared.image[self.random.randrange(self.setup.slots)])
        shared.killed[slot] = 0
        shared.image[slot] = image
        start = time.monotonic()
        done = subprocess.run(
            [PUZZLEFS, "mount", "--cache-dir", self.setup.cache,
             "--cache-size", str(self.setup.cache_size), "--on-outage", f"fail:{POLICY}",
             "--log-file", f"{point}.log", self.setup.name(image), point],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        found = serving(point)
        if done.returncode == 0 and len(found) == 1:
            self.count("mounts")
            shared.pid[slot] = found[0]
        elif shared.killed[slot] or shared.outage_between(start, time.monotonic()):
            self.count("explained")
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL, check=False)
        else:
            self.fail(f"mount {self.setup.name(image)} ended with {done.returncode}, "
                      f"served by {found}: {done.stderr}")

    # --- Reading ----------------------------------------------------------------------------------

    def read_some(self, slot):
        image = self.shared.image[slot]
        for _ in range(self.random.randrange(1, 20)):
            path, size = self.random.choice(self.setup.files[image])
            start = time.monotonic()
            try:
                self.read_one(Path(self.setup.point(slot)) / path, self.setup.tree(image) / path,
                              size)
                self.count("reads")
            except OSError as error:
                now = time.monotonic()
                if error.errno in BROKEN and (
                    self.shared.killed[slot] or self.shared.outage_between(start, now, POLICY)
                ):
                    self.count("explained")
                    return
                self.fail(f"{error} after {now - start:.1f} s: {path} of image {image} at "
                          f"{self.setup.point(slot)}, daemon {self.shared.pid[slot]}")
                return
            if self.shared.stop.is_set():
                return

    def read_one(self, path, source, size):
        way = self.random.choice(("whole", "whole", "pieces", "pieces", "map", "list"))
        with open(source, "rb") as right:
            if way == "list":
                self.compare(sorted(os.listdir(path.parent)), sorted(os.listdir(source.parent)),
                             path, "entries")
                self.compare(path.stat().st_size, size, path, "size")
            elif way == "map":
                self.map(path, right.read())
                self.count("maps")
                self.count("bytes", size)
            else:
                self.read(path, right, size, way)

    def read(self, path, right, size, way):
        with open(path, "rb", buffering=0) as file:
            if self.random.random() < 0.5:  # or it may come from the kernel's memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            pieces = [(0, size + 1)]
            if way == "pieces":
                pieces = [(self.random.randrange(size + 1), 4096) for _ in range(16)]
            for offset, length in pieces:
                got = read_at(file.fileno(), offset, length)
                self.compare(got, read_at(right.fileno(), offset, length), path, f"at {offset}")
                self.count("bytes", len(got))

    def map(self, path, right):
        """In a process of its own: where a page cannot be read, a mapping ends it by SIGBUS."""
        child = os.fork()
        if child == 0:
            os._exit(compare_mapped(path, right))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            code = errno.EIO if number == signal.SIGBUS else errno.EFAULT
            raise OSError(code, f"A mapping ended by signal {number}")
        if os.WEXITSTATUS(status) > 1:
            raise OSError(os.WEXITSTATUS(status), "Cannot map a file")
        self.compare(os.WEXITSTATUS(status), 0, path, "mapped")

    def compare(self, got, right, path, what):
        if got == right:
            return
        where = next((i for i, (a, b) in enumerate(zip(got, right)) if a != b), "the end") if (
            isinstance(got, bytes)) else ""
        self.fail(f"WRONG: {path} {what} differs at {where}")


def read_at(file, offset, length):
    parts = []
    while length > 0:
        part = os.pread(file, length, offset)
        if not part:
            break
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def compare_mapped(path, right):
    """0 for the right bytes, 1 for wrong ones, else an error's number."""
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    try:
        with open(path, "rb") as file:
            if not right:
                return int(os.fstat(file.fileno()).st_size != 0)
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                return int(mapped[:] != right)
    except OSError as error:
        return error.errno
    except BaseException:  # pylint: disable=broad-except  # nothing may get past the fork
        return errno.EFAULT
