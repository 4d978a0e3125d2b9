"""What the tests of faults share: an image, mounts of it, and commands of puzzlefs.

From the environment: PUZZLEFS, the command. Sanitizers slow it down: no test has an upper bound on
time that is near to what it takes.
"""
import base64
import copy
import dataclasses
import functools
import hashlib
import json
import mmap
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from fault_registry import FaultRegistry
from protocol import Store

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PUZZLEFS = os.environ.get("PUZZLEFS", str(PROJECT / "build/release/bin/puzzlefs"))
SCHEMA = PROJECT / "schema/metadata.capnp"
REPOSITORY = "faults/tree"
USER, PASSWORD = "ali", "open-sesame-5117"
FOR_EVER = 120  # seconds, after which a command or a mount is taken to hang
VICTIM = "d3/f31"


def environment(home):
    """The tests' own user may have logged in somewhere, or go through a proxy."""
    gone = ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
            "XDG_STATE_HOME", "PUZZLEFS_LOG", "http_proxy", "https_proxy", "all_proxy")
    kept = {k: v for k, v in os.environ.items() if k not in gone and k.lower() not in gone}
    return {**kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


@dataclasses.dataclass
class Chunk:
    digest: str
    offset: int  # in the file
    size: int

    @property
    def place(self):
        """Where reads past the kernel's cache may begin in it."""
        return (self.offset + 4095) // 4096 * 4096


@dataclasses.dataclass
class Image:
    """A tree, and a registry's store into which it was pushed."""
    files: dict  # path: bytes
    store: Store
    manifest: str
    metadata: str
    blobs: int  # how many it has, with the manifest
    chunks: list  # of the file VICTIM, but for those that it shares with others; in its order

    @property
    def chunk(self):
        """The one that has faults where one will do."""
        return self.chunks[len(self.chunks) // 2]


def _chunks_of(metadata, path):
    # By Cap'n Proto's own tool, and none of the code under test.
    text = subprocess.run(["capnp", "convert", "binary:json", SCHEMA, "Rootfs"], input=metadata,
                          capture_output=True, check=True).stdout
    inodes = {int(inode["ino"]): inode["mode"] for layer in json.loads(text)["metadatas"]
              for inode in layer["inodes"]}
    mode = inodes[1]
    for part in path.split("/"):
        mode = next(inodes[int(entry["ino"])] for entry in mode["dir"]["entries"]
                    if bytes(entry["name"]).decode() == part)
    pieces, offset = [], 0
    for piece in mode["file"]:
        pieces.append(Chunk("sha256:" + bytes(piece["blob"]["digest"]).hex(), offset,
                            int(piece["len"])))
        offset += pieces[-1].size
    return pieces[1:-1]


@functools.lru_cache(maxsize=None)
def image():
    """Made once, with the commands of puzzlefs."""
    with tempfile.TemporaryDirectory(prefix="puzzlefs-faults.") as name:
        work = pathlib.Path(name)
        numbers, files = random.Random(5), {}
        for number in range(40):
            path = f"d{number % 4}/f{number}"
            size = 600_000 if path == VICTIM else numbers.randrange(1000, 100_000)
            files[path] = numbers.randbytes(size)
            (work / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
            (work / "tree" / path).write_bytes(files[path])
        with FaultRegistry() as registry:
            name = f"{registry.host}/{REPOSITORY}:latest"
            for arguments in (["build", str(work / "tree"), str(work / "layout")],
                              ["push", "--layout", "keep", "--plain-http", str(work / "layout"), name]):
                subprocess.run([PUZZLEFS, *arguments], check=True, env=environment(work),
                               stdout=subprocess.DEVNULL, timeout=FOR_EVER)
            store = registry.registry.store
        manifest = store.repository(REPOSITORY)["tags"]["latest"]
        metadata = json.loads(store.blobs[manifest])["layers"][0]["digest"]
        return Image(files, store, manifest, metadata, len(store.blobs),
                     _chunks_of(store.blobs[metadata], VICTIM))


class Mount:
    """A mount in the foreground: its process is ours, and what it says is in a file."""

    def __init__(self, work, arguments, extra_environment):
        self.point = work / f"mnt{len(list(work.glob('mnt*')))}"
        self.point.mkdir()
        self.messages = self.point.with_suffix(".messages")
        with open(self.messages, "wb") as file:
            self.process = subprocess.Popen(
                [PUZZLEFS, "mount", "-f", *arguments, str(self.point)], stdin=subprocess.DEVNULL,
                stdout=file, stderr=file, env={**environment(work), **extra_environment})
        # Readers of a mount that hangs must not hang for ever.
        self._watchdog = threading.Timer(FOR_EVER, self.process.kill)
        self._watchdog.start()
        while not os.path.ismount(self.point):
            if self.process.poll() is not None:
                self._watchdog.cancel()
                raise AssertionError("cannot mount: " + self.said())
            time.sleep(0.01)

    def said(self):
        return self.messages.read_text(errors="replace")

    def read(self, path=VICTIM):
        return (self.point / path).read_bytes()

    def read_once(self, chunk):
        """A part of that chunk of VICTIM, past the kernel's cache: the kernel asks for it once,
        where it would ask twice for what it cannot read ahead."""
        buffer = mmap.mmap(-1, 4096)
        descriptor = os.open(self.point / VICTIM, os.O_RDONLY | os.O_DIRECT)
        try:
            return buffer[:os.preadv(descriptor, [buffer], chunk.place)]
        finally:
            os.close(descriptor)

    def end(self):
        self._watchdog.cancel()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        subprocess.run(["umount", "-l", self.point], stderr=subprocess.DEVNULL, check=False)
        return self.process.returncode


class FaultCase(unittest.TestCase):
    """A test with its own registry, cache and mounts."""

    def setUp(self):
        self.image = image()
        directory = tempfile.TemporaryDirectory(prefix="puzzlefs-faults.")
        self.addCleanup(directory.cleanup)
        self.work = pathlib.Path(directory.name)
        self.addCleanup(self.unmount_all)
        self.right = self.image.files[VICTIM]

    def unmount_all(self):
        """Whatever should not have been mounted, or is still."""
        for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
            point = line.split()[1]
            if point.startswith(f"{self.work}/"):
                subprocess.run(["umount", "-l", point], check=False)

    def start_registry(self, **options):
        """A registry with the image. Sets self.registry, self.name and a new self.cache."""
        self.registry = FaultRegistry(copy.deepcopy(self.image.store), **options)
        self.addCleanup(self.registry.stop)
        self.name = f"{self.registry.host}/{REPOSITORY}:latest"
        self.cache = pathlib.Path(tempfile.mkdtemp(prefix="cache", dir=self.work))
        return self.registry

    def log_in(self):
        """The options that name a file with the password."""
        secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.log_in_with(auth=secret)

    def log_in_with(self, **entry):
        """The options that name a file with this entry for the registry."""
        file = self.work / "new-auth.json"
        file.write_text(json.dumps({"auths": {self.registry.host: entry}}))
        file.rename(self.work / "auth.json")
        return ["--authfile", str(self.work / "auth.json")]

    def mount(self, *options, outage=20, env=None, prefetch=("--prefetch", "none")):
        """Asks for nothing but what is read, unless told otherwise."""
        arguments = ["--plain-http", "--cache-dir", str(self.cache),
                     f"--on-outage=fail:{outage}", *prefetch, *options, self.name]
        mount = Mount(self.work, arguments, env or {})
        self.addCleanup(self.check_cache, self.cache)
        self.addCleanup(self.end, mount)
        return mount

    def end(self, mount):
        """Unmounts. The process must not have crashed, nor have a sanitizer's complaints; of one
        that hung and was killed the readers know."""
        self.assertIn(mount.end(), (0, -signal.SIGKILL), mount.said())
        self.assertNotIn("Sanitizer", mount.said())

    def run_puzzlefs(self, command, *arguments, status=0, env=None):
        """What it wrote to standard error, or to standard output if that is nothing. It must not
        take a minute."""
        start = time.monotonic()
        done = subprocess.run([PUZZLEFS, command, "--plain-http", *arguments], check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=FOR_EVER,
                              env={**environment(self.work), **(env or {})})
        said = (done.stderr or done.stdout).decode(errors="replace")
        self.assertEqual(done.returncode, status, said)
        self.assertLess(time.monotonic() - start, 60, said)
        self.assertNotIn("Sanitizer", said)
        return said

    def refused_mount(self, *options):
        """What the mount command says, which must fail."""
        point = self.work / "nowhere"
        point.mkdir(exist_ok=True)
        return self.run_puzzlefs("mount", "--cache-dir", str(self.cache), *options, self.name,
                                 str(point), status=1)

    def pull(self, *options, status=0):
        layout = pathlib.Path(tempfile.mkdtemp(prefix="layout", dir=self.work)) / "layout"
        said = self.run_puzzlefs("pull", *options, self.name, str(layout), status=status)
        if status == 0:
            self.check_cache(layout)
            self.assertEqual(len(list(layout.glob("blobs/sha256/*"))), self.image.blobs)
        return said

    def check_cache(self, cache):
        """It has blobs, and none is other than its name says."""
        blobs = [file for file in cache.glob("**/blobs/sha256/**/*") if file.is_file()]
        self.assertTrue(blobs)
        for blob in blobs:
            self.assertEqual(hashlib.sha256(blob.read_bytes()).hexdigest(), blob.name)

    def count(self, method=".*", path="", server=""):
        return len(self.registry.requests(method, path, server))

    def gets(self, *fields, chunk=None, server=""):
        """Those fields of the requests for the chunk that has faults, or another."""
        chunk = chunk or self.image.chunk
        found = self.registry.requests("GET", chunk.digest, server)
        return [get[fields[0]] if len(fields) == 1 else tuple(get[field] for field in fields)
                for get in found]

    def fault_chunk(self, kind, *, chunk=None, server="", **details):
        chunk = chunk or self.image.chunk
        match = {"method": "GET", "path": chunk.digest, "server": server}
        return self.registry.fault(kind, match=match, **details)

    def timed(self, call):
        """The seconds that a call took, and what it returned or, of an OSError, threw."""
        start = time.monotonic()
        try:
            result = call()
        except OSError as error:
            result = error
        return time.monotonic() - start, result

    def wait_until(self, condition, within=60):
        end = time.monotonic() + within
        while not condition():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.05)

    def right_part(self, chunk):
        """What read_once must return."""
        return self.right[chunk.place:chunk.place + 4096]

    def assert_reads(self, mount, within=60):
        """The file with the faults reads right, and the chunk with them the first time: after a
        failure the kernel would ask once more. Returns the seconds that it took, which are at most
        so many."""
        start = time.monotonic()
        self.assertTrue(mount.read_once(self.image.chunk) == self.right_part(self.image.chunk),
                        "other bytes were read")  # not to be printed
        self.assertTrue(mount.read() == self.right, "other bytes were read")
        seconds = time.monotonic() - start
        self.assertLess(seconds, within)
        return seconds

    def assert_fails(self, number, mount, within=30):
        """The chunk with the faults cannot be read, which the reader learns in so many seconds; and
        as soon as the registry behaves, it can. Returns how many seconds they were."""
        seconds, error = self.timed(lambda: mount.read_once(self.image.chunk))
        self.registry.heal()
        error = error if isinstance(error, OSError) else None
        self.assertIsInstance(error, OSError, "it was read")
        self.assertEqual(error.errno, number, error)
        self.assertLess(seconds, within)
        self.failed_requests = self.gets("status")
        self.assert_reads(mount)
        return seconds
