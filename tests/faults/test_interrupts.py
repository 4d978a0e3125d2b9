"""Readers of a packed image, and mounts of it, that end while a slow registry sends what they wait
for: the request ends too, unless somebody else waits for it."""
import os
import random
import subprocess

from scene import FaultCase, REPOSITORY

SLOWLY = {"bytes": 1000, "seconds": 0.1}  # a request takes six seconds and more
LARGE, SMALL = 4_000_000, 5000


class Interrupts(FaultCase):
    def setUp(self):
        super().setUp()
        numbers = random.Random(7)
        self.files = {"large": numbers.randbytes(LARGE), "small": numbers.randbytes(SMALL)}
        tree = self.work / "tree"
        tree.mkdir()
        for name, content in self.files.items():
            (tree / name).write_bytes(content)
        self.start_registry()
        self.name = f"{self.registry.host}/{REPOSITORY}:packed"
        subprocess.run(self.command("build", tree, self.work / "layout"), check=True,
                       stdout=subprocess.DEVNULL)
        self.run_puzzlefs("push", str(self.work / "layout"), self.name)
        self.mounted = self.mount()
        self.begun = self.count("GET")

    @staticmethod
    def command(*words):
        return [os.environ.get("PUZZLEFS", "puzzlefs"), *map(str, words)]

    def slow_down(self):
        self.registry.fault("drip", match={"method": "GET", "path": "/blobs/"}, **SLOWLY)

    def start_reader(self, name="large"):
        """Of the first bytes. A large file is read past the kernel's cache, since of read-ahead
        the kernel tells nobody that its reader has gone."""
        flags = ["iflag=direct"] if name == "large" else []
        process = subprocess.Popen(
            ["dd", f"if={self.mounted.point / name}", "bs=4096", "count=1", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        return process

    def requests(self):
        """Those since the mount."""
        return self.registry.requests("GET")[self.begun:]

    def wait_for_bytes(self):
        self.wait_until(lambda: any(entry["sent"] for entry in self.requests()))

    def assert_ended_early(self):
        """The only request, of which most has not been sent."""
        self.wait_until(lambda: all(entry["ended"] for entry in self.requests()), within=5)
        [request] = self.requests()
        first, last = request["range"].removeprefix("bytes=").split("-")
        size = (int(last) if last else LARGE) - int(first) + 1
        self.assertGreater(size, 50_000)
        self.assertLess(request["sent"], size / 2)

    def kill(self, reader):
        reader.kill()
        reader.wait(10)

    def killed(self, name):
        self.slow_down()
        reader = self.start_reader(name)
        self.wait_for_bytes()
        self.kill(reader)
        self.assert_ended_early()
        self.registry.heal()
        self.assertTrue(self.mounted.read(name) == self.files[name], "other bytes were read")

    def test_killed_in_a_read(self):
        self.killed("large")

    def test_killed_in_an_open(self):
        self.killed("small")

    def test_others_are_not_hurt(self):
        self.slow_down()
        first, second = self.start_reader(), self.start_reader()
        self.wait_for_bytes()
        self.kill(first)
        self.assertTrue(second.stdout.read() == self.files["large"][:4096])
        self.assertEqual(second.wait(10), 0)

    def test_unmounting(self):
        self.slow_down()
        reader = self.start_reader()
        self.wait_for_bytes()
        seconds, _ = self.timed(self.mounted.end)
        self.assertLess(seconds, 10)
        self.assertNotEqual(reader.wait(10), 0)
        self.assert_ended_early()
