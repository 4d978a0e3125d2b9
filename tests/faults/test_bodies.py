"""Bodies that break off, come too slowly or with wrong bytes, and ranges that are not what was
asked for."""
import errno

from scene import FaultCase

CUT = 5000  # bytes, after which bodies break off


class BrokenOff(FaultCase):
    """A connection that ends before the answer is complete."""

    def test_reset_before_the_answer(self):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("reset", times=1)
        self.assert_reads(mount)
        self.assertEqual(self.gets("status", "range"), [(None, None), (200, None)])

    def resumed(self, kind):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk(kind, after=CUT, times=1)
        self.assert_reads(mount)
        size = self.image.chunk.size
        self.assertEqual(self.gets("status", "range", "sent"),
                         [(200, None, CUT), (206, f"bytes={CUT}-", size - CUT)])

    def test_reset_within_the_body(self):
        self.resumed("reset")

    def test_truncated(self):
        self.resumed("truncate")

    def test_truncated_again_and_again(self):
        self.start_registry()
        self.fault_chunk("truncate", after=20_000)
        self.assert_reads(self.mount(outage=5))
        sizes = self.gets("sent")
        self.assertEqual(sum(sizes), self.image.chunk.size)
        self.assertEqual(sizes[:-1], [20_000] * (len(sizes) - 1))

    def test_right_bytes_whatever_is_asked_for(self):
        for kind in ("reset", "truncate"):
            self.start_registry()
            mount = self.mount()
            self.fault_chunk(kind, after=CUT, times=1)
            self.assert_reads(mount)
            self.assertEqual(len(self.gets()), 2)
            self.fault_chunk(kind, after=CUT, times=1)
            self.pull()
            self.assertEqual(len(self.gets()), 4)

    def test_nothing_ever_but_headers(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("truncate", after=0)
        self.assertGreaterEqual(self.assert_fails(errno.EIO, mount), 2)
        self.assertIn(len(self.failed_requests), range(2, 16))

    def test_resets_for_ever(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("reset")
        self.assertGreaterEqual(self.assert_fails(errno.EIO, mount), 2)
        self.assertIn(len(self.failed_requests), range(2, 16))
        self.assertIn("Cannot reach registry " + self.registry.host, mount.said())

    def test_pull_resumes(self):
        self.start_registry()
        self.fault_chunk("truncate", after=CUT, times=1)
        self.pull()
        self.assertEqual(self.gets("range"), [None, f"bytes={CUT}-"])

    def test_mounting_resumes_the_metadata(self):
        self.start_registry()
        self.registry.fault("reset", match={"path": self.image.metadata}, after=100, times=1)
        self.assert_reads(self.mount())
        ranges = [entry["range"] for entry in self.registry.requests("GET", self.image.metadata)]
        self.assertEqual(ranges, [None, "bytes=100-"])

    def test_a_manifest_that_breaks_off(self):
        self.start_registry()
        self.registry.fault("truncate", match={"path": "/manifests/"}, after=100, times=1)
        self.assert_reads(self.mount())
        self.assertEqual(self.count(path="/manifests/"), 2)


class Ranges(FaultCase):
    """What may go wrong when a body is resumed."""

    def cut_then(self, kind, **details):
        """The first body breaks off, and the next answer has that fault."""
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("truncate", after=CUT, times=1)
        self.fault_chunk(kind, times=1, **details)
        self.assert_reads(mount)
        return mount

    def test_200_to_a_range_is_taken_whole_and_remembered(self):
        mount = self.cut_then("whole")
        self.assertEqual(self.gets("status", "range"), [(200, None), (200, f"bytes={CUT}-")])
        mount.end()
        # Of one mount, the next body that breaks off.
        self.start_registry()
        mount = self.mount()
        first, second = self.image.chunks[0], self.image.chunks[-1]
        for chunk in (first, second):
            self.fault_chunk("truncate", chunk=chunk, after=CUT, times=1)
            self.fault_chunk("whole", chunk=chunk)
        for chunk in (first, second):
            self.assertEqual(mount.read_once(chunk), self.right_part(chunk))
        self.assertEqual(self.gets("range", chunk=first), [None, f"bytes={CUT}-"])
        self.assertEqual(self.gets("range", chunk=second), [None, None])
        self.assert_reads(mount)

    def test_another_start_is_not_trusted(self):
        self.cut_then("content_range", shift=1)
        self.assertEqual(self.gets("status", "range"),
                         [(200, None), (206, f"bytes={CUT}-"), (200, None)])

    def test_another_total_is_not_trusted(self):
        self.cut_then("content_range", total=1 << 40)
        self.assertEqual(self.gets("status", "range"),
                         [(200, None), (206, f"bytes={CUT}-"), (200, None)])

    def test_a_wrong_byte_in_the_rest_is_noticed(self):
        self.cut_then("flip", at=10)
        self.assertEqual(self.gets("range", "cache_control"),
                         [(None, None), (f"bytes={CUT}-", None), (None, "no-cache")])

    def test_a_rest_that_is_too_short(self):
        self.cut_then("short", bytes=100)
        self.assertEqual(self.gets("range")[:2], [None, f"bytes={CUT}-"])
        self.assertLessEqual(len(self.gets()), 4)

    def test_416_to_a_range_is_asked_for_whole(self):
        self.cut_then("status", status=416)
        self.assertEqual(self.gets("status", "range"),
                         [(200, None), (416, f"bytes={CUT}-"), (200, None)])

    def test_206_without_having_asked(self):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("status", status=206, body="x" * 100,
                         headers={"Content-Range": f"bytes 0-99/{self.image.chunk.size}"})
        self.assert_fails(errno.EIO, mount)
        self.assertEqual(self.failed_requests, [206])
        self.assertIn("206 Partial Content", mount.said())


class WrongBytes(FaultCase):
    """Bodies that are complete, and of another content."""

    def once(self, kind, **details):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk(kind, times=1, **details)
        self.assert_reads(mount)
        self.assertEqual(self.gets("status", "cache_control"), [(200, None), (200, "no-cache")])

    def for_ever(self, kind, **details):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk(kind, **details)
        self.assert_fails(errno.EIO, mount)
        self.assertEqual(self.failed_requests, [200, 200])
        self.assertIn("sent wrong bytes for the blob " + self.image.chunk.digest, mount.said())

    def test_a_bit_once(self):
        self.once("flip")

    def test_a_bit_for_ever(self):
        self.for_ever("flip")

    def test_short_once(self):
        self.once("short", bytes=1000)

    def test_short_for_ever(self):
        self.for_ever("short", bytes=1000)

    def test_empty_for_ever(self):
        self.for_ever("short", bytes=0)

    def test_no_other_file_is_concerned(self):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("flip")
        for path, data in self.image.files.items():
            if data is not self.right:
                self.assertEqual(mount.read(path), data)
        self.assertEqual(self.gets(), [])

    def test_metadata(self):
        self.start_registry()
        self.registry.fault("flip", match={"path": self.image.metadata})
        self.assertIn(self.image.metadata, self.refused_mount())
        self.assertEqual(self.count(path=self.image.metadata), 2)
        self.registry.heal()
        self.assert_reads(self.mount())

    def test_a_manifest_by_digest(self):
        self.start_registry()
        self.name = self.name.replace(":latest", "@" + self.image.manifest)
        self.registry.fault("flip", match={"path": "/manifests/"}, at=5)
        self.assertIn("sent another document for manifest", self.refused_mount())
        self.registry.heal()
        self.assert_reads(self.mount())

    def test_pull(self):
        self.start_registry()
        self.fault_chunk("flip")
        self.assertIn(self.image.chunk.digest, self.pull(status=1))
        self.assertEqual(self.gets("cache_control"), [None, "no-cache"])
        self.registry.heal()
        self.pull()


class Slow(FaultCase):
    """Servers that hang on the line. Deadlines are 2 s here, whereas a stall is one after 30 s."""

    def test_a_stall_before_the_answer_ends_at_the_deadline(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("stall")
        self.assertGreaterEqual(self.assert_fails(errno.EIO, mount), 1.9)
        self.assertLessEqual(len(self.failed_requests), 2)

    def test_a_stall_of_the_body_ends_at_the_deadline(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("stall", after=0)
        self.assert_fails(errno.EIO, mount)
        self.assertLessEqual(len(self.failed_requests), 2)

    def test_a_stall_within_the_body_ends(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("stall", after=CUT, times=1)  # the deadline counts from here on
        self.fault_chunk("stall", after=0)
        self.assert_fails(errno.EIO, mount)
        self.assertLessEqual(len(self.failed_requests), 4)

    def test_a_stall_within_the_body_ends_at_the_deadline(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("stall", after=CUT, times=1)
        self.assertLess(self.assert_reads(mount), 30)
        self.assertEqual(self.gets("range"), [None, f"bytes={CUT}-"])

    def test_a_stall_of_the_manifest_ends_when_mounting_has_waited_long_enough(self):
        self.start_registry()
        self.registry.fault("stall", match={"path": "/manifests/"})
        seconds, said = self.timed(self.refused_mount)
        self.assertLess(seconds, 30)
        self.assertIn("Cannot reach registry " + self.registry.host, said)

    def test_a_stall_that_is_over_is_forgotten(self):
        self.start_registry()
        mount = self.mount(outage=5)
        self.fault_chunk("stall")
        self.assert_fails(errno.EIO, mount)
        self.assertLessEqual(len(self.failed_requests), 3)

    def test_a_byte_now_and_then_is_a_stall(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("drip", bytes=1, seconds=0.3)
        self.assert_fails(errno.EIO, mount)

    def test_a_slow_server_is_waited_for(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("drip", bytes=6000, seconds=0.4)  # 4 s and more: longer than the deadline
        self.assert_reads(mount)
        self.assertEqual(self.gets("status"), [200])
