"""A registry in this process, as the OCI distribution specification has it, that can be told to be faulty.

    with FakeRegistry() as fake:
        digest = fake.add_blob("app", b"layer")
        fake.faults.on("GET .*/blobs/", times=1).cut(after=3)
        ...
        assert fake.log.count("GET .*/blobs/") == 2 and fake.log.sent("/blobs/") == 5

`test_fake_registry.py` has skopeo check that it does what the specification says.
"""

from __future__ import annotations

import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, unquote

from tests.registry.fake_auth import BasicAuth, TokenAuth
from tests.registry.fake_content import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Repository,
    Settings,
    descriptor,
    digest_of,
)
from tests.registry.faults import Faults, error_answer
from tests.registry.http_server import Answer, BodyCutOff, Bytes, Log, Request, Server

_PART = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
_NAME = f"{_PART}(?:/{_PART})*"
_TAG = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
MAX_MANIFEST = 4 << 20


@dataclass
class _Upload:
    repository: str
    data: bytearray = field(default_factory=bytearray)
    state: int = 0


class FakeRegistry:
    """A registry on loopback, with a storage server that it may redirect to and a token server. A context manager.

    Args:
        auth: who may do what. Everyone everything, without it.
        tls: encrypts the registry, if it is given; the other two are always in clear.
        settings: settings by their names.

    Attributes:
        host: the address, as it stands in the names of images.
        realm: the address of its token server.
        log: all requests so far, with the bytes of bodies.
        faults: rules that change answers.
        repositories: what it has. Tests may change it.
    """

    def __init__(
        self, *, auth: BasicAuth | TokenAuth | None = None, tls: ssl.SSLContext | None = None, **settings: Any
    ) -> None:
        self.auth = auth
        self.settings = Settings(**settings)
        self.log = Log()
        self.faults = Faults()
        self.repositories: dict[str, Repository] = {}
        self._lock = threading.RLock()
        self._uploads: dict[str, _Upload] = {}
        self._numbers = itertools.count(1)
        self._signed: dict[str, tuple[Bytes, float]] = {}
        self._registry = Server("registry", self._registry_answer, self.log, tls)
        self._storage = Server("storage", self._storage_answer, self.log)
        self._token = Server("token", self._token_answer, self.log)
        self.host = self._registry.host
        self.url = self._registry.url
        self.realm = f"{self._token.url}/token"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all servers at once.

        Raises:
            AssertionError: a server failed where it should not have.
        """
        servers = (self._registry, self._storage, self._token)
        for server in servers:
            server.close()
        for server in servers:
            assert not server.failures, f"the fake registry failed: {server.failures[0]}"

    # What is in it.

    def repository(self, name: str) -> Repository:
        """Return a repository; make it if it is new."""
        with self._lock:
            return self.repositories.setdefault(name, Repository())

    def add_blob(self, repository: str, data: Bytes) -> str:
        """Add a blob, such as bytes or a mapped file. Return its digest."""
        digest = digest_of(data)
        self.repository(repository).blobs[digest] = data
        return digest

    def add_manifest(self, repository: str, document: Mapping[str, Any] | bytes, media_type: str, *tags: str) -> str:
        """Add a manifest or an index, without any check. Return its digest."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = digest_of(data)
        self.repository(repository).manifests[digest] = media_type, data
        for tag in tags:
            self.repository(repository).tags[tag] = digest
        return digest

    def add_image(
        self,
        repository: str,
        layers: Sequence[bytes],
        *tags: str,
        config: Mapping[str, Any] | bytes,
        layer_type: str = OCI_LAYER + "+gzip",
        **more: Any,
    ) -> str:
        """Add an OCI image of layers as they are stored. `more`: other keys of its manifest. Return its digest."""
        data = config if isinstance(config, bytes) else json.dumps(config).encode()
        for blob in (data, *layers):
            self.add_blob(repository, blob)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(data, OCI_CONFIG),
            "layers": [descriptor(layer, layer_type) for layer in layers],
            **more,
        }
        return self.add_manifest(repository, document, OCI_MANIFEST, *tags)

    # The registry's calls.

    def _registry_answer(self, request: Request) -> Answer:
        return self._with_faults(request, self._route)

    def _storage_answer(self, request: Request) -> Answer:
        return self._with_faults(request, self._stored)

    def _token_answer(self, request: Request) -> Answer:
        return self._with_faults(request, self._token_of)

    def _token_of(self, request: Request) -> Answer:
        if isinstance(self.auth, TokenAuth):
            return self.auth.answer(request)
        return error_answer(404, "UNSUPPORTED", "this registry gives no tokens")

    def _with_faults(self, request: Request, handle: Any) -> Answer:
        rules = self.faults.rules_for(request)
        answer = next((answer for rule in rules if (answer := rule.before(request)) is not None), None)
        if answer is None:
            answer = handle(request)
        for rule in rules:
            answer = rule.after(request, answer)
        return answer

    def _route(self, request: Request) -> Answer:
        path = unquote(request.path)
        if path in ("/v2/", "/v2"):
            return self._denied(request, ()) or Answer(200, [_JSON], b"{}")
        if path == "/v2/_catalog":
            return self._denied(request, ("registry:catalog:*",)) or _json({"repositories": sorted(self.repositories)})
        for pattern, handle in _CALLS:
            if found := pattern.fullmatch(path):
                return handle(self, request, *found.groups())
        return error_answer(404, "NAME_INVALID", f"no such call: {request.method} {path}")

    def _denied(self, request: Request, scopes: Sequence[str]) -> Answer | None:
        if self.auth is None:
            return None
        if isinstance(self.auth, TokenAuth):
            self.auth.realm = self.auth.realm or self.realm
        return self.auth.check(request, scopes)

    def _access(self, request: Request, name: str, *others: str) -> Answer | None:
        actions = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(request.method, "pull,push")
        return self._denied(request, (f"repository:{name}:{actions}", *others))

    def _manifest(self, request: Request, name: str, reference: str) -> Answer:
        if denied := self._access(request, name):
            return denied
        if request.method == "PUT":
            return self._put_manifest(request, name, reference)
        with self._lock:
            repository = self.repositories.get(name)
            if repository is None:
                return error_answer(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})
            digest = repository.tags.get(reference, reference)
            if digest not in repository.manifests:
                return error_answer(404, "MANIFEST_UNKNOWN", "manifest unknown", {"reference": reference})
            if request.method == "DELETE":
                return self._delete_manifest(repository, reference, digest)
            media_type, data = repository.manifests[digest]
        if self.settings.strict_accept and not _accepts(request, media_type):
            return error_answer(404, "MANIFEST_UNKNOWN", f"{media_type} is not in Accept")
        return Answer(200, [("Content-Type", media_type), ("Docker-Content-Digest", digest)], data)

    def _delete_manifest(self, repository: Repository, reference: str, digest: str) -> Answer:
        if not self.settings.deletes:
            return error_answer(405, "UNSUPPORTED", "deletes are off")
        if reference != digest:
            del repository.tags[reference]
        else:
            del repository.manifests[digest]
            repository.tags = {tag: other for tag, other in repository.tags.items() if other != digest}
        return Answer(202)

    def _put_manifest(self, request: Request, name: str, reference: str) -> Answer:
        data = request.body()
        media_type = request.headers.get("Content-Type", "")
        if len(data) > MAX_MANIFEST:
            return error_answer(413, "MANIFEST_INVALID", "manifest too large")
        digest = digest_of(data, reference.partition(":")[0] if ":" in reference else "sha256")
        if ":" in reference and digest != reference:
            return error_answer(400, "DIGEST_INVALID", f"the manifest has the digest {digest}")
        try:
            document = json.loads(data)
            declared = document.get("mediaType", media_type)
        except (ValueError, AttributeError):
            return error_answer(400, "MANIFEST_INVALID", "not a JSON object")
        if declared != media_type:
            return error_answer(400, "MANIFEST_INVALID", f"Content-Type is {media_type}, mediaType is {declared}")
        with self._lock:
            repository = self.repository(name)
            if self.settings.check_blobs and (missing := _missing(repository, document)):
                return error_answer(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", {"digest": missing})
            repository.manifests[digest] = media_type, data
            if ":" not in reference:
                repository.tags[reference] = digest
        headers = [("Location", self._absolute(f"/v2/{name}/manifests/{digest}")), ("Docker-Content-Digest", digest)]
        if self.settings.referrers and "subject" in document:
            headers.append(("OCI-Subject", document["subject"]["digest"]))
        return Answer(201, headers)

    def _blob(self, request: Request, name: str, digest: str) -> Answer:
        if denied := self._access(request, name):
            return denied
        with self._lock:
            repository = self.repositories.get(name)
            if repository is None or digest not in repository.blobs:
                return error_answer(404, "BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest})
            if request.method == "DELETE":
                if not self.settings.deletes:
                    return error_answer(405, "UNSUPPORTED", "deletes are off")
                del repository.blobs[digest]
                return Answer(202)
            data = repository.blobs[digest]
            if self.settings.redirect and request.method == "GET":
                path = f"/signed/{next(self._numbers)}/{digest.replace(':', '/')}"
                self._signed[path] = data, time.monotonic() + self.settings.signed_for
                return Answer(307, [("Location", f"{self._storage.url}{path}?X-Signature=abc%2Fdef&X-Expires=1")])
        return _content(request, data, [("Docker-Content-Digest", digest)])

    def _stored(self, request: Request) -> Answer:
        """Answer as a storage service does, which does not want two kinds of authorization."""
        if request.headers.get("Authorization"):
            return Answer(400, [("Content-Type", "application/xml")], b"<Code>InvalidArgument</Code>")
        data, end = self._signed.get(request.path, (None, 0.0))
        if data is None or end < time.monotonic() or request.argument("X-Signature") != "abc/def":
            return Answer(403, [("Content-Type", "application/xml")], b"<Code>AccessDenied</Code>")
        return _content(request, data, [])

    def expire_redirects(self) -> None:
        """Let all addresses at the storage server end now."""
        self._signed.clear()

    # Uploads.

    def _start_upload(self, request: Request, name: str) -> Answer:
        source, mounted = request.argument("from"), request.argument("mount")
        others = (f"repository:{source}:pull",) if source and self.settings.mount else ()
        if denied := self._access(request, name, *others):
            return denied
        if mounted and source and self.settings.mount:
            with self._lock:
                data = self.repository(source).blobs.get(mounted)
                if data is not None:
                    self.repository(name).blobs[mounted] = data
                    return self._created(name, mounted)
        identifier = f"upload-{next(self._numbers)}"
        upload = self._uploads[identifier] = _Upload(name)
        self.repository(name)
        if (digest := request.argument("digest")) is not None and self.settings.single_post:
            return self._finish(request, identifier, upload, digest)
        answer = self._progress(identifier, upload, 202)
        if self.settings.min_chunk:
            answer.headers.append(("OCI-Chunk-Min-Length", str(self.settings.min_chunk)))
        return answer

    def _upload(self, request: Request, name: str, identifier: str) -> Answer:
        if denied := self._access(request, name):
            return denied
        upload = self._uploads.get(identifier)
        if upload is None or upload.repository != name:
            return error_answer(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "GET":
            return self._progress(identifier, upload, 204)
        if request.method == "DELETE":
            del self._uploads[identifier]
            return Answer(204)
        if self.settings.location_query and request.argument("_state") is None:
            return error_answer(400, "BLOB_UPLOAD_INVALID", "the query of Location is missing")
        if self.settings.single_state and request.argument("_state") not in (None, str(upload.state)):
            return error_answer(404, "BLOB_UPLOAD_INVALID", "blob upload invalid: not the newest Location")
        if request.method == "PUT":
            digest = request.argument("digest")
            if digest is None:
                return error_answer(400, "DIGEST_INVALID", "the digest is missing")
            return self._finish(request, identifier, upload, digest)
        if refused := self._append(request, identifier, upload):
            return refused
        return self._progress(identifier, upload, 202)

    def _append(self, request: Request, identifier: str, upload: _Upload) -> Answer | None:
        content_range = request.headers.get("Content-Range")
        if content_range is not None:
            found = re.fullmatch(r"(\d+)-(\d+)", content_range)
            if found is None or int(found[1]) != len(upload.data):
                answer = self._progress(identifier, upload, 416)
                answer.headers.append(("Content-Type", "text/plain"))
                return answer
        size = len(upload.data)
        try:
            for piece in request.read():
                upload.data += piece
        except BodyCutOff:
            if not self.settings.resume:
                self._uploads.pop(identifier, None)
            raise
        if content_range is not None and found is not None and len(upload.data) - size != int(found[2]) + 1 - size:
            del upload.data[size:]
            return error_answer(400, "SIZE_INVALID", f"Content-Range is {content_range}")
        upload.state += 1
        return None

    def _finish(self, request: Request, identifier: str, upload: _Upload, digest: str) -> Answer:
        before = len(upload.data)
        if refused := self._append(request, identifier, upload):
            return refused
        if re.fullmatch(_DIGEST, digest) is None or digest_of(upload.data, digest.partition(":")[0]) != digest:
            del upload.data[before:]
            upload.state -= 1
            return error_answer(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        del self._uploads[identifier]
        self.repository(upload.repository).blobs[digest] = bytes(upload.data)
        return self._created(upload.repository, digest)

    def _created(self, name: str, digest: str) -> Answer:
        location = self._absolute(f"/v2/{name}/blobs/{digest}")
        return Answer(201, [("Location", location), ("Docker-Content-Digest", digest)])

    def _progress(self, identifier: str, upload: _Upload, status: int) -> Answer:
        path = f"/v2/{upload.repository}/blobs/uploads/{identifier}"
        if self.settings.location_query:
            path += f"?_state={upload.state}&_other=%3D%26"
        end = max(0, len(upload.data) - 1)
        headers = [("Location", self._absolute(path)), ("Range", f"0-{end}"), ("Docker-Upload-UUID", identifier)]
        return Answer(status, headers)

    @property
    def open_uploads(self) -> int:
        """The number of uploads that were begun and neither finished nor given up."""
        return len(self._uploads)

    def _absolute(self, path: str) -> str:
        return self.url + path if self.settings.absolute else path

    # Lists.

    def _tags(self, request: Request, name: str) -> Answer:
        if denied := self._access(request, name):
            return denied
        if name not in self.repositories:
            return error_answer(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})
        tags = sorted(self.repositories[name].tags)
        last = request.argument("last")
        rest = [tag for tag in tags if last is None or tag > last]
        size = min(self.settings.page, int(request.argument("n") or self.settings.page))
        page = rest[:size]
        answer = _json({"name": name, "tags": None if self.settings.null_tags and not tags else page})
        if len(rest) > size > 0:
            link = f"/v2/{name}/tags/list?n={size}&last={quote(page[-1])}"
            answer.headers.append(("Link", f'<{self._absolute(link)}>; rel="next"'))
        return answer

    def _referrers(self, request: Request, name: str, digest: str) -> Answer:
        if denied := self._access(request, name):
            return denied
        if not self.settings.referrers:
            return error_answer(404, "UNSUPPORTED", "there is no referrers API")
        wanted = request.argument("artifactType") if self.settings.filters else None
        found = []
        for own, (media_type, data) in sorted(self.repository(name).manifests.items()):
            document = _object(json.loads(data))
            if _object(document.get("subject")).get("digest") != digest:
                continue
            kind = document.get("artifactType") or _object(document.get("config")).get("mediaType")
            entry = {"mediaType": media_type, "digest": own, "size": len(data), "artifactType": kind}
            if "annotations" in document:
                entry["annotations"] = document["annotations"]
            if wanted in (None, kind):
                found.append(entry)
        start = int(request.argument("start") or 0)
        page = found[start : start + self.settings.page]
        answer = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page})
        answer.set_header("Content-Type", OCI_INDEX)
        if wanted is not None:
            answer.headers.append(("OCI-Filters-Applied", "artifactType"))
        if (end := start + self.settings.page) < len(found):
            link = f"/v2/{name}/referrers/{digest}?start={end}"
            if wanted is not None:
                link += f"&artifactType={quote(wanted, safe='')}"
            answer.headers.append(("Link", f'<{self._absolute(link)}>; rel="next"'))
        return answer


_JSON = ("Content-Type", "application/json")
_CALLS = tuple(
    (re.compile(pattern), handle)
    for pattern, handle in (
        (f"/v2/({_NAME})/manifests/({_TAG}|{_DIGEST})", FakeRegistry._manifest),
        (f"/v2/({_NAME})/blobs/({_DIGEST})", FakeRegistry._blob),
        (f"/v2/({_NAME})/blobs/uploads/", FakeRegistry._start_upload),
        (f"/v2/({_NAME})/blobs/uploads/(upload-[0-9]+)", FakeRegistry._upload),
        (f"/v2/({_NAME})/tags/list", FakeRegistry._tags),
        (f"/v2/({_NAME})/referrers/({_DIGEST})", FakeRegistry._referrers),
    )
)


def _json(document: object) -> Answer:
    return Answer(200, [_JSON], json.dumps(document).encode())


def _object(value: object) -> Mapping[str, Any]:
    """Return a value of JSON that should be an object; an empty one for others: tests add what is wrong."""
    return value if isinstance(value, dict) else {}


def _accepts(request: Request, media_type: str) -> bool:
    values = ",".join(request.headers.get_all("Accept") or ["*/*"])
    accepted = {value.split(";")[0].strip() for value in values.split(",")}
    return bool(accepted & {media_type, "*/*", "application/*"})


def _missing(repository: Repository, document: Mapping[str, Any]) -> str | None:
    """Return the digest of something that a manifest names and that is not here."""
    for entry in document.get("manifests") or ():
        if entry["digest"] not in repository.manifests:
            return str(entry["digest"])
    for entry in (document.get("config"), *(document.get("layers") or ())):
        if entry is not None and not entry.get("urls") and entry["digest"] not in repository.blobs:
            return str(entry["digest"])
    return None


def _content(request: Request, data: Bytes, headers: list[tuple[str, str]]) -> Answer:
    """Return the answer to GET or HEAD of a blob, or of a part of it."""
    view = memoryview(data)
    headers = [("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes"), *headers]
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if found is None or not any(found.groups()):
        return Answer(200, headers, view)
    first, last = found.groups()
    start = int(first) if first else max(0, len(view) - int(last))
    end = min(int(last), len(view) - 1) if first and last else len(view) - 1
    if start > end:
        return Answer(416, [("Content-Range", f"bytes */{len(view)}")])
    return Answer(206, [*headers, ("Content-Range", f"bytes {start}-{end}/{len(view)}")], view[start : end + 1])
