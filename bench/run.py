#!/usr/bin/env python3
"""run.py PUZZLEFS TREE REPORT: how long it takes to build an image of a tree, against what else is
installed, side by side on this machine. Writes the medians as a Markdown page.

Peers that are not installed are left out: mksquashfs, mkfs.erofs, and the Rust puzzlefs where
$PUZZLEFS_RUST names it. $BENCH_RUNS sets the number of runs (7).
"""
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = int(os.environ.get("BENCH_RUNS", "7"))


def contenders(puzzlefs, tree):
    """Title of a table → name → command line, with {out} for the output."""
    tables = {
        "Without compression": {
            "puzzlefs": [puzzlefs, "build", tree, "{out}:bench"],
            "mksquashfs": ["mksquashfs", tree, "{out}", "-quiet", "-no-progress", "-noI", "-noD",
                           "-noF", "-noX"],
            "mkfs.erofs": ["mkfs.erofs", "-d0", "{out}", tree],
        },
        "With compression": {
            "puzzlefs (zstd)": [puzzlefs, "build", "--compression", tree, "{out}:bench"],
            "mksquashfs (zstd)": ["mksquashfs", tree, "{out}", "-quiet", "-no-progress", "-comp",
                                  "zstd", "-Xcompression-level", "3"],
            "mkfs.erofs (lz4)": ["mkfs.erofs", "-d0", "-zlz4", "{out}", tree],
        },
    }
    rust = os.environ.get("PUZZLEFS_RUST")
    if rust:
        plain, compressed = tables.values()
        plain["Rust puzzlefs"] = [rust, "build", tree, "{out}:bench"]
        compressed["Rust puzzlefs (zstd)"] = [rust, "build", "-c", tree, "{out}:bench"]
    return {title: {name: command for name, command in table.items() if shutil.which(command[0])}
            for title, table in tables.items()}


def size_of(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, file))
               for folder, _, files in os.walk(path) for file in files)


def run_once(command, scratch):
    """Seconds, and the size of the output."""
    out = os.path.join(scratch, "out")
    start = time.monotonic()
    subprocess.run([part.format(out=out) for part in command], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    size = size_of(out)
    if os.path.isdir(out):
        shutil.rmtree(out)
    else:
        os.remove(out)
    return seconds, size


def measure(commands, scratch):
    """Name → (all times, size). Runs take turns, so that a busy moment hits all alike."""
    results = {name: ([], run_once(command, scratch)[1]) for name, command in commands.items()}
    for _ in range(RUNS):
        for name, command in commands.items():
            results[name][0].append(run_once(command, scratch)[0])
    return results


def table_of(results):
    lines = ["| | median | fastest … slowest | ratio | size |", "|---|---|---|---|---|"]
    ours = statistics.median(next(iter(results.values()))[0])
    for name, (times, size) in results.items():
        median = statistics.median(times)
        lines.append(f"| {name} | {median:.2f} s | {min(times):.2f} … {max(times):.2f} s "
                     f"| {median / ours:.2f} | {size / 2**20:.0f} MiB |")
    return "\n".join(lines)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return f"{len(models)} × {models[0] if models else platform.machine()}, Linux {platform.release()}"


def describe(tree):
    files = [os.path.join(folder, file) for folder, _, names in os.walk(tree) for file in names]
    contents = sum(os.lstat(file).st_size for file in files if not os.path.islink(file))
    return f"{len(files)} files, {contents / 2**20:.0f} MiB"


def main():
    puzzlefs, tree, report = sys.argv[1:4]
    page = f"""# Benchmarks

Written by `./dev bench` on {time.strftime("%Y-%m-%d")}: {machine()}.

## Building an image

The /usr of a Debian 12 ({describe(tree)}) in the page cache, output to memory, {RUNS} runs each in turns after
one that does not count. The ratio is to puzzlefs: above 1 is slower than it.
"""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as scratch:
        for title, commands in contenders(puzzlefs, tree).items():
            page += f"\n### {title}\n\n{table_of(measure(commands, scratch))}\n"
    with open(report, "w", encoding="utf-8") as file:
        file.write(page)
    print(page)


if __name__ == "__main__":
    main()
