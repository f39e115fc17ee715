"""Sending a blob: one request where that works, pieces where it does not, and only the rest where it broke.

One PUT after the POST is what containerd sends, so registries know it; it is also the quickest. Servers in between may
limit the size of a request, and some registries keep what came before a connection broke: then pieces are sent.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.registry.errors import InvalidAnswer, NotInRegistry, RegistryError, RegistryUnavailable
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.session import Session
from layerstore_core.registry.results import Upload
from layerstore_core.registry.upload.begin import (
    PUSH,
    begin_upload,
    cancel_upload,
    received_by,
    upload_call,
    with_location,
)
from layerstore_core.registry.upload.source import SourceFailed, UploadSource

#: The sizes of pieces: where one is too large for a server, the next one is tried. nginx takes 1 MiB at first.
_PIECES: Final = (32 << 20, 8 << 20, 1 << 20)
#: After how many breaks of one request the blob is sent in pieces, and how often an upload may be lost.
_BREAKS: Final = 2
#: An upload that has made such progress since it broke may break as often again, as if it were new.
_PROGRESS: Final = 1 << 20


def upload_blob(session: Session, repository: str, source: UploadSource, upload: Upload | None) -> None:
    """Send a blob, again from where it broke, or from the beginning. What fails in the end is given up.

    Args:
        session: the registry.
        repository: the repository.
        source: the bytes.
        upload: an upload that has begun; `None` to begin one.

    Raises:
        RegistryError: the registry does not take it.
        Exception: what the source raises.
    """
    sending = _Sending(session, repository, source, upload)
    try:
        sending.run()
    except SourceFailed as failed:
        sending.cancel()
        raise failed.error from None
    except BaseException:
        sending.cancel()
        raise


class _Sending:
    """One blob on its way."""

    def __init__(self, session: Session, repository: str, source: UploadSource, upload: Upload | None) -> None:
        self._session = session
        self._repository = repository
        self._source = source
        self._upload = upload
        self._what = f"send the blob {source.digest} to {repository}"
        #: How many bytes the registry has, as far as it is known, and whether it said so itself after a break.
        self._received = 0
        self._resumed = False
        #: How many bytes one request has; 0 for all.
        self._piece = 0
        self._breaks = self._losses = 0

    def run(self) -> None:
        """Send the blob."""
        pauses = self._session.pauses()
        before = 0
        while True:
            try:
                if self._upload is None:
                    self._received, self._resumed = 0, False
                    self._upload = begin_upload(self._session, self._repository)
                self._send(self._upload)
            except RegistryError as error:
                if not self._may_pass(error):
                    raise
                failure = error
            else:
                return
            if self._received - before >= _PROGRESS:
                pauses.allow_again()
            before = self._received
            if not pauses.wait(failure.retry_after):
                raise failure
            if self._is_there():
                # The answer that said so was lost.
                return
            self._find_position()

    def cancel(self) -> None:
        """Give up."""
        upload, self._upload = self._upload, None
        if upload is not None:
            cancel_upload(self._session, upload)

    def _send(self, upload: Upload) -> None:
        if self._piece:
            piece = max(self._piece, upload.chunk_min)
            while self._received < self._source.size:
                upload = self._send_piece(upload, min(self._received + piece, self._source.size))
        self._finish(upload)

    def _send_piece(self, upload: Upload, end: int) -> Upload:
        """Send one piece, and return the upload with the address of the next."""
        start = self._received

        def result(answer: Answer) -> Upload:
            answer.close()
            self._upload = with_location(self._session, answer, upload)
            received = received_by(answer)
            # A server may keep less than was sent, but not more.
            self._received = end if received is None or not start < received < end else received
            return self._upload

        call = upload_call(
            "PATCH",
            upload,
            self._what,
            headers=_content(start, end, of=None),
            body=lambda: self._source.read(start, end),
            accept=frozenset({202, 204}),
        )
        return self._session.write(call, result)

    def _finish(self, upload: Upload) -> None:
        """Send what is left, and end the upload."""
        start, size, digest = self._received, self._source.size, self._source.digest

        def result(answer: Answer) -> None:
            answer.close()
            told = answer.header("Docker-Content-Digest")
            if told and told != digest and told.partition(":")[0] == digest.partition(":")[0]:
                raise InvalidAnswer(self._session.host, f"cannot {self._what}: it stored {told[:100]!r} in its place")

        call = upload_call(
            "PUT",
            upload,
            self._what,
            query=(("digest", digest),),
            headers=_content(start, size, of=size),
            body=lambda: self._source.read(start, size),
            accept=frozenset({201, 204}),
        )
        self._session.write(call, result)

    def _may_pass(self, error: RegistryError) -> bool:
        """Return whether the blob may arrive if it is sent again, and choose how."""
        if error.status == 413:
            return self._choose_smaller()
        if isinstance(error, RegistryUnavailable):
            self._breaks += error.status is None
            if self._breaks >= _BREAKS and not self._piece:
                self._piece = _PIECES[0]
            return True
        if isinstance(error, NotInRegistry) or error.status == 416:
            # It does not know the upload any more, or has another number of bytes than we think.
            self._losses += 1
            return self._losses <= _BREAKS
        if error.status == 400 and self._resumed:
            # What it had before, and what was sent afterwards, is not the blob.
            self.cancel()
            self._losses += 1
            return self._losses <= _BREAKS
        return False

    def _choose_smaller(self) -> bool:
        """Choose smaller pieces, if there are any."""
        tried = self._piece or self._source.size
        self._piece = next((piece for piece in _PIECES if piece < tried), 0)
        return self._piece > 0

    def _is_there(self) -> bool:
        """Return whether the registry has the blob."""

        def result(answer: Answer) -> int | None:
            answer.close()
            return answer.length

        call = Call(
            method="HEAD",
            repository=self._repository,
            path=f"blobs/{self._source.digest}",
            what=self._what,
            actions=PUSH,
            by_digest=True,
            again=False,
        )
        try:
            return self._session.write(call, result) == self._source.size
        except RegistryError:
            return False

    def _find_position(self) -> None:
        """Ask how many bytes the registry has. If it does not know the upload, another one has to begin."""
        upload = self._upload
        if upload is None:
            return

        def result(answer: Answer) -> int | None:
            answer.close()
            if answer.header("Location"):
                self._upload = with_location(self._session, answer, upload)
            return received_by(answer)

        call = upload_call("GET", upload, self._what, accept=frozenset({200, 202, 204}))
        try:
            received = self._session.write(call, result)
        except RegistryError:
            received = None
        if received is None or received > self._source.size:
            self._upload = None
        else:
            self._received, self._resumed = received, received > 0


def _content(start: int, end: int, *, of: int | None) -> dict[str, str]:
    """Return the headers for the bytes from `start` up to `end`: of the last request, if `of` is the blob's size."""
    headers = {"Content-Length": str(end - start), "Content-Type": "application/octet-stream"}
    if end > start and (start > 0 or of is None):
        headers["Content-Range"] = f"{start}-{end - 1}"
    return headers
