#!/usr/bin/env python3
"""requests.py PUZZLEFS [--files N] [--mib N] [--listed N]: how many requests a registry gets, and how
many bytes, for a packed image: when a large tree is pushed, when it is pushed again with one file
changed, and when all names of a mounted one are listed.

Counts, which do not depend on how fast the machine is. Ends with 1 if one is beyond its goal.
"""
import argparse
import collections
import os
import random
import re
import subprocess
import sys
import tempfile

from registry import CountingProxy, Registry, is_argument, wait_until

MIB = 1 << 20
PER_FOLDER = 100
STEM = re.compile("(.*?(sha256:|uploads/))|.*")  # of a path: without what is another each time


def make_tree(root, files, size, seed):
    """So many files of different sizes with so many bytes in all; half of them cannot be compressed.
    The same tree for the same arguments. Returns the number of its names, the root's among them."""
    source = random.Random(seed)
    weights = [source.expovariate(1) for _ in range(files)]
    scale = size / sum(weights)
    folders = 0
    for index, weight in enumerate(weights):
        folder = os.path.join(root, f"folder {index // PER_FOLDER}")
        if index % PER_FOLDER == 0:
            os.makedirs(folder)
            folders += 1
        length = int(weight * scale)
        data = source.randbytes(length) if index % 2 else source.randbytes((length + 1) // 2).hex().encode()
        with open(os.path.join(folder, f"file {index}"), "wb") as file:
            file.write(data[:length])
    return files + folders + 1


def change_one(root, files):
    """Writes something else into the middle of one file."""
    index = files // 2
    path = os.path.join(root, f"folder {index // PER_FOLDER}", f"file {index}")
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(b"changed")


class Count:
    """What something took, and what it may take: requests, and the bytes that were sent, if they count."""

    def __init__(self, what, requests, goal, sent=None, sent_goal=None):
        self.what = what
        self.requests = requests
        self.goal = goal
        self.sent = sent
        self.sent_goal = sent_goal

    def good(self):
        return self.requests <= self.goal and (self.sent_goal is None or self.sent <= self.sent_goal)

    def row(self):
        sent = "" if self.sent is None else f"{self.sent / MIB:.2f} MiB"
        limit = "" if self.sent_goal is None else f", ≤ {self.sent_goal / MIB:.0f} MiB"
        return f"| {self.what} | {self.requests} | {sent} | ≤ {self.goal}{limit} | {'yes' if self.good() else 'NO'} |"


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def push(puzzlefs, tree, scratch, registry):
    """Builds the tree and pushes it packed. Returns the requests and the bytes sent."""
    layout = os.path.join(scratch, "layout")
    run(puzzlefs, "build", tree, f"{layout}:latest")
    mark = registry.mark()
    with CountingProxy(registry.host) as proxy:
        run(puzzlefs, "push", "--layout", "packed", f"{layout}:latest", f"{proxy.host}/large")
    requests = registry.since(mark)
    print_kinds(requests)
    return len(requests), proxy.sent


def print_kinds(requests):
    """Which ones they were, to tell where too many come from."""
    kinds = collections.Counter(
        f"{request.method} {STEM.match(request.path)[0]} {request.status}" for request in requests)
    for kind, times in sorted(kinds.items()):
        print(f"{times:5} × {kind}", file=sys.stderr)


def count_pushes(puzzlefs, files, mib, scratch, registry):
    tree = os.path.join(scratch, "large")
    make_tree(tree, files, mib * MIB, "large")
    # A small tree has small packs.
    first_goal = max(30, 60 * mib // 1024)
    requests, sent = push(puzzlefs, tree, scratch, registry)
    first = Count(f"push a tree of {mib} MiB in {files} files", requests, first_goal, sent)
    change_one(tree, files)
    requests, sent = push(puzzlefs, tree, scratch, registry)
    return first, Count("push it again with one file changed", requests, 10, sent, MIB)


def count_listing(puzzlefs, listed, scratch, registry):
    """The requests for `find -ls` of a tree, after it was mounted."""
    tree, layout, point, cache = (os.path.join(scratch, name) for name in ("many", "many-layout", "mnt", "cache"))
    names = make_tree(tree, listed, listed * 100, "many")
    run(puzzlefs, "build", "--layout", "packed", tree, f"{layout}:latest")
    run(puzzlefs, "push", f"{layout}:latest", f"{registry.host}/many")
    os.mkdir(point)
    beginning = registry.mark()
    run(puzzlefs, "mount", "--cache-dir", cache, f"{registry.host}/many", point)
    try:
        # The mount does not wait for what it asks last: for traces under the name that they have in
        # a registry without referrers.
        wait_until(lambda: any("/manifests/sha256-" in request.path for request in registry.since(beginning)),
                   "the mount's question for traces")
        mark = registry.mark()
        listing = subprocess.run(["find", point, "-ls"], check=True, capture_output=True).stdout
        if len(listing.splitlines()) != names:
            raise RuntimeError(f"find lists {len(listing.splitlines())} names and not {names}")
        return Count(f"find -ls of a mounted tree of {listed} files", len(registry.since(mark)), 0)
    finally:
        run(puzzlefs, "umount", point)
        wait_until(lambda: not is_argument(cache), "the end of the mount")


def count(puzzlefs, files=20000, mib=1024, listed=50000):
    puzzlefs = os.path.abspath(puzzlefs)
    with tempfile.TemporaryDirectory(prefix="puzzlefs-bench.") as scratch, Registry(scratch) as registry:
        return [*count_pushes(puzzlefs, files, mib, scratch, registry),
                count_listing(puzzlefs, listed, scratch, registry)]


def as_section(counts):
    rows = "\n".join(one.row() for one in counts)
    return f"""## Requests

What docker-registry is asked for, and what is sent to it, headers included. Half of the contents cannot be
compressed.

| | requests | sent | goal | reached |
|---|---|---|---|---|
{rows}
"""


def section(puzzlefs):
    """The counts, as a part of a Markdown page. Needs root, docker-registry and /dev/fuse."""
    return as_section(count(puzzlefs))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("puzzlefs")
    for name, default in (("files", 20000), ("mib", 1024), ("listed", 50000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    counts = count(options.puzzlefs, options.files, options.mib, options.listed)
    print(as_section(counts))
    return 0 if all(one.good() for one in counts) else 1


if __name__ == "__main__":
    sys.exit(main())
