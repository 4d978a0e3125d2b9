"""Trees of many small files, the same each time, and where their names are."""
import os
import random

PER_FOLDER = 200
PER_PART = 100_000  # files below each folder of the root


def path_of(index):
    """Of a file of a tree, within it."""
    return f"part {index // PER_PART}/folder {index // PER_FOLDER}/file {index}.txt"


def folders(files):
    """Those of the first so many files."""
    return [os.path.dirname(path_of(index)) for index in range(0, files, PER_FOLDER)]


def contents_of(index, largest):
    """Text that can be compressed to a half, of up to so many bytes."""
    return random.Random(index).randbytes(largest * (1 + index % 40) // 80).hex().encode()


def make(root, files, filled=1, largest=800):
    """So many files, of which every so-manieth has contents."""
    for index in range(files):
        path = os.path.join(root, path_of(index))
        if index % PER_FOLDER == 0:
            os.makedirs(os.path.dirname(path))
        with open(path, "wb", buffering=0) as file:
            if index % filled == 0:
                file.write(contents_of(index, largest))
