"""Who can make an image of a tree and mount it: puzzlefs, and what else is installed. The Rust
puzzlefs is a peer where $PUZZLEFS_RUST names it.
"""
import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from registry import is_argument, pids_with, wait_until
from timing import QUIET, run

PACKED, CHUNKED, RUST, SQUASHFUSE, EROFS, NATIVE = (
    "puzzlefs, packed", "puzzlefs, chunked", "Rust puzzlefs", "squashfuse_ll", "EROFS of the kernel",
    "ext4: natively")
FOREGROUND = "-f"


class Peer(NamedTuple):
    build: list  # command line, with {tree} and {image}
    mount: list  # command line, with {image} and {point}


def peers(puzzlefs):
    """Name → peer, of those that this machine has."""
    squashfs = ["mksquashfs", "{tree}", "{image}", "-quiet", "-no-progress", "-comp", "zstd",
                "-Xcompression-level", "3"]
    loop = ["mount", "-o", "ro,loop", "{image}", "{point}", "-t"]
    mount = [puzzlefs, "mount", "{image}:bench", "{point}"]
    build = [puzzlefs, "build", "{tree}", "{image}:bench", "--layout"]
    everything = {
        PACKED: Peer([*build, "packed"], mount),
        CHUNKED: Peer([*build, "chunked"], mount),
        # In the foreground: otherwise it wants a syslog.
        RUST: Peer([rust(), "build", "{tree}", "{image}:bench"],
                   [rust(), "mount", FOREGROUND, "{image}:bench", "{point}"]),
        SQUASHFUSE: Peer(squashfs, ["squashfuse_ll", "{image}", "{point}"]),
        "squashfs of the kernel": Peer(squashfs, [*loop, "squashfs"]),
        EROFS: Peer(["mkfs.erofs", "-d0", "{image}", "{tree}"], [*loop, "erofs"]),
        # Sparse, and with an inode for each block.
        NATIVE: Peer(["mke2fs", "-q", "-t", "ext4", "-i", "4096", "-d", "{tree}", "{image}", "8G"],
                     [*loop, "ext4"]),
    }
    return {name: peer for name, peer in everything.items() if usable(name, peer)}


def rust():
    return os.environ.get("PUZZLEFS_RUST") or "no-rust-puzzlefs"


def usable(name, peer):
    missing = [command for command in (peer.build[0], peer.mount[0]) if not shutil.which(command)]
    if peer.mount[0] == "mount":
        with open("/proc/filesystems", encoding="utf-8") as file:
            missing += {peer.mount[-1]} - {line.split()[-1] for line in file}
    if missing:
        print(f"Without {name}: there is no {' and no '.join(missing)} here.", file=sys.stderr)
    return not missing


def filled_in(command, **places):
    return [part.format(**places) for part in command]


def build_all(contestants, tree, folder):
    """Name → image of the tree. Who takes the same command for it shares one."""
    images, made = {}, {}
    for name, peer in contestants.items():
        key = tuple(peer.build)
        if key not in made:
            made[key] = os.path.join(folder, f"image-{len(made)}")
            run(*filled_in(peer.build, tree=tree, image=made[key]))
        images[name] = made[key]
    return images


class Mounted:
    """An image that is mounted, as a context. "seconds" is how long it took from the start of the
    command until a name of the image, the probe, could be looked up."""

    def __init__(self, peer, image, point, probe):
        self.command = filled_in(peer.mount, image=image, point=point)
        self.point = point
        self.probe = os.path.join(point, probe)
        self.seconds = None
        self.process = None

    def __enter__(self):
        os.makedirs(self.point, exist_ok=True)
        start = time.monotonic()
        self.process = subprocess.Popen(self.command, close_fds=False, **QUIET)
        try:
            while not os.path.lexists(self.probe):
                if self.process.poll():
                    raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.returncode}")
                if time.monotonic() - start > 60:
                    raise TimeoutError(f"{' '.join(self.command)}: there is no {self.probe}")
                time.sleep(0.0001)
            self.seconds = time.monotonic() - start
            if FOREGROUND not in self.command:
                self.process.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.point], check=False, **QUIET)
        if os.path.ismount(self.point):
            subprocess.run(["umount", "--lazy", self.point], check=False, **QUIET)
        if self.process.poll() is None and not self.seconds:
            self.process.kill()  # it has mounted nothing
        self.process.wait()
        wait_until(lambda: not is_argument(self.point), "the end of the mount")

    def memory(self):
        """What is resident of its processes in MiB: name of /proc/PID/status → sum. Empty if the kernel serves it."""
        sums = {}
        for pid in pids_with(self.point):
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name in ("VmRSS", "RssAnon", "RssFile", "RssShmem"):
                        sums[name] = sums.get(name, 0) + int(value.split()[0]) / 1024
        return sums
