#!/usr/bin/env python3
"""A soak test: many processes read images that share one small cache, while daemons are killed and
the registry is restarted, and compare every byte with the trees that the images were built from.

It fails on a wrong byte, on an error that no fault of its own explains, on a cache that outgrows its
limit, on damage found in the cache, on daemons left over, and on readers that hang. `soak.py --help`
lists the options; PUZZLEFS is the command (build/release/bin/puzzlefs). Needs root."""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from soak_images import make_trees
from soak_reader import GRACE, PUZZLEFS, Reader
from soak_watch import Watch, disk_of, serving

SHORT_OUTAGE = 1.5
LONG_OUTAGE = 14  # past the policy: reads may fail then
UNCOUNTED = 3 * 257 * 4096 + (256 << 10)  # the directories of blobs, files and recipes, and the index


class Shared:
    """What the processes tell one another. A slot is a mount point; it is used under a shared lock
    of its file and mounted anew under an exclusive one. The killer asks nobody."""

    def __init__(self, slots, processes):
        self.stop = multiprocessing.Event()
        self.image = multiprocessing.Array("i", [-1] * slots)
        self.pid = multiprocessing.Array("i", slots)
        self.killed = multiprocessing.Array("i", slots)
        self.outages = multiprocessing.Array("d", 2 * 4096)  # start, end; in pairs
        self.outage_count = multiprocessing.Value("i", 0)
        self.counts = {
            name: multiprocessing.Array("q", processes)
            for name in ("reads", "bytes", "mounts", "maps", "explained")
        }
        self.failures = multiprocessing.SimpleQueue()

    def total(self, name):
        return sum(self.counts[name])

    def outage_between(self, start, end, at_least=0.0):
        """Whether the registry was down at some time of these, in an outage so long."""
        for i in range(self.outage_count.value):
            down, up = self.outages[2 * i], self.outages[2 * i + 1] or time.monotonic()
            if down <= end and up >= start and up - down >= at_least:
                return True
        return False


class Setup:
    """Where everything is, and the images."""

    def __init__(self, work, options):
        self.work = Path(work)
        self.seed, self.images = options.seed, options.images
        self.slots = max(3, options.processes * 3 // 4)
        self.cache = str(self.work / "cache")
        self.registry = None
        self.address = "127.0.0.1:0"
        for slot in range(self.slots):
            os.makedirs(self.point(slot))
        self.files, total = make_trees(self.tree, self.images, options.seed, options.image_size)
        self.total = total
        self.cache_size = options.cache_size or total // 10

    def point(self, slot):
        return str(self.work / "mounts" / str(slot))

    def lock(self, slot):
        return f"{self.point(slot)}.lock"

    def tree(self, image):
        return self.work / "trees" / str(image)

    def name(self, image):
        return f"{self.address}/soak:{image}"

    def start_registry(self):
        config = self.work / "registry.yml"
        config.write_text(
            "version: 0.1\nlog: { level: info, accesslog: { disabled: true } }\n"
            f"storage: {{ filesystem: {{ rootdirectory: {self.work}/registry }} }}\n"
            f"http: {{ addr: '{self.address}' }}\n")
        log = self.work / "registry.log"
        with open(log, "wb") as output:
            self.registry = subprocess.Popen(
                ["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=output)
        deadline = time.monotonic() + 30
        while "listening on" not in (text := log.read_text()):
            if time.monotonic() > deadline or self.registry.poll() is not None:
                raise RuntimeError(f"The registry does not start: {text}")
            time.sleep(0.02)
        self.address = text.split("listening on ", 1)[1].split()[0].strip('",')

    def push(self):
        for image in range(self.images):
            layout = self.work / "layout"
            compression = ["--compression"] if image % 3 else []
            run([PUZZLEFS, "build", *compression, self.tree(image), f"{layout}:{image}"])
            keep = ["--layout", "keep"] if image % 2 else []  # the others are packed
            run([PUZZLEFS, "push", *keep, f"{layout}:{image}", self.name(image)])
        shutil.rmtree(self.work / "layout")


def run(command):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}")


class Killer:
    """Kills daemons, and restarts the registry."""

    def __init__(self, setup, shared, seconds):
        self.setup, self.shared = setup, shared
        self.random = random.Random(f"{setup.seed} killer")
        self.kills = self.outages = 0
        # One that reads may fail of, when there is the time for it.
        self.long_outages = [time.monotonic() + seconds * part for part in (0.3, 0.7)] if (
            seconds >= 120) else []

    def run_until(self, end):
        while time.monotonic() < end and self.shared.failures.empty():
            time.sleep(self.random.uniform(0.2, 1.2))
            if self.long_outages and time.monotonic() > self.long_outages[0]:
                self.long_outages.pop(0)
                self.restart_registry(LONG_OUTAGE)
            elif self.random.random() < 0.08:
                self.restart_registry(self.random.uniform(0, SHORT_OUTAGE))
            else:
                self.kill_one(self.random.randrange(self.setup.slots))

    def kill_one(self, slot):
        # Also one that is about to mount.
        for pid in serving(self.setup.point(slot)):
            self.shared.killed[slot] = 1  # before it can be noticed
            try:
                os.kill(pid, signal.SIGKILL)
                self.kills += 1
            except ProcessLookupError:
                pass

    def restart_registry(self, seconds):
        number = self.shared.outage_count.value
        self.shared.outages[2 * number] = time.monotonic()
        self.shared.outage_count.value = number + 1
        self.outages += 1
        self.setup.registry.send_signal(self.random.choice((signal.SIGKILL, signal.SIGTERM)))
        self.setup.registry.wait()
        time.sleep(seconds)
        self.setup.start_registry()
        self.shared.outages[2 * number + 1] = time.monotonic()


def soak(setup, options, failures):
    shared = Shared(setup.slots, options.processes)
    processes = [multiprocessing.Process(target=Reader(number, setup, shared).run)
                 for number in range(options.processes)]
    begin = time.monotonic()
    watch = Watch(setup.cache, lambda: [pid for pid in shared.pid if pid], begin, options.seconds)
    killer = Killer(setup, shared, options.seconds)
    for process in processes:
        process.start()
    watcher = threading.Thread(target=watch.run)
    watcher.start()
    try:
        killer.run_until(begin + options.seconds)
    finally:
        shared.stop.set()
        deadline = time.monotonic() + GRACE
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                failures.append(f"the reader {process.pid} hangs")
                process.kill()
            elif process.exitcode != 0:
                failures.append(f"a reader ended with {process.exitcode}")
        watch.stop.set()
        watcher.join()
    while not shared.failures.empty():
        failures.append(shared.failures.get())
    unmount_all(setup, shared, failures)
    check_cache(setup, watch, failures)
    print(f"{time.monotonic() - begin:.0f} s: {shared.total('reads')} reads "
          f"({shared.total('maps')} mapped), {shared.total('bytes') >> 20} MiB compared, "
          f"{shared.total('mounts')} mounts, {killer.kills} daemons killed, {killer.outages} outages "
          f"of the registry, {shared.total('explained')} errors explained by them")
    print(f"cache: limit {setup.cache_size} bytes, {watch.samples} samples, {watch.describe()}")


def unmount_all(setup, shared, failures):
    for slot in range(setup.slots):
        point, killed = setup.point(slot), shared.killed[slot]
        if os.path.ismount(point) if not killed else True:
            command = ["umount", "-l", point] if killed else [PUZZLEFS, "umount", point]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0 and not killed:
                failures.append(f"umount of {point} at the end: {done.stderr}")
    deadline = time.monotonic() + GRACE
    while left := serving(f"{setup.work}/"):
        if time.monotonic() > deadline:
            failures.append(f"daemons are left over: {left}")
            break
        time.sleep(0.1)


def check_cache(setup, watch, failures):
    allowed = setup.cache_size * 105 // 100 + UNCOUNTED
    if watch.largest > allowed:
        failures.append(f"the cache took {watch.largest} bytes of disk; allowed are {allowed}")
    if watch.largest < setup.cache_size // 2:
        failures.append(f"the cache was hardly used: {watch.largest} bytes")
    done = subprocess.run([PUZZLEFS, "cache", "verify", "--cache-dir", setup.cache],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        failures.append(f"cache verify: {done.stdout}")
    # To kill programs damages nothing.
    damaged = os.listdir(f"{setup.cache}/quarantine")
    if damaged:
        failures.append(f"in quarantine: {damaged}")
    print(f"at the end: {disk_of(setup.cache)[0]} bytes of cache; verify: {done.stdout.strip()}")


def clean_up(setup):
    """Whatever happened: nothing stays mounted, nothing goes on running."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = line.split()[1]
        if point.startswith(f"{setup.work}/"):
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL, check=False)
    deadline = time.monotonic() + 10
    while left := serving(f"{setup.work}/"):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.1)
    if setup.registry and setup.registry.poll() is None:
        setup.registry.kill()
        setup.registry.wait()


def main():
    parser = argparse.ArgumentParser(description="Reads images under faults, and compares.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=24, help="MiB each, about")
    parser.add_argument("--cache-size", type=int, help="bytes; a tenth of all images")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--keep", action="store_true", help="keep the directory if it fails")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("docker-registry"):
        print("Skipped: needs root and docker-registry.", file=sys.stderr)
        sys.exit(77)
    print(f"seed {options.seed}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))

    failures = []
    work = tempfile.mkdtemp(prefix="puzzlefs-soak.")
    setup = None
    try:
        setup = Setup(work, options)
        setup.start_registry()
        setup.push()
        print(f"{options.images} images, {setup.total} bytes, are pushed", flush=True)
        soak(setup, options, failures)
    finally:
        if setup:
            clean_up(setup)
        if not (failures and options.keep):
            shutil.rmtree(work, ignore_errors=True)
    for failure in failures[:20]:
        print(f"FAILED: {failure}", file=sys.stderr)
    if failures:
        kept = f"; {work} is kept" if options.keep else ""
        sys.exit(f"{len(failures)} failures with --seed {options.seed}{kept}")


if __name__ == "__main__":
    main()
