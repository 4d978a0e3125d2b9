#!/usr/bin/env python3
"""dedup.py PUZZLEFS [SERIES]: what a series of states of a Debian tree takes, kept in one place.

SERIES is what image_series.sh makes, and is made in build/series when it is not there. Peers are
layers of tar.gz, squashfs, erofs, and the Rust puzzlefs where $PUZZLEFS_RUST names it. The sizes do
not depend on how busy the machine is, so each is measured once. With $BENCH_ONLY only what has this in
its name is measured.
"""
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time

from building import size_of

HERE = os.path.dirname(os.path.abspath(__file__))
ONLY = os.environ.get("BENCH_ONLY", "")


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def into_layout(build, states, layout):
    """Bytes of the layout that all states were built into. build(state, tag, tag before) → command."""
    before = None
    for tag, state in enumerate(states, start=1):
        run(*build(state, f"{layout}:{tag}", before and str(before)))
        before = tag
    return size_of(os.path.join(layout, "blobs"))


# --- tar ----------------------------------------------------------------------------------------

def tar_size(state, *arguments):
    """Bytes of a state, or of some of its names, as tar.gz."""
    command = ["tar", "--create", "--sort=name", "--numeric-owner", "--xattrs", "--directory", state]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE) as tar, \
            subprocess.Popen(["gzip", "-6"], stdin=tar.stdout, stdout=subprocess.PIPE) as gzip:
        tar.stdout.close()
        size = sum(len(block) for block in iter(lambda: gzip.stdout.read(1 << 20), b""))
    if tar.returncode or gzip.returncode:
        raise RuntimeError(f"tar or gzip failed with {state}")
    return size


def full_tars(states):
    return sum(tar_size(state, ".") for state in states)


def attributes_of(path):
    """What a container engine compares to tell what a layer must hold."""
    status = os.lstat(path)
    same = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_mtime_ns)
    if stat.S_ISLNK(status.st_mode):
        return *same, os.readlink(path)
    return *same, 0 if stat.S_ISDIR(status.st_mode) else status.st_size


def tree_of(state):
    """Path below the state → its attributes."""
    return {os.path.relpath(os.path.join(folder, name), state): attributes_of(os.path.join(folder, name))
            for folder, folders, files in os.walk(state) for name in folders + files}


def layer_tars(states, scratch):
    """The first state, then a layer for each other one with what is new in it. What says that
    something is gone takes no space worth counting, and is left out."""
    names = os.path.join(scratch, "names")
    total, before = 0, {}
    for state in states:
        tree = tree_of(state)
        with open(names, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{path}\0" for path in tree if before.get(path) != tree[path])
        total += tar_size(state, "--no-recursion", "--null", "--verbatim-files-from", f"--files-from={names}")
        before = tree
    return total


# --- Image formats ------------------------------------------------------------------------------

def newer_erofs():
    """A mkfs.erofs that deduplicates, as the beginning of a command line."""
    root = os.path.abspath(os.path.join("build", "debian-13"))
    run(os.path.join(HERE, "newer_erofs.sh"), root)
    libraries = f"{root}/usr/lib/{os.uname().machine}-linux-gnu"
    loader = f"{root}/lib64/ld-linux-x86-64.so.2"
    return [loader, "--library-path", libraries, f"{root}/usr/bin/mkfs.erofs"]


def size_after(command, out):
    run(*command)
    size = os.path.getsize(out)
    os.remove(out)
    return size


def erofs_all(options, series, out):
    return size_after([*newer_erofs(), "--quiet", *options, "--exclude-path=log", out, series], out)


def erofs_each(options, states, out):
    return sum(size_after([*newer_erofs(), "--quiet", *options, out, state], out) for state in states)


def squashfs_all(series, out):
    return size_after(["mksquashfs", series, out, "-quiet", "-no-progress", "-comp", "zstd",
                       "-Xcompression-level", "3", "-e", "log"], out)


# --- The table ----------------------------------------------------------------------------------

def ways_of_puzzlefs(puzzlefs, states, scratch):
    """Name → function that gives the bytes."""
    def packed(state, image, before):
        base = ["--base-layer", before] if before else []
        return [puzzlefs, "build", "--layout", "packed", *base, state, image]

    def chunked(state, image, _):
        # Whole: what is built upon another image is cut into chunks otherwise, and shares fewer.
        return [puzzlefs, "build", "--layout", "chunked", "--compression", state, image]

    def in_layout(command):
        return lambda: into_layout(command, states, os.path.join(scratch, "layout"))

    ways = {"puzzlefs, packed": in_layout(packed),
            "puzzlefs, chunked, compressed": in_layout(chunked)}
    rust = os.environ.get("PUZZLEFS_RUST")
    if rust:
        ways["Rust puzzlefs, compressed"] = in_layout(
            lambda state, image, _: [rust, "build", "-c", state, image])
    else:
        print("Without the Rust puzzlefs: $PUZZLEFS_RUST does not name it.", file=sys.stderr)
    return ways


def ways(puzzlefs, series, states, scratch):
    out = os.path.join(scratch, "out")
    # -C: erofs makes compressed pieces of so many bytes at most, instead of 4 KiB.
    options = "-zzstd", "-C65536", "-Ededupe,fragments"
    return ways_of_puzzlefs(puzzlefs, states, scratch) | {
        "tar.gz, one layer for what is new in each state": lambda: layer_tars(states, scratch),
        "tar.gz, each state whole": lambda: full_tars(states),
        "erofs (zstd, dedupe, fragments), all in one image": lambda: erofs_all(options, series, out),
        "erofs (zstd, dedupe, fragments), an image each": lambda: erofs_each(options, states, out),
        "squashfs (zstd), all in one image": lambda: squashfs_all(series, out),
    }


def measure(puzzlefs, series, states, wanted):
    """Name → bytes."""
    sizes = {}
    with tempfile.TemporaryDirectory(dir="build", prefix="bench.") as scratch:
        for name, way in ways(puzzlefs, series, states, os.path.abspath(scratch)).items():
            if wanted not in name:
                continue
            start = time.monotonic()
            sizes[name] = way()
            print(f"{name}: {sizes[name]} bytes, in {time.monotonic() - start:.0f} s", file=sys.stderr)
            shutil.rmtree(os.path.join(scratch, "layout"), ignore_errors=True)
    return sizes


def section(puzzlefs, series=os.path.join("build", "series"), wanted=ONLY):
    """The sizes, as a part of a Markdown page. Only of what has "wanted" in its name."""
    run(os.path.join(HERE, "image_series.sh"), series)
    states = [os.path.join(series, name) for name in sorted(os.listdir(series)) if name.isdigit()]
    contents = sum(size_of_tree(state) for state in states)
    sizes = measure(os.path.abspath(puzzlefs), os.path.abspath(series), states, wanted)
    ours = next(iter(sizes.values()))
    rows = "\n".join(f"| {name} | {size / 1e6:.1f} MB | {size / ours:.2f} |" for name, size in sizes.items())
    return f"""## Versions of an image

{len(states)} states of a Debian 12 tree, with packages added, updated and removed and Python packages in several
versions ([image_series.sh](../bench/image_series.sh)), {contents / 1e6:.0f} MB of contents in all. What keeping all of them
takes; the ratio is to puzzlefs: above 1 is larger. What is packed is built upon the state before.

| | size | ratio |
|---|---|---|
{rows}
"""


def size_of_tree(tree):
    """The contents of its files, each once."""
    seen = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(status.st_mode):
                seen[status.st_ino] = status.st_size
    return sum(seen.values())


if __name__ == "__main__":
    print(section(*sys.argv[1:3]))
