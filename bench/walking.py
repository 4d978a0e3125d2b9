#!/usr/bin/env python3
"""walking.py BIN [FILES]: how long it takes to list a tree of many files with their attributes, through
mounts of an image of it. BIN has puzzlefs and walk_tree.

Images are in memory. Cold is right after the mount: the kernel knows no name yet. Warm is once more.
"""
import os
import statistics
import subprocess
import tempfile
import time

import peers
import plot
import trees
from timing import QUIET, RUNS, Goal, at_least, goals_table, in_turns, medians, program, span

FILES = 100_000
LISTED = 10_000  # of them by ls: an attribute each is slow with all that FUSE serves
WAYS = {"walk": "names and attributes", "ls": "`ls -lR`, which asks for extended attributes too"}

LIMITS = """Warm, the kernel answers from its memory; who is faster than another there has shorter lists. `ls -l` asks each name for
its access control list, which the kernel keeps, and for its SELinux label, of which FUSE keeps nothing. It would stop asking if
labels were said not to be supported, but also in an overlay above, where files can have them.
"""


def walk_once(walker, way, folder):
    """Seconds."""
    if way == "walk":
        return float(subprocess.run([walker, "stat", folder], check=True, capture_output=True).stdout.split()[0])
    folders = [os.path.join(folder, name) for name in trees.folders(LISTED)]
    start = time.monotonic()
    # By number: names of users would be looked up. The time of ls itself is in all of them.
    subprocess.run(["ls", "-lRn", *folders], check=True, **QUIET)
    return time.monotonic() - start


def in_mounts(walker, peer, image, point):
    """(Way, cold or warm) → seconds, with a mount for each way."""
    times = {}
    for way in WAYS:
        with peers.Mounted(peer, image, point, trees.path_of(0)):
            for state in ("cold", "warm"):
                times[way, state] = walk_once(walker, way, point)
    return times


def measure(binaries, files):
    """Name → (way, cold or warm) → seconds of all runs."""
    walker = os.path.join(binaries, "walk_tree")
    contestants = peers.peers(os.path.join(binaries, "puzzlefs"))
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as memory:
        tree = os.path.join(memory, "tree")
        trees.make(tree, files)
        images = peers.build_all(contestants, tree, memory)
        point = os.path.join(memory, "mnt")
        results = in_turns({name: lambda peer=peer, image=images[name]: in_mounts(walker, peer, image, point)
                            for name, peer in contestants.items()})
    return {name: {key: [one[key] for one in times] for key in times[0]} for name, times in results.items()}


def goals(results):
    """Of the slower one of both layouts."""
    found = []
    for way, title in WAYS.items():
        for state in ("cold", "warm"):
            times = medians({name: spans[way, state] for name, spans in results.items()})
            ours = max(times[peers.PACKED], times[peers.CHUNKED])
            if peers.SQUASHFUSE in times:
                found.append(at_least(f"{title}, {state}: ≥ 2 times as fast as squashfuse_ll",
                                      ours, times[peers.SQUASHFUSE], 2))
            if peers.EROFS in times:
                ratio = ours / times[peers.EROFS]
                found.append(Goal(f"{title}, {state}: ≤ 2 times the time of the kernel's EROFS",
                                  f"{ratio:.2f} times", ratio <= 2))
    return found


def panels(results):
    """For the chart: title → name → values."""
    return {f"{way}, {state}": {name: spans[way, state] for name, spans in results.items()}
            for way, state in next(iter(results.values()))}


def row(name, spans, ours):
    cells = []
    for key, values in spans.items():
        ratio = statistics.median(values) / statistics.median(ours[key])
        cells.append(f"{span(values, '{:.3f}')} s, {ratio:.2f}")
    return f"| {name} | {' | '.join(cells)} |"


def section(binaries, files=FILES, charts=None):
    """The medians, as a part of a Markdown page. Needs root, /dev/fuse and loop devices."""
    results = measure(os.path.abspath(binaries), int(files))
    ours = next(iter(results.values()))
    head = " | ".join(f"{way}, {state}" for way, state in ours)
    rows = "\n".join(row(name, spans, ours) for name, spans in results.items())
    return f"""## Walking a tree

All names and attributes of a tree of {files} small files, {trees.PER_FOLDER} in a folder, in an image in memory, by one
thread, {RUNS} runs each in turns. *walk*: {WAYS['walk']}; *ls*: {WAYS['ls']}, of
{LISTED} of the files. Cold is right after the mount: the kernel knows no name yet; warm once more: names and attributes
then come from its memory, whoever made the image. Medians, the least and the most, and the ratio to the first row.

{plot.chart(charts, "walking", "seconds", panels(results))}
| | {head} |
|---|{'---|' * len(ours)}
{rows}

{goals_table(goals(results))}
{LIMITS}"""


if __name__ == "__main__":
    program(section)
