#!/usr/bin/env python3
"""tree_listing.py DIR [--without WHAT,…]: one line for each file of a tree with all that an image
keeps of it.

Type, mode, owner, device number, link count and the first of its names, size and SHA-256 of the
contents, link target, extended attributes. Two trees are equal when their listings are. WHAT is
left out for those who cannot keep it: nlink, device, owner, setid (bits), capability, socket
(the whole file). The tree may be deeper than a path can be long.
"""
import argparse
import hashlib
import os
import stat

PIECE = 1 << 20
CAPABILITY = b"security.capability"


def digest_of(name, directory):
    digest = hashlib.sha256()
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    try:
        while piece := os.read(fd, PIECE):
            digest.update(piece)
    finally:
        os.close(fd)
    return digest.hexdigest()


def contents(name, directory, info, without):
    if stat.S_ISLNK(info.st_mode):
        return "-> %r" % os.readlink(name, dir_fd=directory)
    if stat.S_ISREG(info.st_mode):
        return "%d %s" % (info.st_size, digest_of(name, directory))
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        if "device" in without:
            return ""
        return "%d:%d" % (os.major(info.st_rdev), os.minor(info.st_rdev))
    return ""


def attributes(name, directory, without):
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    return {name: os.getxattr(path, name, follow_symlinks=False)
            for name in names if name != CAPABILITY or "capability" not in without}


def sorted_names(directory):
    return sorted((os.fsencode(name) for name in os.listdir(directory)), reverse=True)


def walk(top):
    """Each file's path, its name, its directory's descriptor and its status, parents first."""
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    yield b".", b".", directory, os.fstat(directory)
    above = []  # the names of the directories that lead here
    pending = [sorted_names(directory)]  # for each of them and the current one, what is left
    while pending:
        if not pending[-1]:
            pending.pop()
            if above:
                above.pop()
                upper = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = upper
            continue
        name = pending[-1].pop()
        info = os.lstat(name, dir_fd=directory)
        yield b"/".join(above + [name]), name, directory, info
        if stat.S_ISDIR(info.st_mode):
            lower = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = lower
            above.append(name)
            pending.append(sorted_names(directory))
    os.close(directory)


def line_for(path, name, directory, info, first_names, without):
    mode = info.st_mode
    if "setid" in without:
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
    owner = "" if "owner" in without else "%d:%d" % (info.st_uid, info.st_gid)
    links = ""
    if not stat.S_ISDIR(mode):
        first = first_names.setdefault(info.st_ino, path)
        links = "%s %r" % ("" if "nlink" in without else info.st_nlink, first)
    return "%r %s %s %s [%s] %r" % (path, oct(mode), owner, contents(name, directory, info, without),
                                    links, attributes(name, directory, without))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tree")
    parser.add_argument("--without", default="")
    arguments = parser.parse_args()
    without = arguments.without.split(",")
    first_names = {}
    for path, name, directory, info in walk(os.fsencode(arguments.tree)):
        if "socket" in without and stat.S_ISSOCK(info.st_mode):
            continue
        print(line_for(path, name, directory, info, first_names, without))


if __name__ == "__main__":
    main()
