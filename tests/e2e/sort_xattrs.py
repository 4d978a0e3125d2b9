#!/usr/bin/env python3
"""sort_xattrs.py DIR: makes the file system list each file's extended attributes in sorted order.

The Rust puzzlefs writes them as they are listed, this one sorted. Fails, naming the file, where
setting them anew in that order does not help.
"""
import os
import sys


def listed(path):
    return [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)]


def main():
    for directory, directories, files in os.walk(os.fsencode(sys.argv[1])):
        for name in [b"."] + directories + files:
            path = os.path.join(directory, name)
            names = listed(path)
            if names == sorted(names):
                continue
            values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
            for name in names:
                os.removexattr(path, name, follow_symlinks=False)
            for name in sorted(names):
                os.setxattr(path, name, values[name], follow_symlinks=False)
            if listed(path) != sorted(names):
                sys.exit("The attributes of %r are listed as %r" % (path, listed(path)))


if __name__ == "__main__":
    main()
