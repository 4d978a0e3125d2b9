"""How the fault registry misbehaves: answers, and the faults that a script puts into them.

A script is a list of rules, tried in order for each request:

    {"match": {"method": "GET", "path": "/blobs/sha256:", "server": "registry"},
     "skip": 1, "times": 2, "fault": {"kind": "status", "status": 503}}

`path` is a regular expression searched for in path and query, `method` one that the whole method
matches; what is left out matches all. The first `skip` requests that match are served well, the
next `times` get the fault (all of them, without `times`), and later ones are the next rule's. The
kinds of faults, with what they take:

    status         status, headers, body: this answer
    unauthorized   401 with the registry's challenge; its tokens are no longer good
    redirect       status (307), location: as given, "{path}" in it is the request's own; may lack
    html           a login page: 200, text/html
    reset          after: the connection is reset after so many bytes of the body
    truncate       after: it is closed
    stall          after: nothing more comes
                   Without `after` there is no answer at all, and what was asked for is not done
                   either, unless `done` is true: then the answer is lost.
    short          bytes: a complete answer with only so much of the body
    flip           at: one bit of the body is another
    whole          200 with everything where a range was asked for
    content_range  shift, total: a 206 that claims to be another part
    drip           bytes, seconds: so many bytes every so many seconds
    headers        size: that much of a header more
    endless        how: a body without end, "chunked", "plain" (without a length), "announced"
"""
import dataclasses
import re
import threading

LOGIN_PAGE = b"<!DOCTYPE html><html><title>Log in</title><body>Please log in.</body></html>"


@dataclasses.dataclass
class Request:
    """What was asked. `server` is "registry" or "storage"."""
    server: str
    method: str
    target: str  # path and query
    headers: dict  # names in lower case
    body: bytes = b""


@dataclasses.dataclass
class Reply:
    """An answer, and how it is to be sent."""
    status: int
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None  # bytes of the body; less than it announces: None is all
    silent: bool = False  # not even the headers are sent
    ending: str = "keep"  # or close, reset, stall
    pace: tuple | None = None  # bytes, seconds
    endless: str = ""  # or chunked, plain, announced: the body over and over again


class Rule:
    """One line of the script, which counts what it matched."""

    def __init__(self, fault, method=".*", path="", server="", skip=0, times=None):
        if fault["kind"] not in ANSWERS and fault["kind"] not in DISTORTIONS:
            raise ValueError(f"no such fault: {fault['kind']}")
        self.fault = fault
        self._method, self._path, self._server = re.compile(method), re.compile(path), server
        self._skip, self._times = skip, times
        self.matched = 0
        self.used = 0

    @classmethod
    def from_json(cls, value):
        return cls(value["fault"], **value.get("match", {}), skip=value.get("skip", 0),
                   times=value.get("times"))

    def takes(self, request):
        """Whether the request gets the fault. Counts, so it must be asked once."""
        if self._server not in ("", request.server):
            return False
        if not self._method.fullmatch(request.method) or not self._path.search(request.target):
            return False
        self.matched += 1
        if self.matched <= self._skip or (self._times is not None and self.used >= self._times):
            return False
        self.used += 1
        return True


class Script:
    """The rules. Thread-safe."""

    def __init__(self, rules=()):
        self._lock = threading.Lock()
        self._rules = list(rules)

    def add(self, rule):
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self):
        with self._lock:
            self._rules.clear()

    def fault_for(self, request):
        with self._lock:
            return next((rule.fault for rule in self._rules if rule.takes(request)), None)


# --- Faults that answer in place of the registry --------------------------------------------------


def _status(fault, _request):
    return Reply(fault["status"], dict(fault.get("headers", {})), fault.get("body", "").encode())


def _redirect(fault, request):
    headers = {}
    if "location" in fault:
        headers["Location"] = fault["location"].replace("{path}", request.target)
    return Reply(fault.get("status", 307), headers)


def _html(_fault, _request):
    return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, LOGIN_PAGE)


# --- Faults of an answer that the registry gave ---------------------------------------------------


def _is_ignored(fault):
    return fault["kind"] in ENDINGS and "after" not in fault and not fault.get("done")


def _ending(how):
    def distort(fault, reply):
        if "after" not in fault:
            return dataclasses.replace(reply, silent=True, ending=how)
        return dataclasses.replace(reply, sent=fault["after"], ending=how)
    return distort


def _short(fault, reply):
    return dataclasses.replace(reply, body=reply.body[:fault["bytes"]])


def _flip(fault, reply):
    if not reply.body:
        return reply
    body = bytearray(reply.body)
    body[fault.get("at", len(body) // 2)] ^= 1
    return dataclasses.replace(reply, body=bytes(body))


def _content_range(fault, reply):
    said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", reply.headers.get("Content-Range", ""))
    if not said:
        return reply
    first, last, total = map(int, said.groups())
    shift = fault.get("shift", 0)
    claim = f"bytes {first + shift}-{last + shift}/{fault.get('total', total)}"
    return dataclasses.replace(reply, headers={**reply.headers, "Content-Range": claim})


def _drip(fault, reply):
    return dataclasses.replace(reply, pace=(fault["bytes"], fault["seconds"]))


def _headers(fault, reply):
    # In lines that no client finds too long, one by one.
    lines = {f"X-Padding-{i}": "x" * 1000 for i in range(fault["size"] // 1000 + 1)}
    return dataclasses.replace(reply, headers={**reply.headers, **lines})


def _endless(fault, reply):
    return dataclasses.replace(reply, endless=fault["how"], body=reply.body or b"x" * 4096,
                               ending="close")


ANSWERS = {"status": _status, "redirect": _redirect, "html": _html, "unauthorized": None}
ENDINGS = {"reset": _ending("reset"), "truncate": _ending("close"), "stall": _ending("stall")}
DISTORTIONS = {**ENDINGS, "short": _short, "flip": _flip, "content_range": _content_range,
               "drip": _drip, "headers": _headers, "endless": _endless,
               "whole": lambda _fault, reply: reply}


def misbehave(fault, request, serve, refuse):
    """The answer to a request that has this fault, or none (None). `serve` answers as a good
    registry, `refuse` as one whose tokens have expired."""
    if fault is None:
        return serve(request)
    kind = fault["kind"]
    if kind == "unauthorized":
        return refuse(request)
    if kind in ANSWERS:
        return ANSWERS[kind](fault, request)
    if kind == "whole":
        headers = {name: value for name, value in request.headers.items() if name != "range"}
        request = dataclasses.replace(request, headers=headers)
    reply = Reply(0) if _is_ignored(fault) else serve(request)
    return DISTORTIONS[kind](fault, reply)
