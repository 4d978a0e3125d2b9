"""The OCI distribution protocol, as the fault registry speaks it when it behaves."""
import hashlib
import json
import os
import re
import threading
import urllib.parse
import uuid

from access import error_reply
from misbehaviour import Reply

ROUTES = [(re.compile(pattern), name) for pattern, name in (
    (r"/v2/", "base"),
    (r"/token", "token"),
    (r"/v2/(.+)/tags/list", "tags"),
    (r"/v2/(.+)/manifests/([^/]+)", "manifest"),
    (r"/v2/(.+)/blobs/uploads/", "uploads"),
    (r"/v2/(.+)/blobs/uploads/([^/]+)", "upload"),
    (r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", "blob"))]
ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Store:
    """What the registry holds: in memory, and in a directory too if it has one."""

    def __init__(self, directory=None):
        self._directory = directory
        self.blobs = {}  # digest: bytes
        # name: {"tags": {tag: digest}, "manifests": {digest: media type}, "blobs": {digest: True}}
        self.repositories = {}
        if directory and os.path.exists(self._index()):
            with open(self._index(), encoding="utf-8") as file:
                self.repositories = json.load(file)
            for name in os.listdir(os.path.join(directory, "blobs")):
                with open(os.path.join(directory, "blobs", name), "rb") as file:
                    self.blobs["sha256:" + name] = file.read()

    def _index(self):
        return os.path.join(self._directory, "repositories.json")

    def repository(self, name):
        return self.repositories.setdefault(name, {"tags": {}, "manifests": {}, "blobs": {}})

    def add(self, data):
        digest = digest_of(data)
        self.blobs[digest] = data
        if self._directory:
            folder = os.path.join(self._directory, "blobs")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, digest.removeprefix("sha256:")), "wb") as file:
                file.write(data)
        return digest

    def save(self):
        if self._directory:
            os.makedirs(self._directory, exist_ok=True)
            with open(self._index(), "w", encoding="utf-8") as file:
                json.dump(self.repositories, file)


class Registry:
    """The protocol: answers requests, one at a time."""

    def __init__(self, store, access, signer):
        self.store = store
        self.access = access
        self._signer = signer
        self._uploads = {}
        self._lock = threading.Lock()
        self.url = ""
        self.storage_url = ""

    def serve(self, request):
        with self._lock:
            if request.server == "storage":
                return self._stored(request)
            path = urllib.parse.urlsplit(request.target).path
            for pattern, name in ROUTES:
                if found := pattern.fullmatch(path):
                    return self._routed(request, name, found.groups())
            return error_reply(404, "NOT_FOUND", "there is nothing here")

    def refuse(self, request):
        """As if all tokens had expired."""
        self.access.forget_tokens()
        found = re.match(r"/v2/(.+)/(?:tags|manifests|blobs)/", request.target)
        action = ACTIONS.get(request.method, "pull,push")
        return self.access.refusal(self.url + "/token", found[1] if found else "", action, True)

    def _routed(self, request, name, arguments):
        repository = arguments[0] if arguments else ""
        action = ACTIONS.get(request.method, "push")
        if name != "token":
            refusal = self.access.check(request, self.url + "/token", repository, action)
            if refusal:
                return refusal
        method = "get" if request.method == "HEAD" else request.method.lower()
        operation = getattr(self, f"_{method}_{name}", None)
        if not operation:
            return error_reply(405, "UNSUPPORTED", "that cannot be done here")
        reply = operation(request, *arguments)
        if request.method != "GET":
            self.store.save()
        return reply

    def _get_base(self, _request):
        return Reply(200, {"Content-Type": "application/json"}, b"{}")

    def _get_token(self, request):
        return self.access.give_token(request)

    _post_token = _get_token

    def _get_tags(self, request, name):
        if name not in self.store.repositories:
            return error_reply(404, "NAME_UNKNOWN", "no such repository")
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.target).query))
        left = sorted(tag for tag in self.store.repository(name)["tags"]
                      if tag > query.get("last", ""))
        count = int(query.get("n", len(left)))
        headers = {"Content-Type": "application/json"}
        if count < len(left):
            next_page = urllib.parse.urlencode({"n": count, "last": left[count - 1]})
            headers["Link"] = f'</v2/{name}/tags/list?{next_page}>; rel="next"'
        return Reply(200, headers, json.dumps({"name": name, "tags": left[:count]}).encode())

    def _resolve(self, name, reference):
        repository = self.store.repository(name) if name in self.store.repositories else None
        if not repository:
            return None
        digest = repository["tags"].get(reference, reference)
        return digest if digest in repository["manifests"] else None

    def _get_manifest(self, _request, name, reference):
        digest = self._resolve(name, reference)
        if not digest:
            return error_reply(404, "MANIFEST_UNKNOWN", "no such manifest")
        media_type = self.store.repository(name)["manifests"][digest]
        return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": digest},
                     self.store.blobs[digest])

    def _put_manifest(self, request, name, reference):
        digest = digest_of(request.body)
        if ":" in reference and reference != digest:
            return error_reply(400, "DIGEST_INVALID", "the manifest has another digest")
        try:
            document = json.loads(request.body)
        except ValueError:
            return error_reply(400, "MANIFEST_INVALID", "the manifest is not JSON")
        repository = self.store.repository(name)
        parts = document.get("layers", []) + [document.get("config")]
        if any(part and part["digest"] not in repository["blobs"] for part in parts):
            return error_reply(400, "MANIFEST_BLOB_UNKNOWN", "a blob of the manifest is missing")
        self.store.add(request.body)
        repository["manifests"][digest] = request.headers.get("content-type", "")
        if ":" not in reference:
            repository["tags"][reference] = digest
        return Reply(201, {"Location": f"/v2/{name}/manifests/{digest}",
                           "Docker-Content-Digest": digest})

    def _delete_manifest(self, _request, name, reference):
        digest = self._resolve(name, reference)
        if not digest:
            return error_reply(404, "MANIFEST_UNKNOWN", "no such manifest")
        repository = self.store.repository(name)
        if ":" in reference:
            del repository["manifests"][digest]
            repository["tags"] = {t: d for t, d in repository["tags"].items() if d != digest}
        else:
            del repository["tags"][reference]
        return Reply(202)

    def _has_blob(self, name, digest):
        return digest in self.store.repositories.get(name, {}).get("blobs", {})

    def _get_blob(self, request, name, digest):
        if not self._has_blob(name, digest):
            return error_reply(404, "BLOB_UNKNOWN", "no such blob")
        if self.storage_url:
            signed = self._signer.sign(request.method, "/" + digest)
            return Reply(307, {"Location": self.storage_url + signed})
        return _part(request, self.store.blobs[digest], {"Docker-Content-Digest": digest})

    def _delete_blob(self, _request, name, digest):
        if not self._has_blob(name, digest):
            return error_reply(404, "BLOB_UNKNOWN", "no such blob")
        del self.store.repository(name)["blobs"][digest]
        return Reply(202)

    def _stored(self, request):
        digest = urllib.parse.urlsplit(request.target).path[1:]
        refusal = self._signer.check(request)
        return refusal or _part(request, self.store.blobs[digest], {"ETag": f'"{digest}"'})

    def _post_uploads(self, request, name):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.target).query))
        digest, source = query.get("mount", ""), query.get("from", "")
        if self._has_blob(source, digest) and not self.access.check(
                request, self.url + "/token", source, "pull"):
            return self._linked(name, digest)
        upload = uuid.uuid4().hex
        self._uploads[upload] = b""
        return self._continued(202, name, upload)

    def _get_upload(self, _request, name, upload):
        return self._continued(204, name, upload)

    def _patch_upload(self, request, name, upload):
        if upload in self._uploads:
            self._uploads[upload] += request.body
        return self._continued(202, name, upload)

    def _put_upload(self, request, name, upload):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.target).query))
        if upload not in self._uploads:
            return error_reply(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
        data = self._uploads.pop(upload) + request.body
        if digest_of(data) != query.get("digest"):
            return error_reply(400, "DIGEST_INVALID", "the blob has another digest")
        return self._linked(name, self.store.add(data))

    def _delete_upload(self, _request, _name, upload):
        known = self._uploads.pop(upload, None) is not None
        return Reply(204) if known else error_reply(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")

    def _continued(self, status, name, upload):
        if upload not in self._uploads:
            return error_reply(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
        return Reply(status, {"Location": f"/v2/{name}/blobs/uploads/{upload}",
                              "Docker-Upload-UUID": upload,
                              "Range": f"0-{max(len(self._uploads[upload]) - 1, 0)}"})

    def _linked(self, name, digest):
        self.store.repository(name)["blobs"][digest] = True
        return Reply(201, {"Location": f"/v2/{name}/blobs/{digest}",
                           "Docker-Content-Digest": digest})


def _part(request, data, headers):
    """The range that was asked for, or everything."""
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not asked or asked.groups() == ("", ""):
        return Reply(200, headers, data)
    first, last = asked.groups()
    start = int(first) if first else max(len(data) - int(last), 0)
    end = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= end:
        return Reply(416, {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Reply(206, headers, data[start:end])
