#!/usr/bin/env python3
"""building.py BIN [TREE]: how long it takes to build an image of a tree, against what else is installed,
side by side. BIN has puzzlefs. TREE is what startup_tree.sh makes, and is made in build/startup when it
is not named.

Peers that are not installed are left out: mksquashfs, mkfs.erofs, casync, desync, and the Rust puzzlefs
where $PUZZLEFS_RUST names it.
"""
import os
import shutil
import statistics
import tempfile

import plot
from peers import filled_in, rust
from timing import RUNS, Goal, at_least, goals_table, in_turns, medians, program, run, span, took

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.join("build", "startup")
PLAIN, COMPRESSED = "Without compression", "With compression"
RUST = {PLAIN: "Rust puzzlefs", COMPRESSED: "Rust puzzlefs (zstd)"}
OURS = {PLAIN: "puzzlefs, chunked", COMPRESSED: "puzzlefs, chunked (zstd)"}
PACKED, SQUASHFS = "puzzlefs, packed (zstd)", "mksquashfs (zstd)"

LIMITS = """Where the time goes (`perf record`, November 2026, two processors): without compression half of the processor time
is the kernel's, which reads, makes pages and copies, a fifth SHA-256, of the contents and for fs-verity in one walk (before, two
walks took a half), a sixth cutting: less than a third of the Rust program's time would have to do for what is copied and
hashed in any case. With compression more than two thirds are zstd, of frames of 4 KiB in chunked images, as the format and the
Rust program have them, and of whole chunks of 60 KiB in packed ones, where mksquashfs has blocks of 128 KiB; SHA-256, which
mksquashfs does not compute, takes a twentieth.
"""


def contenders(puzzlefs):
    """Title of a table → name → command line, with {tree}, and {out} for the output in the empty {folder}."""
    build = [puzzlefs, "build", "--layout", "chunked", "{tree}", "{out}:bench"]
    squashfs = ["mksquashfs", "{tree}", "{out}", "-quiet", "-no-progress"]
    tables = {
        PLAIN: {
            OURS[PLAIN]: build,
            RUST[PLAIN]: [rust(), "build", "{tree}", "{out}:bench"],
            "mksquashfs": [*squashfs, "-noI", "-noD", "-noF", "-noX"],
            "mkfs.erofs": ["mkfs.erofs", "-d0", "{out}", "{tree}"],
        },
        COMPRESSED: {
            PACKED: [puzzlefs, "build", "--layout", "packed", "{tree}", "{out}:bench"],
            OURS[COMPRESSED]: [*build, "--compression"],
            RUST[COMPRESSED]: [rust(), "build", "-c", "{tree}", "{out}:bench"],
            SQUASHFS: [*squashfs, "-comp", "zstd", "-Xcompression-level", "3"],
            "mkfs.erofs (lz4)": ["mkfs.erofs", "-d0", "-zlz4", "{out}", "{tree}"],
            "casync (zstd)": ["casync", "make", "--store={folder}/store", "{folder}/tree.caidx", "{tree}"],
            "desync (zstd)": ["desync", "tar", "--index", "--store", "{folder}", "{folder}/tree.caidx", "{tree}"],
        },
    }
    return {title: {name: command for name, command in table.items() if shutil.which(command[0])}
            for title, table in tables.items()}


def size_of(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, file))
               for folder, _, files in os.walk(path) for file in files)


def run_once(command, tree, scratch):
    """What it took, and the size of the output."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        result = took(filled_in(command, tree=tree, folder=folder, out=os.path.join(folder, "out")))
        return result, size_of(folder)


def measure(commands, tree, scratch):
    """Name → (what its runs took, size)."""
    actions = {name: lambda command=command: run_once(command, tree, scratch) for name, command in commands.items()}
    in_turns(actions, 1)  # which brings the tree into memory
    return {name: ([result for result, _ in runs], runs[0][1]) for name, runs in in_turns(actions).items()}


def seconds_of(results):
    return {name: [one.seconds for one in runs] for name, (runs, _) in results.items()}


def table_of(results):
    lines = ["| | median | fastest … slowest | ratio | CPU time | resident at most | size |",
             "|---|---|---|---|---|---|---|"]
    times = seconds_of(results)
    ours = next(iter(medians(times).values()))
    for name, (runs, size) in results.items():
        middle = statistics.median(times[name])
        cpu = statistics.median(one.cpu for one in runs)
        lines.append(f"| {name} | {middle:.2f} s | {min(times[name]):.2f} … {max(times[name]):.2f} s "
                     f"| {middle / ours:.2f} | {cpu:.2f} s | {span([one.memory for one in runs], '{:.0f}')} MiB "
                     f"| {size / 2**20:.0f} MiB |")
    return "\n".join(lines)


def goals(tables):
    found = []
    for title, results in tables.items():
        times = medians(seconds_of(results))
        if RUST[title] in times:
            found.append(at_least(f"{title.lower()}: ≥ 5 times as fast as the Rust program",
                                  times[OURS[title]], times[RUST[title]], 5))
    if SQUASHFS in tables[COMPRESSED]:
        times = medians(seconds_of(tables[COMPRESSED]))
        sizes = {name: size / 2**20 for name, (_, size) in tables[COMPRESSED].items()}
        found += [Goal("packed in less time than mksquashfs with zstd",
                       f"{times[PACKED]:.2f} s to {times[SQUASHFS]:.2f} s", times[PACKED] < times[SQUASHFS]),
                  Goal("packed smaller than that of mksquashfs with zstd",
                       f"{sizes[PACKED]:.1f} MiB to {sizes[SQUASHFS]:.1f} MiB", sizes[PACKED] < sizes[SQUASHFS])]
    return found


def describe(tree):
    files = [os.path.join(folder, file) for folder, _, names in os.walk(tree) for file in names]
    contents = sum(os.lstat(file).st_size for file in files if not os.path.islink(file))
    return f"{len(files)} files, {contents / 2**20:.0f} MiB"


def section(binaries, tree=TREE, charts=None):
    """The medians, as a part of a Markdown page."""
    if tree == TREE:
        run(os.path.join(HERE, "startup_tree.sh"), tree, os.path.abspath(
            os.path.join("build", "ordinary" + os.path.realpath(tree).replace("/", "-"))))
    tree = os.path.abspath(tree)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as scratch:
        tables = {title: measure(commands, tree, scratch)
                  for title, commands in contenders(os.path.abspath(os.path.join(binaries, "puzzlefs"))).items()}
    text = f"""## Building an image

A Debian 12 tree with python3, numpy, gcc, git, nginx, nodejs and perl ([startup_tree.sh](../bench/startup_tree.sh);
{describe(tree)}) in the page cache, output to memory, {RUNS} runs each in turns after one that does not
count. The ratio is to the first row: above 1 is slower.

{plot.chart(charts, "building", "seconds", {title: seconds_of(results) for title, results in tables.items()})}"""
    for title, results in tables.items():
        text += f"\n### {title}\n\n{table_of(results)}\n"
    return f"{text}\n{goals_table(goals(tables))}\n{LIMITS}"


if __name__ == "__main__":
    program(section)
