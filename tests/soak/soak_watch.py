"""What the soak test sees of processes and of the cache from outside."""

import os
import threading
import time
from pathlib import Path


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def serving(point):
    """The processes that serve, or are about to, this mount point or, with a slash at its end, all
    below it."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            command = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if len(command) < 4 or command[1] != b"mount" or not command[0].endswith(b"puzzlefs"):
            continue
        last = command[-2].decode()
        if last == point or (point.endswith("/") and last.startswith(point)):
            found.append(int(entry))
    return found


def disk_of(directory):
    """The bytes of disk of all in it, and how many temporary files are among them."""
    total = temporary = 0
    for place, _, names in os.walk(directory):
        for name in [".", *names]:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:
                continue
            temporary += name.startswith(".tmp")
    return total, temporary


def rss_of(pid):
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


class Watch:
    """Samples until `stop`: the cache's size, temporary files, and what the daemons take of memory in
    the first and in the last fifth of the time."""

    def __init__(self, cache, pids, begin, seconds):
        self.cache, self.pids = cache, pids
        self.early, self.late = begin + seconds / 5, begin + seconds * 4 / 5
        self.stop = threading.Event()
        self.samples = self.largest = self.temporary = 0
        self.rss_early = self.rss_late = 0

    def run(self):
        while not self.stop.wait(0.2):
            size, temporary = disk_of(self.cache)
            self.samples += 1
            self.largest = max(self.largest, size)
            self.temporary = max(self.temporary, temporary)
            rss = max((rss_of(pid) for pid in self.pids()), default=0)
            if time.monotonic() < self.early:
                self.rss_early = max(self.rss_early, rss)
            elif time.monotonic() > self.late:
                self.rss_late = max(self.rss_late, rss)

    def describe(self):
        return (f"at most {self.largest} bytes of disk and {self.temporary} temporary files; "
                f"a daemon took at most {self.rss_early >> 20} MiB of memory in the first fifth of "
                f"the time, {self.rss_late >> 20} in the last")
