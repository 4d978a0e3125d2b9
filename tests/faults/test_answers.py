"""Answers that say no, later, or nothing that can be understood."""
import concurrent.futures
import errno
import json
import time

from scene import PASSWORD, REPOSITORY, USER, FaultCase

MANIFEST = {"method": "GET", "path": "/manifests/"}
TAGS = {"method": "GET", "path": "/tags/list"}


class Referrers(FaultCase):
    """A mount asks in the background, once, whether a trace is attached to its image."""

    def does_without(self, kind, **details):
        """Reads and the end of the mount wait for nothing. Returns what the mount has said."""
        self.start_registry()
        self.registry.fault(kind, match={"method": "GET", "path": "/referrers/"}, **details)
        mount = self.mount(prefetch=())
        self.wait_until(lambda: self.count(path="/referrers/"))
        self.assert_reads(mount, within=4)  # it is given up after 5 s
        seconds, _ = self.timed(lambda: self.end(mount))
        self.assertLess(seconds, 4)
        self.assertEqual(self.count(path="/referrers/"), 1)
        return mount.said()

    def test_no_answer(self):
        self.assertEqual(self.does_without("stall"), "")

    def test_an_answer_that_never_ends(self):
        self.assertEqual(self.does_without("endless", how="chunked"), "")

    def test_a_busy_server_is_not_left_alone(self):
        said = self.does_without("status", status=503, headers={"Retry-After": "100"})
        self.assertEqual(said, "")

    def test_a_login_page(self):
        self.assertEqual(self.does_without("html"), "")


class Busy(FaultCase):
    """Statuses that say that it may work later."""

    def recovers(self, status, **headers):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("status", status=status, headers=headers, times=1)
        seconds = self.assert_reads(mount)
        self.assertEqual(self.gets("status"), [status, 200])
        return seconds

    def test_500_once(self):
        self.recovers(500)

    def test_502_once(self):
        self.recovers(502)

    def test_503_once(self):
        self.recovers(503)

    def test_408_once(self):
        self.recovers(408)

    def test_retry_after_of_a_429_is_obeyed(self):
        self.assertGreaterEqual(self.recovers(429, **{"Retry-After": "1"}), 1)

    def test_retry_after_holds_back_all_requests(self):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("status", status=503, headers={"Retry-After": "5"}, times=1)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            victim = pool.submit(mount.read)
            self.wait_until(lambda: self.gets("status") == [503])
            time.sleep(1)  # for the answer to arrive
            asked = time.time()
            other = pool.submit(mount.read, "d0/f0")
            self.assertEqual(other.result(), self.image.files["d0/f0"])
            self.assertTrue(victim.result() == self.right, "other bytes were read")
        self.assertEqual(self.gets("status"), [503, 200])
        end = self.gets("time")[0] + 5  # or later, as the answer came later
        times = [entry["time"] for entry in self.registry.requests()]
        self.assertEqual([when for when in times if asked < when < end], [])
        self.assertGreater(len([when for when in times if when >= end]), 1)

    def test_retry_after_beyond_the_deadline_is_an_error_at_once(self):
        self.start_registry()
        mount = self.mount(outage=30)
        self.fault_chunk("status", status=429, headers={"Retry-After": "100"})
        seconds, error = self.timed(lambda: mount.read_once(self.image.chunk))
        self.assertEqual(error.errno, errno.EIO)
        self.assertLess(seconds, 30)
        self.assertEqual(self.gets("status"), [429])

    def test_retry_after_beyond_the_deadline_is_over_some_time(self):
        self.start_registry()
        mount = self.mount(outage=1)
        self.fault_chunk("status", status=429, headers={"Retry-After": "6"}, times=1)
        for _ in range(2):  # the second is not even sent
            seconds, error = self.timed(lambda: mount.read_once(self.image.chunk))
            self.assertIsInstance(error, OSError, "it was read")
            self.assertEqual(error.errno, errno.EIO)
            self.assertLess(seconds, 30)
        self.assertEqual(self.gets("status"), [429])
        self.wait_until(lambda: self.timed(
            lambda: mount.read_once(self.image.chunk))[1] == self.right_part(self.image.chunk))
        self.assertEqual(self.gets("status"), [429, 200])
        refused, served = self.gets("time")
        self.assertGreaterEqual(served - refused, 6)
        self.assert_reads(mount)

    def test_503_for_ever_is_an_error_at_the_deadline(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("status", status=503)
        self.assertGreaterEqual(self.assert_fails(errno.EIO, mount), 2)
        self.assertEqual(set(self.failed_requests), {503})
        self.assertIn(len(self.failed_requests), range(2, 16))  # by chance, in doubling intervals
        self.assertRegex(mount.said(), r"503 Service Unavailable \(tried \d+ times in \d+ s\)")

    def test_pull_goes_on_after_a_503(self):
        self.start_registry()
        self.registry.fault("status", match={"method": "GET", "path": "/blobs/"}, status=503,
                            times=3)
        self.pull()
        blobs = self.registry.requests("GET", "/blobs/")
        self.assertEqual(len(blobs), len({blob["path"] for blob in blobs}) + 3)

    def test_mounting_takes_what_is_cached_when_the_registry_is_busy(self):
        self.start_registry()
        mount = self.mount()
        self.assert_reads(mount)
        mount.end()
        self.registry.fault("status", status=503)
        before = self.count()
        seconds, mount = self.timed(self.mount)
        self.assertLess(seconds, 30)
        self.assert_reads(mount)
        self.assertIn("which " + self.name + " stood for last", mount.said())
        self.assertEqual({entry["status"] for entry in self.registry.requests()[before:]}, {503})


class Refused(FaultCase):
    """Statuses that say no: not asked again, and the next read asks anew."""

    def refuses(self, status, number, requests=1):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("status", status=status)
        self.assert_fails(number, mount)
        self.assertEqual(self.failed_requests, [status] * requests)

    def test_400(self):
        self.refuses(400, errno.EIO)

    def test_401_without_a_challenge_is_tried_once_more(self):
        self.refuses(401, errno.EACCES, requests=2)

    def test_403(self):
        self.refuses(403, errno.EACCES)

    def test_404(self):
        self.refuses(404, errno.ENOENT)

    def test_416_of_a_request_without_a_range(self):
        self.refuses(416, errno.EIO)


class Nonsense(FaultCase):
    """HTML, headers and bodies that are too large, indexes with nothing for this machine."""

    def test_html_for_a_blob_is_asked_for_once_more_past_caches(self):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("html")
        self.assert_fails(errno.EIO, mount)
        self.assertEqual(self.failed_requests, [200, 200])
        self.assertEqual(self.gets("cache_control")[:2], [None, "no-cache"])
        self.assertIn("sent wrong bytes for the blob " + self.image.chunk.digest, mount.said())

    def test_html_for_a_manifest(self):
        self.start_registry()
        self.registry.fault("html", match=MANIFEST)
        self.assertRegex(self.refused_mount(), r"manifest .*faults/tree:latest")
        self.assertEqual(self.count(path="/manifests/"), 1)
        self.assertRegex(self.pull(status=1), r"manifest .*faults/tree:latest")
        self.registry.heal()
        self.assert_reads(self.mount())

    def test_html_for_tags(self):
        self.start_registry()
        self.registry.fault("html", match=TAGS)
        self.assertIn(f"The list of tags of {self.registry.host}/{REPOSITORY} is malformed",
                      self.run_puzzlefs("tags", self.name, status=1))
        self.assertEqual(self.count(), 1)

    def test_html_for_tokens(self):
        self.start_registry(auth="bearer")
        self.registry.fault("html", match={"path": "/token"})
        self.assertIn("The token service's answer holds no token", self.refused_mount())
        self.assertEqual(self.count(path="/token"), 1)
        # The first, which tells that a token is wanted.
        self.assertEqual(self.count(path="/manifests/"), 1)

    def test_html_for_everything(self):
        self.start_registry()
        self.registry.fault("html")
        self.assertRegex(self.refused_mount(), r"manifest .*faults/tree:latest")
        self.assertEqual(self.count(), 1)
        self.assertRegex(self.pull(status=1), r"manifest .*faults/tree:latest")
        self.registry.heal()
        self.assert_reads(self.mount())

    def test_headers_without_measure(self):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("headers", size=1 << 20)
        self.assert_fails(errno.EIO, mount)
        self.assertIn("more than 64 KiB of headers", mount.said())
        self.assertLessEqual(len(self.failed_requests), 2)

    def test_bodies_without_end(self):
        for how in ("chunked", "plain", "announced"):
            with self.subTest(how):
                self.start_registry()
                mount = self.mount()
                self.fault_chunk("endless", how=how)
                self.assert_fails(errno.EIO, mount)
                self.assertLessEqual(len(self.failed_requests), 2)
                self.assertIn(f"more than the {self.image.chunk.size} bytes", mount.said())

    def test_manifests_without_end(self):
        self.start_registry()
        self.registry.fault("endless", match=MANIFEST, how="chunked")
        self.assertRegex(self.refused_mount(), r"more than the \d+ bytes")
        self.assertEqual(self.count(path="/manifests/"), 1)

    def test_tokens_and_tags_without_end(self):
        self.start_registry(auth="bearer", user=USER, password=PASSWORD)
        self.registry.fault("endless", match={"path": "/token"}, how="plain")
        self.assertRegex(self.run_puzzlefs("tags", *self.log_in(), self.name, status=1),
                         r"more than the \d+ bytes")
        self.start_registry()
        self.registry.fault("endless", match=TAGS, how="announced")
        self.assertRegex(self.run_puzzlefs("tags", self.name, status=1), r"more than the \d+ bytes")

    def test_an_index_without_this_platform(self):
        self.start_registry()
        store = self.registry.registry.store
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                 "digest": self.image.manifest}
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                 "manifests": [{**entry, "platform": {"os": "plan9", "architecture": name}}
                               for name in ("mips", "s390x")]}
        digest = store.add(json.dumps(index).encode())
        repository = store.repository(REPOSITORY)
        repository["manifests"][digest] = index["mediaType"]
        repository["tags"]["latest"] = digest
        said = self.refused_mount()
        self.assertIn("has no image for linux/", said)
        self.assertIn("It has: plan9/mips, plan9/s390x", said)
        self.assertEqual(self.count(path="/manifests/"), 1)
        self.assertIn("has no image for linux/", self.pull(status=1))
