"""Passwords, tokens and signatures are in no message, no log and no command line."""
import base64
import pathlib
import subprocess
import threading

from scene import PASSWORD, PUZZLEFS, REPOSITORY, USER, FaultCase, environment

LOUD = {"PUZZLEFS_LOG": "trace"}


class CommandLines:
    """All that processes are called with while this is entered."""

    def __init__(self):
        self.seen = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.02):
            for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(file.read_bytes())
                except OSError:
                    pass  # it has ended


class Secrets(FaultCase):
    """Everything at its loudest, when it works and when it does not."""

    def setUp(self):
        super().setUp()
        self.said = []

    def loudly(self, command, *arguments, status=0):
        """Its output must hold no secret, whatever it is."""
        done = subprocess.run([PUZZLEFS, command, "-vvv", *arguments], check=False, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              env={**environment(self.work), **LOUD})
        self.assertEqual(done.returncode, status, done.stderr)
        self.said += [done.stdout, done.stderr]

    def commands(self, options):
        """Those that talk to a registry."""
        options = ["--plain-http", *options]
        cached = [*options, "--cache-dir", str(self.cache)]
        layout = str(self.work / f"layout{len(self.said)}")
        self.loudly("pull", *options, self.name, layout)
        self.loudly("push", *options, layout, self.name.replace(":latest", ":again"))
        self.loudly("tags", *options, self.name)
        self.loudly("digest", *options, self.name)
        self.loudly("inspect", *cached, self.name)
        self.loudly("extract", *cached, self.name, layout + ".extracted")

    def mounts(self, options):
        """In the foreground with faults, and in the background with a log file."""
        mount = self.mount("-vvv", *options, outage=1, env=LOUD)
        for server, fault, details in (
                ("", "status", {"status": 403}), ("", "unauthorized", {}), ("", "flip", {}),
                ("", "status", {"status": 503}), ("storage", "reset", {"after": 100}),
                ("", "redirect", {"location": "{path}&X-Amz-Signature=loop"})):
            self.fault_chunk(fault, server=server, **details)
            self.timed(lambda: mount.read_once(self.image.chunk))
            self.registry.heal()
        self.assert_reads(mount)
        mount.end()
        self.said.append(mount.messages.read_bytes())
        point = self.work / f"background{len(self.said)}"
        point.mkdir()
        log = point.with_suffix(".log")
        self.loudly("mount", "--plain-http", *options, "--log-file", str(log), self.name,
                    str(point), "--cache-dir", str(self.work / "another"))
        (point / "d0/f0").read_bytes()
        self.loudly("umount", str(point))
        self.said.append(log.read_bytes())

    def failures(self, options):
        """A wrong password, and a registry that answers with nonsense."""
        point = self.work / "nowhere"
        point.mkdir(exist_ok=True)
        mounting = ["mount", "--plain-http", *options, "--cache-dir", str(self.work / "none"),
                    self.name, str(point)]
        for kind in ("html", "endless", "redirect", "stall"):
            self.registry.fault(kind, match={"path": "/manifests/"}, how="plain",
                                location="{path}?X-Amz-Signature=loop")
            self.loudly(*mounting, status=1)
            self.registry.heal()
        self.registry.access.change_password(USER, "another")
        self.registry.access.forget_tokens()
        self.loudly(*mounting, status=1)

    def check(self, command_lines):
        encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        secrets = [PASSWORD, encoded, self.registry.access.identity_token, "X-Amz-Signature",
                   *self.registry.access.issued, *self.registry.signer.signatures]
        self.assertGreater(len(self.registry.signer.signatures), 20)
        said = b"\n".join(self.said)
        self.assertIn(REPOSITORY.encode(), said)
        self.assertGreater(len(said), 5000)
        for secret in secrets:
            self.assertNotIn(secret.encode(), said)
        called = b"\n".join(command_lines.seen)
        self.assertIn(self.registry.host.encode(), called)
        for secret in secrets:
            self.assertNotIn(secret.encode(), called)

    def everything(self, auth):
        self.start_registry(storage=True, auth=auth, user=USER, password=PASSWORD)
        options = self.log_in()
        with CommandLines() as command_lines:
            self.commands(options)
            self.mounts(options)
            self.failures(options)
            if auth == "bearer":
                token = self.registry.access.identity_token
                self.commands(self.log_in_with(identitytoken=token))
        self.check(command_lines)

    def test_basic(self):
        self.everything("basic")

    def test_bearer(self):
        self.everything("bearer")
        self.assertGreater(len(self.registry.access.issued), 5)
