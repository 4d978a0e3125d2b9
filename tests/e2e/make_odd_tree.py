#!/usr/bin/env python3
"""make_odd_tree.py DIR: a tree of what Linux allows and few trees have. Needs root and setfacl."""
import os
import socket
import stat
import subprocess
import sys

DEEP = 1000
MANY_LINKS = 1000
# The largest owner: 2^32 - 1 means "leave it".
OWNERS = (1, 65535, 65536, 2**31 - 1, 2**31, 3_000_000_000, 2**32 - 2)


def write(path, data=b""):
    with open(path, "wb") as file:
        file.write(data)


def add_names():
    for byte in range(1, 256):
        if byte not in b"/.":
            write(bytes([byte]), b"%d" % byte)
    for name in (b"...", b".hidden", b" ", b"--", b"-rf", b"*", b"a\nb\n", b"back\\slash", b"\\n",
                 b"\xff\xfe", b"\xed\xa0\x80", b"e\xcc\x81", b"\xc3\xa9", b"l" * 255,
                 b"\xff" * 255, b"d" * 254):
        write(name, name)
    os.mkdir(b"\x80" * 255)
    write(b"\x80" * 255 + b"/" + b"\n" * 255, b"both")


def add_links():
    os.symlink("s" * 4095, "longest")
    os.symlink(b"\xff\n\\", "bytes")
    os.symlink("/", "root")
    os.symlink("self", "self")
    write("many")
    for index in range(MANY_LINKS):
        os.link("many", "many-%d" % index)
    os.mkdir("far")
    for name, mode in (("pipe", stat.S_IFIFO), ("device", stat.S_IFCHR), ("file", stat.S_IFREG)):
        os.mknod(name, mode | 0o640, os.makedev(1, 3))
        os.link(name, "far/" + name)
    os.link("bytes", "far/bytes", follow_symlinks=False)


def add_kinds():
    for major, minor in ((0, 0), (1, 255), (255, 256), (4095, 1048575)):
        os.mknod("character-%d-%d" % (major, minor), stat.S_IFCHR | 0o600, os.makedev(major, minor))
        os.mknod("block-%d-%d" % (major, minor), stat.S_IFBLK | 0o600, os.makedev(major, minor))
    os.mkfifo("pipe")
    socket.socket(socket.AF_UNIX).bind("socket")
    write("empty")
    os.mkdir("empty-directory")
    for kind in os.listdir("."):
        os.setxattr(kind, "trusted.kind", kind.encode(), follow_symlinks=False)


def add_modes():
    for mode in range(0o10000):
        write("%04o" % mode)
        os.chmod("%04o" % mode, mode)
    os.mkdir("directories")
    for special in range(8):
        for mode in (0, 0o100, 0o555, 0o700, 0o777):
            path = "directories/%d%03o" % (special, mode)
            os.mkdir(path)
            write(path + "/inside", path.encode())
            os.chmod(path, special << 9 | mode)


def add_owners():
    for uid in OWNERS:
        for gid in (0, uid):
            name = "%d-%d" % (uid, gid)
            write(name)
            os.chown(name, uid, gid)
            os.chmod(name, 0o6755)  # after the change of owner, which clears these bits
            os.symlink(name, name + "-link")
            os.chown(name + "-link", uid, gid, follow_symlinks=False)


def add_attributes():
    write("file", b"with attributes")
    os.setxattr("file", "user." + "n" * 250, b"the longest name")
    os.setxattr("file", b"user.\xff\n", b"")
    os.setxattr("file", "security.anything", b"\0\1\2")
    os.setxattr("file", "trusted.overlay.opaque", b"y")
    write("large")
    os.setxattr("large", "user.large", bytes(range(256)) * 12)
    write("capable", b"#!/bin/false\n")
    os.chown("capable", 1000, 1000)
    os.chmod("capable", 0o4755)
    os.setxattr("capable", "security.capability",
                bytes.fromhex("0100000200200000000000000000000000000000"))
    os.symlink("nowhere", "link")
    os.setxattr("link", "trusted.of-link", b"1", follow_symlinks=False)
    write("readable", b"by some")
    os.mkdir("passes-on")
    os.chmod("readable", 0o600)
    subprocess.check_call(["setfacl", "-m", "u:1000:r,g:2000:rw,m::r", "readable"])
    # The bits of its group are those of the mask: the group itself may not read it.
    write("withheld", b"from its group")
    os.chown("withheld", 0, 3000)
    os.chmod("withheld", 0o600)
    subprocess.check_call(["setfacl", "-m", "u:1000:r,g::-,m::rw", "withheld"])
    write("open", b"to all")
    os.chown("open", 3000, 3000)
    subprocess.check_call(["setfacl", "-m", "u:1000:r", "open"])
    subprocess.check_call(["setfacl", "-m", "u:1000:rwx,d:u:1000:rwx,d:o::-", "passes-on"])
    # After that, so that it must not have what its directory passes on.
    write("passes-on/plain")
    subprocess.check_call(["setfacl", "-b", "passes-on/plain"])
    os.chmod("passes-on/plain", 0o644)


def add_deep():
    """Deeper than a path may be long: each step is relative to the last directory."""
    directory = os.open(".", os.O_RDONLY)
    for level in range(DEEP):
        name = "level-%04d" % level
        os.mkdir(name, dir_fd=directory)
        lower = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = lower
        if level % 100 == 99:
            fd = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
            os.write(fd, name.encode())
            os.setxattr(fd, "user.level", name.encode())
            os.close(fd)
            os.symlink(name, "link", dir_fd=directory)
    os.close(directory)


def main():
    top = os.path.abspath(sys.argv[1])
    for add in (add_names, add_links, add_kinds, add_modes, add_owners, add_attributes, add_deep):
        directory = "%s/%s" % (top, add.__name__[len("add_"):])
        os.makedirs(directory)
        os.chdir(directory)
        add()


if __name__ == "__main__":
    os.umask(0o022)
    main()
