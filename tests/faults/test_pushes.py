"""Uploads to a registry that misbehaves: everything arrives, and little is sent twice."""
from fault_registry import FaultRegistry
from scene import PASSWORD, REPOSITORY, USER, FaultCase

BLOB = {"method": "PUT", "path": "/blobs/uploads/"}
BEGIN = {"method": "POST", "path": "/blobs/uploads/"}
MANIFEST = {"method": "PUT", "path": "/manifests/"}
AT_ONCE = 8  # blobs that are under way


class Pushes(FaultCase):
    """From a layout to a registry that has nothing yet."""

    def setUp(self):
        super().setUp()
        self.start_registry()
        self.layout = str(self.work / "layout")
        self.run_puzzlefs("pull", self.name, self.layout)
        self.registry.stop()

    def start_empty(self, **options):
        self.registry = FaultRegistry(user=USER, password=PASSWORD, **options)
        self.addCleanup(self.registry.stop)
        self.name = f"{self.registry.host}/{REPOSITORY}:latest"

    def push(self, *options, status=0):
        said = self.run_puzzlefs("push", "--layout", "keep", *options, self.layout, self.name,
                                 status=status)
        if status == 0:
            store = self.registry.registry.store
            self.assertEqual(set(store.blobs), set(self.image.store.blobs))
            self.assertEqual(store.repository(REPOSITORY)["tags"], {"latest": self.image.manifest})
        return said

    def uploads(self):
        """Blobs that were sent, whether they arrived or not."""
        return self.count(**BLOB)

    def recovers(self, kind, match, more=0, **details):
        """A fault that happens once, and so many more uploads than there are blobs."""
        self.start_empty()
        rule = self.registry.fault(kind, match=match, times=1, **details)
        self.push()
        self.assertEqual(rule.used, 1)
        self.assertEqual(self.uploads(), self.image.blobs - 1 + more)

    def test_without_faults(self):
        self.start_empty()
        self.push()
        self.assertEqual(self.uploads(), self.image.blobs - 1)
        before = self.uploads()
        self.push()
        self.assertEqual(self.uploads(), before)

    def test_503_when_an_upload_begins(self):
        self.recovers("status", BEGIN, status=503)

    def test_429_when_an_upload_begins(self):
        self.recovers("status", BEGIN, status=429, headers={"Retry-After": "1"})

    def test_reset_when_an_upload_begins(self):
        self.recovers("reset", BEGIN)

    def test_502_of_an_upload(self):
        self.recovers("status", BLOB, status=502, more=1)

    def test_reset_of_an_upload(self):
        self.recovers("reset", BLOB, more=1)

    def test_an_answer_that_is_lost(self):
        # libcurl sends the blob once more, to an upload that is no longer known as it is complete.
        self.start_empty()
        self.registry.fault("reset", match=BLOB, times=1, done=True)
        self.push()
        self.assertEqual(self.uploads(), self.image.blobs)

    def test_503_of_the_manifest(self):
        self.recovers("status", MANIFEST, status=503)

    def test_reset_of_the_manifest(self):
        self.recovers("reset", MANIFEST)

    def test_401_in_flight(self):
        for match in (BEGIN, BLOB, MANIFEST):
            self.start_empty(auth="bearer")
            rule = self.registry.fault("unauthorized", match=match, times=1)
            self.push(*self.log_in())
            self.assertEqual(rule.used, 1)
            self.assertEqual(self.count(path="/token"), 2)
            # One that was sent with the old token meanwhile is refused too, and each blob arrives.
            statuses = [entry["status"] for entry in self.registry.requests()]
            self.assertIn(statuses.count(401), range(2, 2 + 2 * AT_ONCE))
            uploads = [entry["status"] for entry in self.registry.requests(**BLOB)]
            self.assertEqual(uploads.count(201), self.image.blobs - 1)
            self.assertEqual(set(uploads) - {201, 401}, set())

    def test_no_right_to_push(self):
        self.start_empty()
        self.registry.fault("status", match=BEGIN, status=403,
                            body='{"errors": [{"code": "DENIED", "message": "read only"}]}')
        self.assertIn("403 Forbidden (DENIED: read only)", self.push(status=1))
        self.assertEqual(self.uploads(), 0)
        self.assertEqual(self.count(**MANIFEST), 0)

    def test_a_manifest_that_is_refused(self):
        self.start_empty()
        self.registry.fault("status", match=MANIFEST, status=400,
                            body='{"errors": [{"code": "MANIFEST_INVALID", "message": "no"}]}')
        self.assertIn("400 Bad Request (MANIFEST_INVALID: no)", self.push(status=1))
        self.assertEqual(self.count(**MANIFEST), 1)

    def test_html_for_an_upload(self):
        self.start_empty()
        self.registry.fault("html", match=BEGIN)
        self.assertRegex(self.push(status=1), "Cannot upload blob sha256:.*: 200 OK")
        self.assertIn(self.count(**BEGIN), range(1, 1 + 2 * AT_ONCE))
        self.assertEqual(self.uploads(), 0)
        self.assertEqual(self.count(**MANIFEST), 0)

    def test_a_storage_host_that_refuses_head(self):
        """As one does whose signed locations are for GET only."""
        self.start_empty(storage=True)
        rule = self.registry.fault("status", match={"method": "HEAD", "server": "storage"},
                                   status=403)
        self.push()
        self.assertEqual(self.uploads(), self.image.blobs - 1)
        begun = self.count(**BEGIN)
        # One that it still knows would not make it ask for the blobs.
        repository = self.registry.registry.store.repository(REPOSITORY)
        repository["tags"].clear()
        repository["manifests"].clear()
        self.push()
        self.assertGreater(rule.used, 0)
        self.assertEqual(self.count(**BEGIN), begun)
        self.assertEqual(self.uploads(), self.image.blobs - 1)
        # To know that a blob is there takes none of it.
        got = [entry["sent"] for entry in self.registry.requests("GET", server="storage")]
        self.assertEqual(set(got), {1})
