#!/usr/bin/env python3
"""make_large_tree.py DIR: a tree of 6,000 files and 120 MB, the same at every call.

What the Rust puzzlefs cannot extract is left out: sockets, set-id bits and links that lead nowhere
or to a file of another owner. No file has two extended attributes, so that their order is no
question. Needs root.
"""
import os
import random
import sys

DIRECTORIES = 60
FILES = 100
DEEP = 120
# Half of the small files are text, which compresses, half noise.
WORDS = [b"image ", b"chunk ", b"layer ", b"mount ", b"digest ", b"verity ", b"\n"]


def content(rng, size):
    if rng.random() < 0.5:
        return rng.randbytes(size)
    return b"".join(rng.choices(WORDS, k=size // 6))


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def add_files(rng, directory, number):
    for index in range(FILES):
        path = b"%s/file-%03d" % (directory, index)
        if index % 25 == 24:
            path += b"-" + bytes([0x80 + index]) * (255 - len(os.path.basename(path)) - 1)
        write(path, content(rng, rng.choice((0, 1, 700, 9_000, 30_000, 60_000))))
        os.chmod(path, rng.choice((0o644, 0o755, 0o600, 0o1444)))
        if index:
            os.chown(path, 1000 + index, 4_000_000_000 + number)
        if index % 5 == 1:
            os.setxattr(path, b"user.index", b"%d" % index)
        if index % 5 == 2:
            os.setxattr(path, b"trusted.index", rng.randbytes(index))
        if index % 10 == 3:
            os.link(path, b"%s/hard-%03d" % (directory, index))
    os.symlink(b"file-000", directory + b"/link")


def add_far_links(top):
    for number in range(0, DIRECTORIES, 7):
        source = b"%s/dir-%02d/file-050" % (top, number)
        os.link(source, b"%s/dir-%02d/far" % (top, DIRECTORIES - 1 - number))


def main():
    top = os.fsencode(sys.argv[1])
    rng = random.Random(4)
    os.mkdir(top, 0o755)
    for number in range(DIRECTORIES):
        directory = b"%s/dir-%02d" % (top, number)
        os.mkdir(directory, 0o755)
        add_files(rng, directory, number)
        os.setxattr(directory, b"user.directory", b"%d" % number)
    add_far_links(top)
    for number in range(3):
        write(b"%s/large-%d" % (top, number), rng.randbytes(9_000_001 + number))
    # The same bytes elsewhere: chunks that occur twice.
    os.makedirs(top + b"/copy")
    with open(top + b"/large-1", "rb") as file:
        write(top + b"/copy/large-1", file.read())
    deepest = top
    for level in range(DEEP):
        deepest += b"/level-%03d" % level
        os.mkdir(deepest, 0o711)
    write(deepest + b"/file", b"deep down\n")


if __name__ == "__main__":
    main()
