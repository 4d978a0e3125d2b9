#!/usr/bin/env python3
"""file_chunks.py LAYOUT TAG PATH: the digests of the chunks that hold a file, one a line, sorted.

Reads the image with Cap'n Proto's own tool and none of the code under test. Without PATH: the
digest of the metadata blob.
"""
import json
import os
import subprocess
import sys

SCHEMA = os.path.join(os.path.dirname(__file__), "../../schema/metadata.capnp")


def blob_path(layout, digest):
    return os.path.join(layout, "blobs", *digest.split(":"))


def manifest_of(layout, tag):
    with open(os.path.join(layout, "index.json"), encoding="utf-8") as file:
        index = json.load(file)
    for entry in index["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag:
            with open(blob_path(layout, entry["digest"]), encoding="utf-8") as file:
                return json.load(file)
    sys.exit("no tag " + tag)


def inodes_of(metadata_path):
    with open(metadata_path, "rb") as file:
        text = subprocess.run(["capnp", "convert", "binary:json", SCHEMA, "Rootfs"], stdin=file,
                              capture_output=True, check=True).stdout
    return {int(inode["ino"]): inode for layer in reversed(json.loads(text)["metadatas"])
            for inode in layer["inodes"]}


def find(inodes, path):
    inode = inodes[1]
    for part in path.strip("/").split("/"):
        entries = {bytes(e["name"]).decode("utf-8", "surrogateescape"): int(e["ino"])
                   for e in inode["mode"]["dir"]["entries"]}
        inode = inodes[entries[part]]
    return inode


def main():
    layout, tag = sys.argv[1:3]
    metadata = manifest_of(layout, tag)["layers"][0]["digest"]
    if len(sys.argv) == 3:
        print(metadata)
        return
    inode = find(inodes_of(blob_path(layout, metadata)), sys.argv[3])
    for digest in sorted({bytes(c["blob"]["digest"]).hex() for c in inode["mode"]["file"]}):
        print("sha256:" + digest)


if __name__ == "__main__":
    main()
