#!/usr/bin/env python3
"""build_memory.py BIN [FILES…]: how much memory a build takes, for trees of more and more files. BIN has
puzzlefs. The Rust puzzlefs is measured too where $PUZZLEFS_RUST names it.
"""
import os
import shutil
import tempfile

import plot
import trees
from building import run_once
from peers import rust
from timing import Goal, goals_table, in_turns, program, span

FILES = 30_000, 100_000, 300_000
LARGEST = 4096  # bytes of a file
FLAT = 1.25  # times as much for the largest tree as for the smallest one
RUNS = 3  # it does not depend on how busy the machine is

LIMITS = """A tree of few bytes takes less, as up to 24 MiB of contents wait in buffers. What grows is what is known of each chunk
and each folder. The other inodes wait in a file without a name, as does the message of Cap'n Proto, which begins with
the list of all inodes and names the chunks in it, so that it can only be written when all is read.
"""


def builders(puzzlefs):
    """Name → command line, as in building.py."""
    build = [puzzlefs, "build", "{tree}", "{out}:bench", "--layout"]
    everything = {
        "puzzlefs, chunked": [*build, "chunked"],
        "puzzlefs, chunked (zstd)": [*build, "chunked", "--compression"],
        "puzzlefs, packed (zstd)": [*build, "packed"],
        "Rust puzzlefs": [rust(), "build", "{tree}", "{out}:bench"],
    }
    return {name: command for name, command in everything.items() if shutil.which(command[0])}


def measure(puzzlefs, files, scratch):
    """Name → MiB that were resident at most, of all runs."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        tree = os.path.join(folder, "tree")
        trees.make(tree, files, largest=LARGEST)
        actions = {name: lambda command=command: run_once(command, tree, folder)[0].memory
                   for name, command in builders(puzzlefs).items()}
        return in_turns(actions, RUNS)


def goals(sizes):
    """Of how it is from the smallest tree to the largest one."""
    first, *_, last = sizes.values()
    ratios = {name: max(last[name]) / max(first[name]) for name in first if name.startswith("puzzlefs")}
    return [Goal(f"{name}: memory flat, ≤ {FLAT} times from the smallest tree to the largest",
                 f"{ratio:.2f} times", ratio <= FLAT) for name, ratio in ratios.items()]


def section(binaries, *files, charts=None):
    """The medians, as a part of a Markdown page."""
    puzzlefs = os.path.abspath(os.path.join(binaries, "puzzlefs"))
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as scratch:
        sizes = {f"{int(count):,} files": measure(puzzlefs, int(count), scratch) for count in files or FILES}
    rows = "\n".join(f"| {name} | {' | '.join(span(results[name], '{:.1f}') + ' MiB' for results in sizes.values())} |"
                     for name in next(iter(sizes.values())))
    return f"""## Memory of a build

Resident at most while an image is built of a tree of files of up to {LARGEST} bytes, {RUNS} runs each in turns;
medians, and the least and the most.

{plot.chart(charts, "build_memory", "MiB", sizes)}
| | {' | '.join(sizes)} |
|---|{'---|' * len(sizes)}
{rows}

{goals_table(goals(sizes))}
{LIMITS}"""


if __name__ == "__main__":
    program(section)
