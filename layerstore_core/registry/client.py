"""The client of one registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self, TypeVar

from layerstore_core.base.arguments import check_type
from layerstore_core.registry.blobs import BlobCall, BlobResponse
from layerstore_core.registry.credentials import Credentials
from layerstore_core.registry.errors import InvalidAnswer, NotInRegistry
from layerstore_core.registry.hosts import RegistrySettings
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.session import Session
from layerstore_core.registry.lists import list_referrers, list_tags
from layerstore_core.registry.manifests import ACCEPT, DIGEST, MAX_MANIFEST, digest_of, media_type_of
from layerstore_core.registry.results import Manifest, ManifestInfo, PutManifest, Upload
from layerstore_core.registry.upload.begin import cancel_upload, mount_blob
from layerstore_core.registry.upload.send import upload_blob
from layerstore_core.registry.upload.source import UploadSource

Result = TypeVar("Result")

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_PUSH: Final = ("pull", "push")
_DELETE: Final = ("delete",)


class Registry:
    """A client of one registry, by the OCI distribution specification. It needs no store; threads may share it.

    Credentials come from the files of Docker and of podman. Requests are made again after failures that may pass.
    Close it, or use it in a `with` statement: it keeps connections open.

    Args:
        host: the registry, as in names of images: `docker.io`, `registry.example.com:5000`.
        settings: settings of registries, by host; `None` for those of the configuration files.
        timeout: the longest silence of a server in seconds.
        credentials: the credentials for the registry; `None` for those of the files. Mirrors get those of the files.

    Raises:
        ValueError: `host` is not a host with an optional port.
    """

    def __init__(
        self,
        host: str,
        *,
        settings: RegistrySettings | None = None,
        timeout: float = 30.0,
        credentials: Credentials | None = None,
    ) -> None:
        check_type(host, str, "a registry's host, a str")
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host[:300]!r} is not the host of a registry; expected HOST or HOST:PORT")
        self.host = host
        self._session = Session(host, settings, timeout, credentials)

    def __repr__(self) -> str:
        return f"<Registry {self.host}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections that are not in use, and give up what other threads wait to ask again."""
        self._session.close()

    def ping(self) -> None:
        """Ask whether the host is a registry, and takes the credentials.

        Raises:
            RegistryError: it is not one, or does not take them.
        """
        self._session.write(Call(method="GET", what="use it as a registry", actions=()), Answer.close)

    def manifest(self, repository: str, reference: str, *, mirrors: bool = True) -> Manifest:
        """Return a manifest or an index.

        Args:
            repository: the repository, such as `library/debian`.
            reference: a tag or a digest. If it is a digest, the manifest has it.
            mirrors: whether a mirror may be asked; it may have an older one for a tag.

        Raises:
            NotInRegistry: there is no such repository or manifest.
            InvalidAnswer: it is too long, has another digest, or is nothing that this version reads.
            RegistryError: the registry does not give it.
        """
        call = _manifest_call("GET", repository, reference)

        def result(answer: Answer) -> Manifest:
            with answer:
                data = answer.whole(MAX_MANIFEST)
            digest = digest_of(data, reference if call.by_digest else "sha256")
            if call.by_digest and digest != reference:
                raise InvalidAnswer(self.host, f"cannot {call.what}: what it sends has another digest, {digest}")
            try:
                return Manifest(data, digest, media_type_of(data, answer.header("Content-Type")))
            except ValueError as error:
                raise InvalidAnswer(self.host, f"cannot {call.what}: {error}") from None

        return (self._session.read if mirrors else self._session.write)(call, result)

    def manifest_info(self, repository: str, reference: str) -> ManifestInfo | None:
        """Return what the registry says of a manifest, without its bytes; `None` if there is none.

        Args:
            repository: the repository.
            reference: a tag or a digest.
        """

        def result(answer: Answer) -> ManifestInfo:
            answer.close()
            told = answer.header("Docker-Content-Digest")
            media_type = answer.header("Content-Type").partition(";")[0].strip().lower()
            return ManifestInfo(told if DIGEST.fullmatch(told) else "", media_type, answer.length)

        return _or_none(lambda: self._session.read(_manifest_call("HEAD", repository, reference), result))

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> PutManifest:
        """Store a manifest or an index. What it refers to must be in the repository.

        Args:
            repository: the repository.
            reference: the tag that it gets, or its digest.
            data: its bytes.
            media_type: its media type.

        Raises:
            InvalidAnswer: the registry says that it has another digest.
            RegistryError: the registry does not take it.
        """
        call = _manifest_call(
            "PUT", repository, reference, headers={"Content-Type": media_type}, body=data, accept=frozenset({201, 202})
        )
        digest = digest_of(data, reference if call.by_digest else "sha256")

        def result(answer: Answer) -> PutManifest:
            answer.close()
            told = answer.header("Docker-Content-Digest")
            if told and told != digest and told.partition(":")[0] == digest.partition(":")[0]:
                raise InvalidAnswer(self.host, f"cannot {call.what}: it stored {told[:100]!r} in place of {digest}")
            return PutManifest(digest, bool(answer.header("OCI-Subject")))

        return self._session.write(call, result)

    def blob(
        self, repository: str, digest: str, *, start: int = 0, end: int | None = None, size: int | None = None
    ) -> BlobResponse:
        """Begin to read a blob, or a range of it. The caller compares the digest.

        Args:
            repository: the repository.
            digest: the digest of the blob.
            start: the offset of the first byte. Not every registry knows ranges: see `BlobResponse.start`.
            end: the offset after the last byte; `None` to read up to the end.
            size: the size that the blob must have; `None` if it is not known.

        Raises:
            NotInRegistry: there is no such blob.
            RegistryError: the registry does not give it.
        """
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"no bytes are from {start} up to {end}")
        return BlobResponse(
            self._session, BlobCall(_repository(repository), _digest(digest), start=start, end=end, size=size)
        )

    def blob_size(self, repository: str, digest: str) -> int | None:
        """Return the size of a blob in bytes; `None` if it is not there.

        Raises:
            InvalidAnswer: the registry does not say the size.
            RegistryError: the registry does not answer this.
        """
        call = _blob_call("HEAD", repository, digest, what="look for the blob")

        def result(answer: Answer) -> int:
            answer.close()
            if answer.length is None:
                raise InvalidAnswer(self.host, f"cannot {call.what}: it does not say the size")
            return answer.length

        return _or_none(lambda: self._session.write(call, result))

    def mount_blob(self, repository: str, digest: str, source: str) -> Upload | None:
        """Make a blob of another repository of this registry a blob of this one, without sending it.

        Args:
            repository: the repository that gets the blob.
            digest: the digest of the blob.
            source: the repository that has it.

        Returns:
            `None` if it is done. Otherwise the upload that the registry has begun: give it to `upload_blob`.

        Raises:
            RegistryError: the registry does not answer this.
        """
        return mount_blob(self._session, _repository(repository), _digest(digest), _repository(source))

    def upload_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        chunks: Callable[[], Iterable[bytes]],
        *,
        upload: Upload | None = None,
    ) -> None:
        """Send a blob.

        Args:
            repository: the repository.
            digest: the digest of the blob.
            size: its size in bytes.
            chunks: returns its bytes, in pieces of any size. It is called again if the upload has to start over.
            upload: an upload that `mount_blob` returned.

        Raises:
            RegistryError: the registry does not take it.
        """
        source = UploadSource(_digest(digest), size, chunks)
        upload_blob(self._session, _repository(repository), source, upload)

    def cancel_upload(self, upload: Upload) -> None:
        """Give up an upload that `mount_blob` returned, and that nothing is sent to."""
        cancel_upload(self._session, upload)

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest, and all tags that lead to it; errors as for `delete_tag`."""
        self._delete(_manifest_call("DELETE", repository, _digest(digest), accept=frozenset({200, 202, 204})))

    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag, and not its manifest.

        Raises:
            NotInRegistry: there is no such thing.
            RegistryError: the registry does not allow it. Many do not.
        """
        if not _TAG.fullmatch(tag):
            raise ValueError(f"not a tag: {tag[:300]!r}")
        self._delete(_manifest_call("DELETE", repository, tag, accept=frozenset({200, 202, 204})))

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a blob; errors as for `delete_tag`."""
        self._delete(
            _blob_call("DELETE", repository, digest, what="delete the blob", accept=frozenset({200, 202, 204}))
        )

    def _delete(self, call: Call) -> None:
        self._session.write(call, Answer.close)

    def tags(self, repository: str) -> Iterator[str]:
        """Return the tags of a repository, page by page, in the order of the registry.

        Raises:
            NotInRegistry: there is no such repository.
            RegistryError: the registry does not give them.
        """
        return list_tags(self._session, _repository(repository))

    def referrers(self, repository: str, digest: str, artifact_type: str | None = None) -> list[dict[str, Any]]:
        """Return the descriptors of what refers to a manifest: signatures, attestations, lists of materials.

        A registry without this call may have a tag with them instead, by the rule of the OCI specification.

        Args:
            repository: the repository.
            digest: the digest of the manifest. It need not be there.
            artifact_type: the only type to return; `None` for all.

        Raises:
            RegistryError: the registry does not give them.
        """
        return list_referrers(self._session, self.manifest, _repository(repository), _digest(digest), artifact_type)


def _manifest_call(method: Any, repository: str, reference: str, **more: Any) -> Call:
    by_digest = ":" in reference
    if by_digest:
        _digest(reference)
    elif not _TAG.fullmatch(reference):
        raise ValueError(f"not a tag or a digest: {reference[:300]!r}")
    verb = {"GET": "read", "HEAD": "look for", "PUT": "store", "DELETE": "delete"}[method]
    what = f"{verb} the manifest {_repository(repository)}{'@' if by_digest else ':'}{reference}"
    more.setdefault("headers", {"Accept": ACCEPT} if method in ("GET", "HEAD") else {})
    return Call(
        method=method,
        repository=repository,
        path=f"manifests/{reference}",
        what=what,
        actions={"PUT": _PUSH, "DELETE": _DELETE}.get(method, ("pull",)),
        by_digest=by_digest,
        **more,
    )


def _blob_call(method: Any, repository: str, digest: str, *, what: str, **more: Any) -> Call:
    return Call(
        method=method,
        repository=_repository(repository),
        path=f"blobs/{_digest(digest)}",
        what=f"{what} {repository}@{digest}",
        actions=_DELETE if method == "DELETE" else ("pull",),
        by_digest=True,
        **more,
    )


def _or_none(ask: Callable[[], Result]) -> Result | None:
    try:
        return ask()
    except NotInRegistry:
        return None


def _repository(name: str) -> str:
    check_type(name, str, "a repository, a str")
    if not _REPOSITORY.fullmatch(name) or len(name) > 255:
        raise ValueError(f"not the name of a repository: {name[:300]!r}")
    return name


def _digest(digest: str) -> str:
    check_type(digest, str, "a digest, a str")
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"not a digest: {digest[:300]!r}; expected sha256:<64 lower-case hex digits>, or sha512:<128>")
    return digest
