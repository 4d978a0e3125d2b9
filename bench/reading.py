"""How fast a file of a mounted image is read once it was fetched, against the same file natively.

The image comes from a docker-registry. What is read is read natively too, from a file on the file
system of the cache, in turns.
"""
import ctypes
import mmap
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile

from registry import Registry, wait_until

RUNS = int(os.environ.get("BENCH_RUNS", "7"))
SIZE = 1 << 30
BLOCK = 1 << 20
WAYS = {"sequential": "1 MiB at a time", "random": "4 KiB at random places", "map": "all pages of a mapping"}
LIBRARY = 8 << 20  # of a file that two images have


def write_random(path, size, seed):
    source = random.Random(seed)
    with open(path, "wb") as file:
        for _ in range(size // BLOCK):
            file.write(source.randbytes(BLOCK))


class Mounts:
    """Mounts with one cache, as a context."""

    def __init__(self, puzzlefs, scratch):
        self.puzzlefs = puzzlefs
        self.scratch = scratch
        self.cache = os.path.join(scratch, "cache")
        self.points = []

    def __enter__(self):
        return self

    def add(self, image):
        """The mount point and the process that serves it."""
        point = os.path.join(self.scratch, f"mnt{len(self.points)}")
        os.mkdir(point)
        process = subprocess.Popen([self.puzzlefs, "mount", "--foreground", "--cache-dir", self.cache,
                                    image, point])
        self.points.append((point, process))
        wait_until(lambda: os.path.ismount(point), f"the mount of {image}")
        return point, process.pid

    def __exit__(self, *_):
        for point, process in self.points:
            process.send_signal(signal.SIGTERM)
            process.wait()
            os.rmdir(point)


def whole_files(cache, size):
    """Paths of the cache's whole files of that size."""
    return [os.path.join(folder, name)
            for folder, _, names in os.walk(os.path.join(cache, "files")) for name in names
            if os.path.getsize(os.path.join(folder, name)) == size]


def read_whole(path):
    with open(path, "rb") as file:
        while file.read(BLOCK):
            pass


def measure(reader, way, path):
    """MiB per second."""
    return float(subprocess.run([reader, way, path], check=True, capture_output=True, text=True).stdout)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="utf-8") as file:
        file.write("1")


def memory_of(pid):
    """Resident, in MiB."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmRSS"].split()[0]) / 1024


def resident(path):
    """How much of a file is in the page cache that its readers share, by mincore(2), in MiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapping:
        pages = (len(mapping) + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        flags = (ctypes.c_ubyte * pages)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(mapping)), flags) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(flag & 1 for flag in flags) * mmap.PAGESIZE / 2**20


def make_images(puzzlefs, scratch, host):
    """Two images: both have a library, the first one a large file too."""
    for name in ("large", "other"):
        tree = os.path.join(scratch, name)
        os.mkdir(tree)
        write_random(os.path.join(tree, "library"), LIBRARY, "library")
        if name == "large":
            write_random(os.path.join(tree, "data"), SIZE, "data")
        layout = os.path.join(scratch, "layout")
        subprocess.run([puzzlefs, "build", tree, f"{layout}:{name}"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(tree)
        subprocess.run([puzzlefs, "push", "--layout", "keep", f"{layout}:{name}",
                        f"{host}/{name}"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(layout)


def recipes(cache):
    """How many files of images have a whole file in the cache, which some of them may share."""
    return sum(len(names) for _, _, names in os.walk(os.path.join(cache, "recipes")))


def fetch_whole(mounts, path):
    """Reads a file once, and waits until it is whole in the cache. Returns its path there."""
    size = os.path.getsize(path)
    known = recipes(mounts.cache)
    read_whole(path)
    wait_until(lambda: recipes(mounts.cache) > known, f"the whole file of {path}")
    return whole_files(mounts.cache, size)[0]


def rows_of(reader, mounted, native, cold):
    rows = []
    for way, title in WAYS.items():
        speeds = {mounted: [], native: []}
        for _ in range(RUNS):
            for path, values in speeds.items():
                if cold:
                    drop_caches()
                values.append(measure(reader, way, path))
        ours, theirs = (statistics.median(values) for values in speeds.values())
        rows.append(f"| {title}, {'from the disk' if cold else 'in memory'} "
                    f"| {ours:.0f} MiB/s | {theirs:.0f} MiB/s | {ours / theirs:.2f} |")
    return rows


def section(puzzlefs, reader):
    """The medians, as a part of a Markdown page. Needs root, docker-registry and /dev/fuse."""
    puzzlefs, reader = map(os.path.abspath, (puzzlefs, reader))
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as memory, \
            tempfile.TemporaryDirectory(dir="build", prefix="bench.") as disk, \
            Registry(memory) as registry, Mounts(puzzlefs, os.path.abspath(disk)) as mounts:
        make_images(puzzlefs, memory, registry.host)
        point, pid = mounts.add(f"{registry.host}/large")
        mounted = os.path.join(point, "data")
        whole = fetch_whole(mounts, mounted)
        before = memory_of(pid)
        native = os.path.join(disk, "native")
        shutil.copyfile(whole, native)
        rows = []
        for cold in (False, True):
            # How a file came into memory matters to whoever maps it: both from the disk.
            drop_caches()
            for path in (mounted, native):
                read_whole(path)
            rows += rows_of(reader, mounted, native, cold)
        after = memory_of(pid)

        fetch_whole(mounts, os.path.join(point, "library"))
        second, _ = mounts.add(f"{registry.host}/other")
        fetch_whole(mounts, os.path.join(second, "library"))
        drop_caches()
        shared = [resident(os.path.join(second, "library"))]
        read_whole(os.path.join(point, "library"))
        shared.append(resident(os.path.join(second, "library")))
    return f"""## Reading a fetched file

A file of {SIZE >> 20} MiB of an image in docker-registry, read once through the mount, then by the kernel from the
cache, against a copy of it beside the cache, {RUNS} runs each in turns. A ratio of 1 is native speed.

| | mounted | natively | ratio |
|---|---|---|---|
""" + "\n".join(rows) + f"""

The mount's process had {before:.0f} MiB resident before that, {after:.0f} MiB after. Of a library of
{LIBRARY >> 20} MiB that two mounted images have, {shared[0]:.1f} MiB were in the page cache as the second mount sees it
before it was read through the first, {shared[1]:.1f} MiB afterwards.
"""
