"""Uploads: begun, or saved by mounting a blob of another repository, and given up."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from layerstore_core.errors import LayerStoreError
from layerstore_core.registry.errors import InvalidAnswer, RegistryDenied
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.connections import Method
from layerstore_core.registry.http.session import Session
from layerstore_core.registry.http.urls import BadURL, join
from layerstore_core.registry.results import Upload

PUSH: Final = ("pull", "push")
_RECEIVED = re.compile(r"(?:bytes=)?0-(\d{1,19})", re.ASCII)


def begin_upload(session: Session, repository: str) -> Upload:
    """Begin an upload."""
    begun = _begin(session, repository, (), ())
    assert begun is not None
    return begun


def mount_blob(session: Session, repository: str, digest: str, source: str) -> Upload | None:
    """Mount a blob from another repository.

    Returns:
        `None` if it is done; otherwise an upload that has begun.
    """
    try:
        return _begin(session, repository, (("mount", digest), ("from", source)), ((source, "pull"),))
    except RegistryDenied:
        # There may be no right to read the other repository, but to write this one.
        return begin_upload(session, repository)


def cancel_upload(session: Session, upload: Upload) -> None:
    """Give up an upload, so that the registry need not keep its bytes. Registries that cannot do it collect them."""
    what = f"give up an upload to {upload.repository}"
    call = upload_call("DELETE", upload, what, accept=frozenset({200, 202, 204, 404, 405}))
    try:
        session.write(call, Answer.close)
    except (LayerStoreError, OSError):
        pass


def _begin(
    session: Session, repository: str, query: tuple[tuple[str, str], ...], also: tuple[tuple[str, str], ...]
) -> Upload | None:
    def result(answer: Answer) -> Upload | None:
        answer.close()
        if answer.status == 201:
            return None
        minimum = answer.header("OCI-Chunk-Min-Length")
        size = int(minimum) if minimum.isascii() and minimum.isdigit() and len(minimum) < 13 else 0
        return with_location(session, answer, Upload(repository, "", size))

    call = Call(
        method="POST",
        repository=repository,
        path="blobs/uploads/",
        query=query,
        what=f"begin an upload to {repository}",
        actions=PUSH,
        also=also,
        headers={"Content-Length": "0"},
        accept=frozenset({201, 202} if query else {202}),
    )
    return session.write(call, result)


def upload_call(method: Method, upload: Upload, what: str, **more: Any) -> Call:
    """Return a request to an upload, which is made once: the next one has another address."""
    return Call(
        method=method, repository=upload.repository, url=upload.url, what=what, actions=PUSH, again=False, **more
    )


def with_location(session: Session, answer: Answer, upload: Upload) -> Upload:
    """Return an upload with the address of its next request, from the header `Location`.

    Raises:
        InvalidAnswer: it is missing, or not a URL.
    """
    try:
        return replace(upload, url=join(answer.url, answer.header("Location")))
    except BadURL as error:
        raise InvalidAnswer(
            session.host, f"cannot send to {upload.repository}: the address of the upload is wrong: {error}"
        ) from None


def received_by(answer: Answer) -> int | None:
    """Return how many bytes of an upload a registry has; `None` if it does not say. `0-0` says none."""
    found = _RECEIVED.fullmatch(answer.header("Range"))
    if found is None:
        return None
    last = int(found[1])
    return last + 1 if last else 0
