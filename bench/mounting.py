#!/usr/bin/env python3
"""mounting.py BIN [FILES]: how long a mount of an image with very many files takes, and how much memory
who serves it has then, after a part of the tree was walked, and after all of it was. BIN has puzzlefs
and walk_tree.
"""
import os
import random
import statistics
import tempfile
import time
from typing import NamedTuple

import peers
import plot
import trees
from timing import RUNS, Goal, goals_table, in_turns, program, run, span

FILES = 1_000_000
FILLED = 4  # every so-manieth has contents
SCATTERED = 10_000  # names that are looked up at random places
MILLISECONDS, MEBIBYTES = 10, 20  # the goals
PARTS = ("VmRSS", "RssAnon", "RssFile", "RssShmem")


class Mount(NamedTuple):
    seconds: float
    mounted: dict  # MiB, as Mounted.memory()
    walked: dict
    scattered: float  # seconds for all of them

LIMITS = """Of the time of a packed image more than half is that of any mount: the start of a process with OpenSSL (`puzzlefs
--version` takes 3 ms) and its fork. Chunked images do not record link counts: the first mount of one walks all of the
metadata, and leaves the counts in its cache for those to come. It is the longest one here. The Rust program tells none.
"""


def mount_once(walker, peer, image, point, probe, names):
    with peers.Mounted(peer, image, point, probe) as mount:
        os.stat(point)
        mounted = mount.memory()
        run(walker, "stat", os.path.join(point, probe.split("/", 1)[0]))
        walked = mount.memory()
        start = time.monotonic()
        for name in names:
            os.lstat(os.path.join(point, name))
        return Mount(mount.seconds, mounted, walked, time.monotonic() - start)


def walk_all(walker, peer, image, point, probe):
    """What memory() says after that."""
    with peers.Mounted(peer, image, point, probe) as mount:
        run(walker, "stat", point)
        return mount.memory()


def measure(binaries, files):
    """Name → runs, and name → memory after one walk of everything."""
    walker = os.path.join(binaries, "walk_tree")
    contestants = peers.peers(os.path.join(binaries, "puzzlefs"))
    probe = trees.path_of(files // 2)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as memory:
        tree = os.path.join(memory, "tree")
        trees.make(tree, files, FILLED)
        images = peers.build_all(contestants, tree, memory)
        point = os.path.join(memory, "mnt")
        # The same for all.
        names = [trees.path_of(index) for index in random.Random(1).sample(range(files), min(SCATTERED, files))]
        runs = in_turns({name: lambda peer=peer, image=images[name]: mount_once(walker, peer, image, point, probe, names)
                         for name, peer in contestants.items()})
        return runs, {name: walk_all(walker, peer, images[name], point, probe) for name, peer in contestants.items()}


def goals(results, everything):
    found = []
    for name in (peers.PACKED, peers.CHUNKED):
        runs = results[name]
        milliseconds = 1000 * statistics.median(one.seconds for one in runs)
        found.append(Goal(f"{name}: mounted in ≤ {MILLISECONDS} ms", f"{milliseconds:.1f} ms",
                          milliseconds <= MILLISECONDS))
        for when in ("mounted", "walked"):
            memory = statistics.median(getattr(one, when)["VmRSS"] for one in runs)
            found.append(Goal(f"{name}: ≤ {MEBIBYTES} MiB resident when {when}", f"{memory:.1f} MiB",
                              memory <= MEBIBYTES))
        memory = everything[name]["VmRSS"]
        found.append(Goal(f"{name}: ≤ {MEBIBYTES} MiB resident when all of it was walked", f"{memory:.1f} MiB",
                          memory <= MEBIBYTES))
    return found


def memory_of(runs, when):
    """Of the parts that are not nothing, if there is a process at all."""
    all_parts = [getattr(one, when) for one in runs]
    middles = {part: statistics.median(parts.get(part, 0) for parts in all_parts) for part in PARTS}
    if not middles["VmRSS"]:
        return "no process"
    shares = ", ".join(f"{part[3:].lower()} {middles[part]:.1f}" for part in PARTS[1:] if middles[part])
    return f"{span([parts['VmRSS'] for parts in all_parts], '{:.1f}')} MiB: {shares}"


def memory_after_all(memory):
    return f"{memory['VmRSS']:.1f} MiB" if memory else "no process"


def panels(results):
    """For the chart: title → name → values."""
    def resident(when):
        return {name: [getattr(one, when)["VmRSS"] for one in runs] for name, runs in results.items()
                if getattr(runs[0], when)}
    return {"milliseconds until mounted": {name: [1000 * one.seconds for one in runs]
                                           for name, runs in results.items()},
            f"seconds for {SCATTERED:,} names at random": {name: [one.scattered for one in runs]
                                                          for name, runs in results.items()},
            "MiB resident after the walk": resident("walked")}


def row(name, runs, everything, ours):
    seconds = [one.seconds for one in runs]
    return (f"| {name} | {span([1000 * value for value in seconds], '{:.1f}')} ms "
            f"| {statistics.median(seconds) / ours:.2f} | {memory_of(runs, 'mounted')} | {memory_of(runs, 'walked')} "
            f"| {memory_after_all(everything)} | {span([one.scattered for one in runs], '{:.2f}')} s |")


def section(binaries, files=FILES, charts=None):
    """The medians, as a part of a Markdown page. Needs root, /dev/fuse and loop devices."""
    results, everything = measure(os.path.abspath(binaries), int(files))
    ours = statistics.median(one.seconds for one in next(iter(results.values())))
    rows = "\n".join(row(name, times, everything[name], ours) for name, times in results.items())
    return f"""## Mounting

An image in memory with {files} small files. From the start of the command for the mount until a file of it can be
looked up; what is resident of its process then, and after {trees.PER_PART} of the files were walked: memory of its own
(anon), pages of files that it has mapped, programs and libraries included (file), and shared memory, which is also
what it has mapped of an image in memory (shmem). {RUNS} runs each in turns; medians, and the least and the most. After the walk
names were looked up all over the image, in an order that is the same for all. At the end each was mounted once more, and
all of it walked.

{plot.chart(charts, "mounting", "", panels(results))}
| | until mounted | ratio | resident when mounted | after the walk | after one of everything | {SCATTERED:,} names at random |
|---|---|---|---|---|---|---|
{rows}

{goals_table(goals(results, everything))}
{LIMITS}"""


if __name__ == "__main__":
    program(section)
