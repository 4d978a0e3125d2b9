#!/usr/bin/env python3
"""run.py BIN PAGE [SECTION…]: the benchmarks, one after the other, as a Markdown page with charts beside it.

BIN has puzzlefs, read_file and walk_tree. What a section says is kept in build/bench until it is measured
again; with sections named, only these are, and the page has what is known of the others. $BENCH_RUNS sets
how often each thing is done (7). Most sections are programs too, which print theirs alone.
"""
import os
import platform
import signal
import sys
import time
import traceback

import build_memory
import building
import dedup
import local_reading
import mounting
import reading
import requests
import startup
import walking

KEPT = os.path.join("build", "bench")
SECTIONS = {  # in the order of the page
    "building": lambda binaries, charts: building.section(binaries, charts=charts),
    "build_memory": lambda binaries, charts: build_memory.section(binaries, charts=charts),
    "mounting": lambda binaries, charts: mounting.section(binaries, charts=charts),
    "walking": lambda binaries, charts: walking.section(binaries, charts=charts),
    "local_reading": lambda binaries, charts: local_reading.section(binaries, charts=charts),
    "reading": lambda binaries, _: reading.section(puzzlefs_of(binaries), os.path.join(binaries, "read_file")),
    "startup": lambda binaries, _: startup.section(puzzlefs_of(binaries)),
    "requests": lambda binaries, _: requests.section(puzzlefs_of(binaries)),
    "dedup": lambda binaries, _: dedup.section(puzzlefs_of(binaries)),
}


def puzzlefs_of(binaries):
    return os.path.join(binaries, "puzzlefs")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return f"{len(models)} × {models[0] if models else platform.machine()}, Linux {platform.release()}"


def kept(name):
    return os.path.join(KEPT, f"{name}.md")


def measure(name, binaries, charts):
    """Whether it went well. What was known before stays otherwise."""
    print(f"--- {name}", file=sys.stderr)
    try:
        text = SECTIONS[name](binaries, charts)
    except Exception:  # the others take long, and are worth having all the same
        traceback.print_exc()
        return False
    with open(kept(name), "w", encoding="utf-8") as file:
        file.write(text.rstrip("\n") + "\n")
    return True


def write_page(path):
    page = f"""# Benchmarks

Written by `./dev bench` on {time.strftime("%Y-%m-%d")}: {machine()}. `./dev bench SECTION…` measures some of it
again: {", ".join(SECTIONS)}.
In charts, whiskers are the least and the most of all runs.
"""
    for name in SECTIONS:
        if os.path.exists(kept(name)):
            with open(kept(name), encoding="utf-8") as file:
                page += f"\n{file.read()}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(page)
    print(page)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    binaries, path, *wanted = sys.argv[1:]
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        sys.exit(f"There is no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}.")
    os.makedirs(KEPT, exist_ok=True)
    charts = os.path.splitext(path)[0]
    failed = [name for name in wanted or SECTIONS if not measure(name, binaries, charts)]
    write_page(path)
    if failed:
        sys.exit(f"These could not be measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
