"""Who may do what at the fault registry: Basic and Bearer authentication, and signed locations."""
import base64
import datetime
import hashlib
import hmac
import json
import secrets
import threading
import time
import urllib.parse

from misbehaviour import Reply

DATE_FORMAT = "%Y%m%dT%H%M%SZ"


def error_reply(status, code, message, headers=None):
    """The error document of the distribution specification."""
    document = {"errors": [{"code": code, "message": message, "detail": None}]}
    return Reply(status, {"Content-Type": "application/json", **(headers or {})},
                 json.dumps(document).encode())


class Access:
    """Lets in all ("none"), whoever knows the password ("basic"), or tokens that are given to such
    ("bearer"). Thread-safe."""

    def __init__(self, kind="none", user="", password="", token_lifetime=300):
        self._kind = kind
        self._password = ""
        self.change_password(user, password)
        self._lifetime = token_lifetime
        self.identity_token = secrets.token_hex(32)  # as good as user and password
        self._lock = threading.Lock()
        self._tokens = {}  # token: when it ends, what it is for
        self.issued = []  # all tokens ever, for tests that look for them

    def change_password(self, user, password):
        """Returns them as files with credentials have them."""
        self._password = base64.b64encode(f"{user}:{password}".encode()).decode()
        return self._password

    def check(self, request, realm, repository, action):
        """None, or the refusal. `realm` is the token service's URL."""
        if self._kind == "none":
            return None
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if self._kind == "basic":
            good = scheme.lower() == "basic" and self._knows(value)
        else:
            good = scheme.lower() == "bearer" and self._allows(value, repository, action)
        return None if good else self.refusal(realm, repository, action, bool(value))

    def refusal(self, realm, repository, action, expired=False):
        if self._kind == "basic":
            challenge = 'Basic realm="faults"'
        else:
            challenge = f'Bearer realm="{realm}",service="faults"'
            if repository:
                challenge += f',scope="repository:{repository}:{action}"'
            if expired:
                challenge += ',error="invalid_token"'
        return error_reply(401, "UNAUTHORIZED", "authentication required",
                           {"WWW-Authenticate": challenge})

    def give_token(self, request):
        """The answer of the token service: to a password (GET), or an identity token (POST)."""
        if request.method == "POST":
            query = urllib.parse.parse_qs(request.body.decode())
            good = query.get("refresh_token") == [self.identity_token]
        else:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.target).query)
            scheme, _, value = request.headers.get("authorization", "").partition(" ")
            good = scheme.lower() == "basic" and self._knows(value)
        if not good:
            return error_reply(401, "UNAUTHORIZED", "wrong user or password")
        scopes = {}
        for scope in " ".join(query.get("scope", [])).split():
            _, repository, actions = scope.split(":", 2)
            scopes[repository] = set(actions.split(","))
        token = secrets.token_hex(32)
        with self._lock:
            self._tokens[token] = (time.monotonic() + self._lifetime, scopes)
            self.issued.append(token)
        name = "access_token" if request.method == "POST" else "token"
        document = {name: token, "expires_in": max(int(self._lifetime), 1)}
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def forget_tokens(self):
        with self._lock:
            self._tokens.clear()

    def _knows(self, value):
        return hmac.compare_digest(value.encode(), self._password.encode())

    def _allows(self, token, repository, action):
        with self._lock:
            end, scopes = self._tokens.get(token, (0, {}))
        actions = scopes.get(repository, set())
        return time.monotonic() < end and (not repository or action in actions or "*" in actions)


class Signer:
    """Signed locations as object stores have them: whoever knows one may use it until it expires,
    for one method and one path."""

    def __init__(self, lifetime=300):
        self.lifetime = lifetime
        self._key = secrets.token_bytes(32)
        self.signatures = []  # all ever made, for tests that look for them

    def sign(self, method, path):
        date = datetime.datetime.now(datetime.timezone.utc).strftime(DATE_FORMAT)
        signature = self._signature(method, path, date, str(self.lifetime))
        self.signatures.append(signature)
        return path + "?" + urllib.parse.urlencode({
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Date": date,
            "X-Amz-Expires": self.lifetime, "X-Amz-SignedHeaders": "host",
            "X-Amz-Signature": signature})

    def check(self, request):
        """None, or the refusal."""
        if "authorization" in request.headers:
            return _storage_error(400, "InvalidArgument", "Only one auth mechanism is allowed")
        url = urllib.parse.urlsplit(request.target)
        query = dict(urllib.parse.parse_qsl(url.query))
        date, lifetime = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
        wanted = self._signature(request.method, url.path, date, lifetime)
        if not hmac.compare_digest(wanted, query.get("X-Amz-Signature", "")):
            return _storage_error(403, "SignatureDoesNotMatch", "The signature is wrong")
        signed = datetime.datetime.strptime(date, DATE_FORMAT).replace(tzinfo=datetime.timezone.utc)
        if time.time() >= signed.timestamp() + int(lifetime):
            return _storage_error(403, "AccessDenied", "Request has expired")
        return None

    def _signature(self, method, path, date, lifetime):
        text = "\n".join((method, path, date, lifetime))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _storage_error(status, code, message):
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())
