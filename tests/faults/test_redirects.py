"""Redirects: that lead nowhere, and to a storage host with locations that expire."""
import errno

from scene import PASSWORD, USER, FaultCase

CUT = 5000


class Astray(FaultCase):
    """Redirects that do not end at an answer."""

    def fails_with(self, number, requests, saying, **redirect):
        self.start_registry()
        mount = self.mount()
        self.fault_chunk("redirect", **redirect)
        self.assert_fails(number, mount)
        self.assertEqual(len(self.failed_requests), requests)
        self.assertIn(saying, mount.said())

    def test_a_loop(self):
        self.fails_with(errno.ELOOP, 6, "redirected too often", location="{path}")

    def test_a_chain_that_is_too_long(self):
        self.fails_with(errno.ELOOP, 6, "redirected too often", location="{path}&more",
                        status=302)

    def test_without_a_location(self):
        self.fails_with(errno.EPROTO, 1, "without saying where to")

    def test_to_something_that_is_no_url(self):
        self.fails_with(errno.EPROTO, 1, "URL", location="http://:::/")

    def test_to_a_file(self):
        self.fails_with(errno.EPROTO, 1, "not an HTTP URL", location="file:///etc/passwd")

    def test_a_loop_of_the_manifest(self):
        self.start_registry()
        self.registry.fault("redirect", match={"path": "/manifests/"}, location="{path}")
        self.assertIn("redirected too often", self.refused_mount())
        self.assertEqual(self.count(path="/manifests/"), 6)

    def test_to_a_server_that_is_not_there(self):
        self.start_registry()
        mount = self.mount(outage=2)
        self.fault_chunk("redirect", location="http://127.0.0.1:1{path}")
        self.assertGreaterEqual(self.assert_fails(errno.EIO, mount), 2)
        self.assertIn(len(self.failed_requests), range(2, 16))

    def test_a_detour_once(self):
        for status in (301, 302, 303, 307, 308):
            self.start_registry()
            mount = self.mount()
            self.fault_chunk("redirect", status=status, location="{path}?again", times=1)
            self.assert_reads(mount)
            self.assertEqual(self.gets("status"), [status, 200])


class Storage(FaultCase):
    """Blobs at a storage host, as with object stores."""

    def start_storage(self, **options):
        self.start_registry(storage=True, **options)
        return self.mount()

    def answers(self, server):
        return self.gets("status", server=server)

    def test_no_credentials_are_sent_there(self):
        for auth in ("basic", "bearer"):
            self.start_registry(storage=True, auth=auth, user=USER, password=PASSWORD)
            options = self.log_in()
            self.assert_reads(self.mount(*options))
            self.pull(*options)
            # It answers 400 when there are, as Amazon's does.
            stored = self.registry.requests(server="storage")
            self.assertGreater(len(stored), self.image.blobs - 2)
            self.assertEqual({(get["authorization"], get["status"]) for get in stored},
                             {(False, 200)})
            asked = self.registry.requests("GET", "/blobs/", "registry")
            self.assertEqual({get["authorization"] for get in asked}, {True})

    def test_a_body_is_resumed_at_its_location(self):
        mount = self.start_storage()
        self.fault_chunk("truncate", server="storage", after=CUT, times=1)
        self.assert_reads(mount)
        self.assertEqual(self.answers("registry"), [307])
        self.assertEqual(self.gets("status", "range", server="storage"),
                         [(200, None), (206, f"bytes={CUT}-")])

    def test_a_location_that_is_refused_is_asked_for_anew(self):
        for status in (400, 401, 403, 404, 410):
            mount = self.start_storage()
            self.fault_chunk("truncate", server="storage", after=CUT, times=1)
            self.fault_chunk("status", server="storage", status=status, times=1)
            self.assert_reads(mount)
            self.assertEqual(self.answers("registry"), [307, 307])
            self.assertEqual(self.answers("storage"), [200, status, 206])

    def test_a_location_is_not_used_again_when_it_has_expired(self):
        mount = self.start_storage(location_lifetime=3)
        self.fault_chunk("truncate", server="storage", after=CUT, times=1)
        self.fault_chunk("status", server="storage", status=503, headers={"Retry-After": "4"},
                         times=1)
        self.assert_reads(mount)
        self.assertIn(self.answers("storage"), ([200, 503, 206], [200, 503, 200]))
        self.assertIn(self.answers("registry"), ([307] * 2, [307] * 3))

    def test_a_busy_storage_host(self):
        mount = self.start_storage()
        self.fault_chunk("status", server="storage", status=503, times=1)
        self.assert_reads(mount)
        self.assertEqual(self.answers("storage"), [503, 200])
        self.assertLessEqual(len(self.answers("registry")), 2)

    def test_locations_that_have_always_expired_are_an_error(self):
        mount = self.start_storage()
        self.registry.signer.lifetime = 0
        _, error = self.timed(lambda: mount.read_once(self.image.chunk))
        self.assertIsInstance(error, OSError)
        self.assertIn(self.answers("storage"), ([403], [403, 403]))
        self.registry.signer.lifetime = 300
        self.assert_reads(mount)

    def test_wrong_bytes_there_are_asked_for_once_more(self):
        mount = self.start_storage()
        self.fault_chunk("flip", server="storage", times=1)
        self.assert_reads(mount)
        self.assertEqual(self.gets("cache_control", server="storage"), [None, "no-cache"])

    def test_a_storage_host_that_resets_once(self):
        mount = self.start_storage()
        self.fault_chunk("reset", server="storage", times=1)
        self.assert_reads(mount)
        self.assertEqual(len(self.answers("storage")), 2)

    def test_a_token_that_expires_does_not_matter_there(self):
        self.start_registry(storage=True, auth="bearer", user=USER, password=PASSWORD)
        mount = self.mount(*self.log_in())
        self.registry.access.forget_tokens()
        self.assert_reads(mount)
        self.assertEqual({get["status"] for get in self.registry.requests(server="storage")},
                         {200})
        self.assertEqual(self.count(path="/token"), 2)
