"""Sending a blob: one request where that works, in pieces where it does not, and again where it broke."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from layerstore_core.registry.errors import InvalidAnswer
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.session import Session
from layerstore_core.registry.http.urls import BadURL, join
from layerstore_core.registry.results import Upload

_PUSH: Final = ("pull", "push")


def begin_upload(session: Session, repository: str, *, digest: str = "", source: str = "") -> Upload | None:
    """Begin an upload, or mount the blob from another repository.

    Args:
        session: the registry.
        repository: the repository that gets the blob.
        digest: the blob to mount; empty for none.
        source: the repository that has it.

    Returns:
        the upload; `None` if the registry has mounted the blob.
    """

    def result(answer: Answer) -> Upload | None:
        with answer:
            if answer.status == 201:
                return None
            minimum = answer.header("OCI-Chunk-Min-Length")
            size = int(minimum) if minimum.isascii() and minimum.isdigit() and len(minimum) < 13 else 0
            return Upload(repository, location_of(session, answer, repository), size)

    wanted = (("mount", digest), ("from", source)) if source else ()
    return session.write(
        Call(
            method="POST",
            repository=repository,
            path="blobs/uploads/",
            query=wanted,
            what=f"begin an upload to {repository}",
            actions=_PUSH,
            also=((source, "pull"),) if source else (),
            headers={"Content-Length": "0"},
            accept=frozenset({201, 202}) if source else frozenset({202}),
        ),
        result,
    )


def send_blob(session: Session, upload: Upload, digest: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
    """Send a whole blob in one request, and end the upload."""

    def result(answer: Answer) -> None:
        answer.close()

    session.write(
        Call(
            method="PUT",
            repository=upload.repository,
            url=upload.url,
            query=(("digest", digest),),
            what=f"send the blob {digest} to {upload.repository}",
            actions=_PUSH,
            headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            body=chunks,
            accept=frozenset({201, 204}),
            again=False,
        ),
        result,
    )


def location_of(session: Session, answer: Answer, repository: str) -> str:
    """Return the absolute URL of a header `Location`, which names the upload's next request."""
    try:
        return join(answer.url, answer.header("Location"))
    except BadURL as error:
        raise InvalidAnswer(
            session.host, f"cannot send to {repository}: the address of the upload is wrong: {error}"
        ) from None
