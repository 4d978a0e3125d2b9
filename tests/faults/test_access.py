"""Passwords and tokens: wrong, refused in flight, and no longer good."""
import concurrent.futures
import errno

from scene import PASSWORD, REPOSITORY, USER, FaultCase

WRONG = "YWxpOndyb25n"  # ali:wrong


class Tokens(FaultCase):
    """Bearer authentication, with a token service of the registry's own."""

    def start_bearer(self, **options):
        self.start_registry(auth="bearer", user=USER, password=PASSWORD, **options)
        return self.log_in()

    def tokens(self):
        return self.count(path="/token")

    def test_one_token_serves_all(self):
        mount = self.mount(*self.start_bearer())
        for path, data in self.image.files.items():
            self.assertEqual(mount.read(path), data)
        self.assertEqual(self.tokens(), 1)
        # Only the first request does not know what the registry wants.
        self.assertEqual([entry["path"] for entry in self.registry.requests()
                          if entry["status"] == 401],
                         [f"/v2/{REPOSITORY}/manifests/latest"])

    def test_one_that_expires_in_a_mount_is_replaced(self):
        mount = self.mount(*self.start_bearer())
        first, second = self.image.chunks[0], self.image.chunks[-1]
        self.assertEqual(mount.read_once(first), self.right_part(first))
        self.assertEqual(self.tokens(), 1)
        self.registry.access.forget_tokens()
        self.assertEqual(mount.read_once(second), self.right_part(second))
        self.assertEqual(self.gets("status", chunk=second), [401, 200])
        self.assertEqual(self.tokens(), 2)

    def test_many_readers_need_one_new_token(self):
        mount = self.mount(*self.start_bearer())
        self.registry.access.forget_tokens()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(mount.read, self.image.files)),
                             list(self.image.files.values()))
        self.assertEqual(self.tokens(), 2)

    def test_401_in_flight(self):
        mount = self.mount(*self.start_bearer())
        self.fault_chunk("unauthorized", times=1)
        self.assert_reads(mount)
        self.assertEqual(self.gets("status"), [401, 200])
        self.assertEqual(self.tokens(), 2)

    def test_401_for_ever(self):
        mount = self.mount(*self.start_bearer())
        self.fault_chunk("unauthorized")
        self.assert_fails(errno.EACCES, mount)
        self.assertEqual(self.failed_requests, [401, 401])

    def test_401_in_flight_of_a_pull(self):
        options = self.start_bearer()
        self.fault_chunk("unauthorized", times=1)
        self.pull(*options)
        self.assertEqual(self.gets("status"), [401, 200])

    def test_a_wrong_password_is_said_once(self):
        self.start_bearer()
        options = self.log_in_with(auth=WRONG)
        self.assertRegex(self.refused_mount(*options), "gives no access.*401.*login")
        self.assertEqual(self.tokens(), 1)

    def test_an_identity_token_is_as_good_as_a_password(self):
        self.start_bearer()
        mount = self.mount(*self.log_in_with(identitytoken=self.registry.access.identity_token))
        self.registry.access.forget_tokens()
        self.assert_reads(mount)
        tokens = self.registry.requests(path="/token")
        self.assertEqual([(token["method"], token["authorization"]) for token in tokens],
                         [("POST", False)] * 2)

    def test_a_wrong_identity_token_is_said_once(self):
        self.start_bearer()
        said = self.refused_mount(*self.log_in_with(identitytoken="a-wrong-one"))
        self.assertRegex(said, "gives no access.*401.*login")
        self.assertNotIn("a-wrong-one", said)
        self.assertEqual(self.tokens(), 1)

    def test_a_token_service_that_is_busy_once(self):
        options = self.start_bearer()
        self.registry.fault("status", match={"path": "/token"}, status=503, times=1)
        self.assert_reads(self.mount(*options))
        self.assertEqual(self.tokens(), 2)

    def test_a_token_service_that_resets_once(self):
        options = self.start_bearer()
        self.registry.fault("reset", match={"path": "/token"}, times=1)
        self.assert_reads(self.mount(*options))
        self.assertEqual(self.tokens(), 2)

    def test_a_token_service_that_redirects_to_another_server_gets_no_password_there(self):
        options = self.start_bearer(storage=True)
        self.registry.fault("redirect", match={"path": "/token"},
                            location=f"http://{self.registry.storage_host}/token")
        self.assertRegex(self.refused_mount(*options), "redirected to another server.*refused")
        self.assertEqual(self.count(server="storage"), 0)


class Passwords(FaultCase):
    """Basic authentication."""

    def start_basic(self):
        self.start_registry(auth="basic", user=USER, password=PASSWORD)
        return self.log_in()

    def test_a_password(self):
        mount = self.mount(*self.start_basic())
        self.assert_reads(mount)
        self.assertEqual([entry["status"] for entry in self.registry.requests()].count(401), 1)

    def test_a_wrong_password(self):
        self.start_basic()
        options = self.log_in_with(auth=WRONG)
        self.assertRegex(self.refused_mount(*options), "401 Unauthorized.*Log in")
        # Without the password, with it, and with what a helper may give anew.
        self.assertLessEqual(self.count(path="/manifests/"), 3)

    def test_a_new_password_is_read_by_a_running_mount(self):
        self.start_basic()
        mount = self.mount(*self.log_in_with(
            auth=self.registry.access.change_password(USER, "an-old-one")))
        self.log_in_with(auth=self.registry.access.change_password(USER, PASSWORD))
        self.assert_reads(mount)
        self.assertEqual(self.gets("status"), [401, 200])
