#!/usr/bin/env python3
"""tree_listing.py DIR: one line for each file of a tree with all that an image keeps of it.

Type, mode, owner, device number, link count and the first of its names, size and SHA-256 of the
contents, link target, extended attributes. Two trees are equal when their listings are.
"""
import hashlib
import os
import stat
import sys


def contents(path, info):
    if stat.S_ISLNK(info.st_mode):
        return "-> %r" % os.readlink(path)
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            return "%d %s" % (info.st_size, hashlib.sha256(file.read()).hexdigest())
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        return "%d:%d" % (os.major(info.st_rdev), os.minor(info.st_rdev))
    return ""


def attributes(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def walk(top):
    yield top
    with os.scandir(top) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path)
            else:
                yield entry.path


def main():
    top = os.fsencode(sys.argv[1])
    first_names = {}
    for path in walk(top):
        info = os.lstat(path)
        name = os.path.relpath(path, top)
        links = ""
        if not stat.S_ISDIR(info.st_mode):
            first = first_names.setdefault(info.st_ino, name)
            links = "%d %r" % (info.st_nlink, first)
        print("%r %s %d:%d %s [%s] %r" % (name, oct(info.st_mode), info.st_uid, info.st_gid,
                                          contents(path, info), links, attributes(path)))


if __name__ == "__main__":
    main()
