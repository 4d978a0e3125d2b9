#!/usr/bin/env python3
"""local_reading.py BIN [MIB]: how fast files of a mounted image in a local layout are read, which no
passthrough makes fast, against the same files in other images. BIN has puzzlefs, read_file and walk_tree.

Images are in memory. First is right after the mount: who serves it must find, check and unpack what is
asked for. Again is once more, when the kernel may have kept it.
"""
import os
import random
import statistics
import subprocess
import tempfile
import time

import peers
import plot
import trees
from timing import RUNS, Goal, goals_table, in_turns, medians, program, span

MIB = 256  # of the large file
BLOCK = 1 << 20
SMALL_FILES, SMALL = 5_000, 16384  # how many, and bytes of the largest
READERS = 4
SEQUENTIAL, RANDOM, MAP, FILES = "large file", "4 KiB of it at random", "mapping of it", "small files"
IN_PARALLEL = f"{FILES}, {READERS} readers"
COMPRESSED = f"{peers.CHUNKED}, compressed"
WARM = 0.9  # of native

LIMITS = """Again, the kernel answers from its page cache. It has squashfs and FUSE in single pages, ext4 and EROFS in larger folios.
At random, first: what a read leaves over of an unpacked chunk goes to the page cache, as squashfs of the kernel does it.
"""


def write_large(path, mebibytes):
    """Every other MiB can be compressed to a half."""
    with open(path, "wb") as file:
        for index in range(mebibytes):
            text = trees.contents_of(40 * index + 39, BLOCK)
            file.write(random.Random(index).randbytes(BLOCK) if index % 2 else text)


def make_tree(root, mebibytes):
    trees.make(root, SMALL_FILES, largest=SMALL)
    write_large(os.path.join(root, "large"), mebibytes)


class Reader:
    """Reads what is mounted at a point. All return MiB per second."""

    def __init__(self, binaries, point):
        self.read_file = os.path.join(binaries, "read_file")
        self.walk_tree = os.path.join(binaries, "walk_tree")
        self.point = point

    def large(self, way):
        return float(subprocess.run([self.read_file, way, os.path.join(self.point, "large")], check=True,
                                    capture_output=True).stdout)

    def small(self, readers):
        """So many at once, each with its share of the folders."""
        folders = [os.path.join(self.point, name) for name in trees.folders(SMALL_FILES)]
        start = time.monotonic()
        processes = [subprocess.Popen([self.walk_tree, "read", *folders[number::readers]], stdout=subprocess.PIPE)
                     for number in range(readers)]
        outputs = [process.communicate()[0].split() for process in processes]
        seconds = time.monotonic() - start
        return sum(int(size) for _, _, size in outputs) / BLOCK / seconds


def steps(reader):
    """A mount for each list: what is read through it, one after the other."""
    def large(way):
        return lambda: reader.large(way)

    return [
        [((SEQUENTIAL, "first"), large("sequential")), ((SEQUENTIAL, "again"), large("sequential")),
         ((RANDOM, "again"), large("random")), ((MAP, "again"), large("map"))],
        [((RANDOM, "first"), large("random"))],
        [((FILES, "first"), lambda: reader.small(1)), ((FILES, "again"), lambda: reader.small(1))],
        [((IN_PARALLEL, "first"), lambda: reader.small(READERS))],
    ]


def read_once(reader, peer, image):
    """(What, first or again) → MiB per second, and as "resident" the most MiB that its process then had."""
    speeds, resident = {}, 0
    for reads in steps(reader):
        with peers.Mounted(peer, image, reader.point, "large") as mount:
            for key, read in reads:
                speeds[key] = read()
            resident = max(resident, mount.memory().get("VmRSS", 0))
    return speeds | {"resident": resident}


def contestants(puzzlefs):
    found = peers.peers(puzzlefs)
    chunked = found[peers.CHUNKED]
    return {peers.PACKED: found[peers.PACKED], peers.CHUNKED: chunked,
            COMPRESSED: chunked._replace(build=[*chunked.build, "--compression"])} | found


def measure(binaries, mebibytes):
    """Name → what read_once() returns, with the values of all runs."""
    everyone = contestants(os.path.join(binaries, "puzzlefs"))
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as memory:
        tree = os.path.join(memory, "tree")
        make_tree(tree, mebibytes)
        images = peers.build_all(everyone, tree, memory)
        reader = Reader(binaries, os.path.join(memory, "mnt"))
        results = in_turns({name: lambda peer=peer, image=images[name]: read_once(reader, peer, image)
                            for name, peer in everyone.items()})
    return {name: {key: [one[key] for one in runs] for key in runs[0]} for name, runs in results.items()}


def goals(results):
    """Of the slowest layout."""
    found = []
    for what, when in (key for key in results[peers.PACKED] if key[1] == "again"):
        speeds = medians({name: values[what, when] for name, values in results.items()})
        if peers.NATIVE in speeds:
            ratio = min(speeds[name] for name in (peers.PACKED, peers.CHUNKED, COMPRESSED)) / speeds[peers.NATIVE]
            found.append(Goal(f"{what}, again: ≥ {WARM} of native", f"{ratio:.2f}", ratio >= WARM))
    return found


def panels(results):
    """For the chart: title → name → values."""
    keys = [key for key in results[peers.PACKED] if key != "resident"]
    return {", ".join(key): {name: values[key] for name, values in results.items()} for key in keys}


def row(name, values, native):
    cells = []
    for key, speeds in values.items():
        if key != "resident":
            ratio = f", {statistics.median(speeds) / statistics.median(native[key]):.2f}" if native else ""
            cells.append(f"{span(speeds, '{:.0f}')}{ratio}")
    memory = f"{span(values['resident'], '{:.0f}')} MiB" if any(values["resident"]) else "no process"
    return f"| {name} | {' | '.join(cells)} | {memory} |"


def section(binaries, mebibytes=MIB, charts=None):
    """The medians, as a part of a Markdown page. Needs root, /dev/fuse and loop devices."""
    results = measure(os.path.abspath(binaries), int(mebibytes))
    shown = panels(results)
    rows = "\n".join(row(name, values, results.get(peers.NATIVE)) for name, values in results.items())
    return f"""## Reading from a local layout

A file of {mebibytes} MiB, of which a half can be compressed to a half, and {SMALL_FILES} files of up to {SMALL} bytes,
which all can, in an image in memory. In MiB/s, {RUNS} runs each in turns. First is right after the mount,
again when the kernel may have kept it. Medians, the least and the most, and the ratio to what is native: 1 is as fast.

{plot.chart(charts, "local_reading", "MiB/s", shown)}
| | {' | '.join(shown)} | resident |
|---|{'---|' * len(shown)}---|
{rows}

{goals_table(goals(results))}
{LIMITS}"""


if __name__ == "__main__":
    program(section)
