"""The trees of the soak test: made from a seed, of files from none to 8 MiB, with contents that the
images share wholly or in part."""

import random

LIBRARIES = 24
LARGEST = 8 << 20


def content(source, size):
    """So many bytes: half of the files compress well."""
    if source.random() < 0.5:
        return source.randbytes(size)
    words = [source.randbytes(source.randrange(2, 12)) for _ in range(200)]
    text = b"".join(source.choices(words, k=min(size, 64 << 10) // 6 + 1))
    # Not one chunk again and again.
    parts = [text[source.randrange(len(text) // 2):] for _ in range(size * 2 // len(text) + 2)]
    return b"".join(parts)[:size].ljust(size, b"\0")


def some_size(source):
    kind = source.random()
    if kind < 0.1:
        return source.choice((0, 1, 4095, 4096, 4097))
    if kind < 0.7:
        return source.randrange(1, 32 << 10)
    if kind < 0.97:
        return source.randrange(32 << 10, 1 << 20)
    return source.randrange(1 << 20, LARGEST + 1)


def libraries(seed):
    source = random.Random(f"{seed} libraries")
    return [content(source, source.randrange(100 << 10, 3 << 20)) for _ in range(LIBRARIES)]


def changed(source, data):
    """A version of a library: a few bytes put in somewhere."""
    at = source.randrange(len(data))
    return data[:at] + source.randbytes(10) + data[at:]


def make_tree(root, source, shared, size):
    """Returns the files' paths in the tree and their sizes."""
    files = []

    def add(directory, data):
        path = f"{directory}/file{len(files)}"
        (root / directory).mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        files.append((path, len(data)))
        return len(data)

    total = add("empty", b"")
    while total < size:
        kind = source.random()
        if kind < 0.15:
            total += add("lib", source.choice(shared))
        elif kind < 0.2:
            total += add("lib/versions", changed(source, source.choice(shared)))
        else:
            directory = f"share/{source.randrange(4)}/{source.randrange(4)}"
            total += add(directory, content(source, some_size(source)))
    return files, total


def make_trees(directory_of, count, seed, mebibytes):
    """Makes a tree in directory_of(number) for each. Returns the files of each, and all bytes."""
    shared = libraries(seed)
    files, total = [], 0
    for number in range(count):
        found, size = make_tree(directory_of(number), random.Random(f"{seed} tree {number}"), shared,
                                mebibytes << 20)
        files.append(found)
        total += size
    return files, total
