#!/usr/bin/env python3
"""startup.py PUZZLEFS [TREE]: how long it takes to start a program of an image that this machine has
nothing of, over a slow link: from the mount with an empty cache to the end of the program.

TREE is what startup_tree.sh makes, and is made in build/startup when it is not there. The peer is
what makes a root of an ordinary image: skopeo copies it, umoci unpacks it. $BENCH_RUNS sets the
number of runs (7); the peer, which takes minutes, has a third of them, but at least two. With
$BENCH_ONLY only what has this in its name is run.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from registry import Registry, is_argument, wait_until
from slow_link import FAR_ADDRESS, SlowLink
from timing import span

RUNS = int(os.environ.get("BENCH_RUNS", "7"))
ONLY = os.environ.get("BENCH_ONLY", "")
HERE = os.path.dirname(os.path.abspath(__file__))
DELAY_MS, MBIT = 10, 100
PROGRAM = ["python3", "-c", "import json, ssl, http.client, sqlite3, decimal, asyncio, xml.etree.ElementTree"]
NAMES = {"packed": "packed", "attached": "packed", "hot": "hot", "chunked": "chunked"}  # there → in the layout
GOALS = "With a hot list ≤ 1.2 s, ≤ 9 MB, ≤ 10 requests and ≤ 1.15 times what was needed; ≤ 3 s without one."


class Run(NamedTuple):
    seconds: float
    fetched: int  # bytes of answers
    requests: int
    ratio: float | None  # of what was fetched to what was needed; the metadata does not count


def run(*command, **options):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)


def program_in(root):
    run("chroot", root, *PROGRAM)


# --- The images ---------------------------------------------------------------------------------

def record(puzzlefs, image, scratch):
    """The trace of a start of the program."""
    trace, point = os.path.join(scratch, "trace"), os.path.join(scratch, "recorded")
    os.mkdir(point)
    run(puzzlefs, "mount", "--cache-dir", os.path.join(scratch, "record-cache"), "--record", trace, image, point)
    try:
        program_in(point)
    finally:
        run(puzzlefs, "umount", point)
    wait_until(lambda: os.path.exists(trace) and os.path.getsize(trace) > 0, "the trace")
    return trace


def make_images(puzzlefs, tree, layout, scratch):
    """Tags packed, hot and chunked of the layout. Returns the trace by which one is hot."""
    run(puzzlefs, "build", "--layout", "packed", tree, f"{layout}:packed")
    run(puzzlefs, "build", "--compression", tree, f"{layout}:chunked")
    trace = record(puzzlefs, f"{layout}:packed", scratch)
    run(puzzlefs, "optimize", "--trace", trace, f"{layout}:packed", f"{layout}:hot")
    return trace


def metadata_of(layout, tag):
    """Bytes of a manifest and of the tree that it names."""
    def blob(digest):
        with open(os.path.join(layout, "blobs", *digest.split(":")), encoding="utf-8") as file:
            return json.load(file)
    with open(os.path.join(layout, "index.json"), encoding="utf-8") as file:
        entry = next(entry for entry in json.load(file)["manifests"]
                     if entry["annotations"]["org.opencontainers.image.ref.name"] == tag)
    layers = blob(entry["digest"])["layers"]
    return entry["size"] + sum(layer["size"] for layer in layers if "rootfs" in layer["mediaType"])


def knows(puzzlefs, command, word):
    """Whether a command mentions something in its help: earlier versions are measured too."""
    return word in subprocess.run([puzzlefs, command, "--help"], capture_output=True, text=True, check=False).stdout


def push_images(puzzlefs, layout, ordinary, trace, link, host):
    keep = ["--layout", "keep"] if knows(puzzlefs, "push", "keep") else []
    for name, tag in NAMES.items():
        run(*link.far, puzzlefs, "push", "--plain-http", *keep, f"{layout}:{tag}", f"{host}/{name}")
    if knows(puzzlefs, "attach", "--trace"):
        run(*link.far, puzzlefs, "attach", "--plain-http", "--trace", trace, f"{host}/attached")
    run(*link.far, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", f"oci:{ordinary}:latest",
        f"docker://{host}/ordinary:latest")


# --- The runs -----------------------------------------------------------------------------------

class Bench:
    def __init__(self, puzzlefs, registry, link, layout, scratch):
        self.puzzlefs = puzzlefs
        self.layout = layout
        self.registry = registry
        self.link = link
        self.scratch = scratch

    def lazily(self, name, *options):
        """Mounts an image with an empty cache and runs the program in it."""
        metadata = metadata_of(self.layout, NAMES[name])
        point = os.path.join(self.scratch, "mnt")
        cache = tempfile.mkdtemp(dir=self.scratch, prefix="cache.")
        os.makedirs(point, exist_ok=True)
        mark = self.registry.mark()
        start = time.monotonic()
        run(*self.link.near, self.puzzlefs, "mount", "--plain-http", "--cache-dir", cache, *options,
            f"{self.registry.host}/{name}", point)
        try:
            program_in(point)
            seconds = time.monotonic() - start
            stats = json.loads(subprocess.run([self.puzzlefs, "stats", "--format", "json", point], check=True,
                                              capture_output=True).stdout)
        finally:
            run(self.puzzlefs, "umount", point)
            # Until then it writes to the cache, and may still get answers.
            wait_until(lambda: not is_argument(cache), "the end of the mount")
        shutil.rmtree(cache)
        return self._result(seconds, mark, metadata, stats["bytes_needed"])

    def eagerly(self):
        """Copies and unpacks the ordinary image and runs the program in it."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            mark = self.registry.mark()
            start = time.monotonic()
            run(*self.link.near, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
                f"docker://{self.registry.host}/ordinary:latest", f"oci:{folder}/image:latest")
            run("umoci", "unpack", "--image", f"{folder}/image:latest", f"{folder}/bundle",
                stderr=subprocess.DEVNULL)
            program_in(f"{folder}/bundle/rootfs")
            return self._result(time.monotonic() - start, mark)

    def _result(self, seconds, mark, metadata=0, needed=None):
        answers = self.registry.since(mark)
        fetched = sum(answer.size for answer in answers if answer.method == "GET")
        return Run(seconds, fetched, len(answers), needed and (fetched - metadata) / needed)


def variants(bench, trace):
    """Name → what runs it once."""
    everything = {
        "packed, hot list in the image": lambda: bench.lazily("hot"),
        "packed, a trace attached to it": lambda: bench.lazily("attached"),
        "packed, a trace given with --prefetch": lambda: bench.lazily("packed", "--prefetch", trace),
        "packed": lambda: bench.lazily("packed"),
        "chunked, compressed": lambda: bench.lazily("chunked"),
        "skopeo copy and umoci unpack": bench.eagerly,
    }
    if not knows(bench.puzzlefs, "attach", "--trace"):
        del everything["packed, a trace attached to it"]
    return {name: action for name, action in everything.items() if ONLY in name}


def measure(actions):
    """Name → its runs, which take turns, so that a busy moment hits all alike."""
    results = {name: [] for name in actions}
    for turn in range(RUNS):
        for name, action in actions.items():
            if "skopeo" not in name or turn < max(2, RUNS // 3):
                results[name].append(action())
                print(f"{name}: {results[name][-1]}", file=sys.stderr)
    return results


# --- The table ----------------------------------------------------------------------------------

def row(name, runs, ours):
    seconds = statistics.median(one.seconds for one in runs)
    ratios = [one.ratio for one in runs if one.ratio is not None]
    return (f"| {name} | {len(runs)} | {span([one.seconds for one in runs], '{:.2f}')} s | {seconds / ours:.2f} "
            f"| {span([one.fetched / 1e6 for one in runs], '{:.1f}')} MB "
            f"| {span([one.requests for one in runs], '{:.0f}')} | {span(ratios, '{:.2f}') if ratios else ''} |")


def section(puzzlefs, tree=os.path.join("build", "startup")):
    """The medians, as a part of a Markdown page. Needs root, docker-registry, /dev/fuse and /dev/net/tun."""
    puzzlefs = os.path.abspath(puzzlefs)
    ordinary = os.path.abspath(os.path.join("build", "ordinary" + os.path.realpath(tree).replace("/", "-")))
    run(os.path.join(HERE, "startup_tree.sh"), os.path.abspath(tree), ordinary)
    with tempfile.TemporaryDirectory(dir="build", prefix="bench.") as scratch, \
            tempfile.TemporaryDirectory(dir="/dev/shm", prefix="puzzlefs-bench.") as memory, \
            SlowLink(DELAY_MS, MBIT) as link, Registry(memory, FAR_ADDRESS, link.far) as registry:
        scratch = os.path.abspath(scratch)
        layout = os.path.join(scratch, "layout")
        trace = make_images(puzzlefs, tree, layout, scratch)
        push_images(puzzlefs, layout, ordinary, trace, link, registry.host)
        results = measure(variants(Bench(puzzlefs, registry, link, layout, scratch), trace))
    ours = statistics.median(one.seconds for one in next(iter(results.values())))
    rows = "\n".join(row(name, runs, ours) for name, runs in results.items())
    return f"""## Starting a program from a registry

A Debian 12 tree with python3, numpy, gcc, git, nginx, nodejs and perl ([startup_tree.sh](../bench/startup_tree.sh)) in
docker-registry behind a link of {DELAY_MS} ms each way and {MBIT} Mbit/s. From the mount with an empty cache to the end
of `chroot mnt {PROGRAM[0]} {PROGRAM[1]} '{PROGRAM[2]}'`,
in turns; medians, and the least and the most. The last column is what was fetched beside the metadata,
against the chunks that were read. {GOALS}

| | runs | time | ratio | fetched | requests | fetched / needed |
|---|---|---|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    print(section(*sys.argv[1:3]))
