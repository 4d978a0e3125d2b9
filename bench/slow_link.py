#!/usr/bin/env python3
"""A slow link between two network namespaces: packets arrive after a delay, at a rate.

In user space, between two tun devices, as not every kernel has netem. SlowLink is what benchmarks
use; as a program, slow_link.py FAR NEAR DELAY_MS MBIT carries packets between the namespaces that
have these names.
"""
import collections
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

FAR_ADDRESS = "10.98.0.1"
NEAR_ADDRESS = "10.98.0.2"
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x1, 0x1000
PACKET = 2048  # bytes, more than any has
QUEUE = 4096  # packets, then the sender waits


# --- The program --------------------------------------------------------------------------------

def enter(descriptor):
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def open_tun(namespace):
    """The end of a new device "tun0" in a namespace."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    enter(other)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    enter(own)
    os.close(other)
    os.close(own)
    return tun


class Direction:
    """Packets that go one way."""

    def __init__(self, source, target, delay, rate):
        self.source = source
        self.target = target
        self.delay = delay
        self.rate = rate
        self.free_at = 0.0  # when the last packet has left the sender
        self.queue = collections.deque()  # when it arrives, and the packet

    def take(self):
        while len(self.queue) < QUEUE:
            try:
                packet = os.read(self.source, PACKET)
            except OSError:  # nothing is there, or the device is not up yet
                return
            self.free_at = max(self.free_at, time.monotonic()) + len(packet) / self.rate
            self.queue.append((self.free_at + self.delay, packet))

    def give(self):
        """Delivers what has arrived. Returns when the next packet does, if there is one."""
        while self.queue and self.queue[0][0] <= time.monotonic():
            try:
                os.write(self.target, self.queue.popleft()[1])
            except OSError:  # nobody is there, or takes more: it is lost
                pass
        return self.queue[0][0] if self.queue else None


def carry(far, near, delay, rate):
    """Until the standard input ends, as it does when the one who started this does."""
    directions = [Direction(far, near, delay, rate), Direction(near, far, delay, rate)]
    while True:
        for direction in directions:
            direction.take()
        due = [when for direction in directions if (when := direction.give()) is not None]
        readable = [direction.source for direction in directions if len(direction.queue) < QUEUE]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        if sys.stdin in select.select([sys.stdin, *readable], [], [], wait)[0]:
            return


def main():
    far, near, delay, mbit = sys.argv[1:5]
    ends = open_tun(far), open_tun(near)
    os.nice(-20)  # a link does not wait for programs
    print("ready", flush=True)
    carry(*ends, float(delay) / 1e3, float(mbit) * 1e6 / 8)


# --- For benchmarks -----------------------------------------------------------------------------

def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class SlowLink:
    """The link as a context. What is run by the command "far" or "near" is at that end of it."""

    def __init__(self, delay_ms, mbit):
        self.settings = [str(delay_ms), str(mbit)]
        self.names = [f"puzzlefs-bench-{os.getpid()}-{end}" for end in ("far", "near")]
        # Only the network is another: mounts that are made there are seen here.
        self.far, self.near = (["nsenter", f"--net=/run/netns/{name}"] for name in self.names)
        self.process = None

    def __enter__(self):
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self):
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for end in (self.far, self.near):
            # Each connection is to know as little of the link as the first one does.
            subprocess.run([*end, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save"], check=True)
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), *self.names, *self.settings],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("the slow link does not work: it needs root and /dev/net/tun")
        for name, own, peer in zip(self.names, (FAR_ADDRESS, NEAR_ADDRESS), (NEAR_ADDRESS, FAR_ADDRESS)):
            ip("-n", name, "addr", "add", own, "peer", peer, "dev", "tun0")
            ip("-n", name, "link", "set", "tun0", "up", "txqueuelen", "1000")

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.wait()
        for name in self.names:
            if os.path.exists(f"/run/netns/{name}"):
                ip("netns", "del", name)


if __name__ == "__main__":
    main()
