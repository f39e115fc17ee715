"""Downloading the blobs of an image, several at once, into files that are read while they grow.

Each byte is handled once: received, written, and read again by the one who unpacks the layer, who also compares the
digest. A download that was interrupted goes on where it stopped, also in another process (`partial_file`).

All blobs are asked for whole, in their order, so many at once as there are connections. If a connection is free and no
blob is left to begin, half of what is missing of another blob is fetched through it, where that saves seconds and the
server answers requests for ranges.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Condition
from typing import Final, Self

from layerstore_core.base.threads import Threads
from layerstore_core.errors import LayerStoreError
from layerstore_core.images.remote.receive.download import PIECE, Blob, Download, Fetch, Transfer, path_of
from layerstore_core.images.remote.receive.followed import FollowedBlob
from layerstore_core.images.remote.receive.partial_file import MAX_RANGES
from layerstore_core.log import logger
from layerstore_core.registry.errors import InvalidAnswer, RegistryUnavailable

#: How many blobs, or ranges of blobs, are received at once.
CONNECTIONS: Final = 3
#: Bytes are received in pieces of such sizes, in bytes: as many as come in about `_PIECE_SECONDS`, so that a process
#: that is killed loses little, and progress is seen. A reader waits for the largest piece.
_SMALLEST_PIECE: Final = 16 << 10
_PIECE_SECONDS: Final = 0.1
#: A range is divided if at least so many bytes and seconds of it are left, after so many seconds.
_WORTH_BYTES: Final = 32 << 20
_WORTH_SECONDS: Final = 4.0
_MEASURED: Final = 1.0
#: No blob is begun while so many files are open, unless it is being read: descriptors are limited. A complete file
#: that was read is open only while it is read again.
_OPEN: Final = 256
#: A transfer that brings not even one of the smallest pieces in so many seconds has failed, and is looked for so often.
#: A server that is silent for longer than the client's timeout has failed before.
_STALLED: Final = 300.0
_LOOK: Final = 5.0
#: The threads are waited for, for so many seconds. One that waits for a server ends later, by itself.
_PATIENCE: Final = 0.5
#: A file that another process has locked is tried again after so many seconds.
_LOCKED: Final = 0.05


class DownloadStopped(LayerStoreError):
    """The download was ended before the blob was complete."""


class _NoRanges(Exception):
    """The server sends the whole blob when it is asked for a range."""


class Downloads:
    """Downloads of several blobs; a context manager that ends them.

    Args:
        directory: the directory of their files.
        blobs: the blobs, in the order in which they are needed.
        fetch: asks for a blob.
        host: the registry, for messages.
        connections: how many transfers there are at once.
        changed: called when a blob has a new state, and when some of its bytes have been received or read; from any
            thread, and not for long.
    """

    def __init__(
        self,
        directory: Path,
        blobs: Iterable[Blob],
        fetch: Fetch,
        host: str,
        *,
        connections: int = CONNECTIONS,
        changed: Callable[[Download], object] = lambda _: None,
    ) -> None:
        self._directory = directory
        self._fetch = fetch
        self._host = host
        self._changed = changed
        self._condition = Condition()
        self._stopped = False
        self._error: BaseException | None = None
        self._downloads = {blob.digest: Download(blob, path_of(directory, blob.digest)) for blob in blobs}
        self._connections = connections
        self._threads = Threads("layerstore-download", connections)

    @property
    def all(self) -> list[Download]:
        """All of them."""
        return list(self._downloads.values())

    def __contains__(self, digest: str) -> bool:
        return digest in self._downloads

    def start(self) -> None:
        """Begin to download."""
        if self._downloads:
            for _ in range(self._connections):
                self._threads.submit(self._work)

    def open(self, digest: str, name: str) -> FollowedBlob:
        """Open a blob at its start. Reads wait for the bytes that they need.

        Args:
            digest: its digest.
            name: its name in messages.

        Raises:
            OSError: it was read before, and another process has removed it.
        """
        download = self._downloads[digest]
        with self._condition:
            download.file.wake()
            download.opened = True
            download.readers += 1
            self._condition.notify_all()
        self._changed(download)
        return FollowedBlob(download.blob.size, partial(self.read, download), name, partial(self._unread, download))

    def read(self, download: Download, position: int, count: int) -> bytes:
        """Return bytes of a blob, at least one, waiting for them; `b""` at its end.

        Raises:
            DownloadStopped: the downloads were ended.
            RegistryError, OSError: a blob could not be received, this one or another.
        """
        wanted = min(position + min(count, PIECE), download.blob.size)
        if position >= wanted:
            return b""
        with self._condition:
            while (end := download.file.end_of(position)) < wanted:
                if self._error is not None:
                    raise self._error
                if self._stopped:
                    raise DownloadStopped(f"the download of {download.blob.digest} was ended")
                self._check_stalled()
                self._condition.wait(_LOOK)
            if self._stopped and self._error is not None:
                raise self._error
            download.reading += 1
        try:
            data = download.file.read_at(position, min(count, end - position, PIECE))
        finally:
            with self._condition:
                download.reading -= 1
                self._end(download)
        if position + len(data) > download.position:
            download.position = position + len(data)
            self._changed(download)
        return data

    def _unread(self, download: Download) -> None:
        """Note that a reader has closed a blob."""
        with self._condition:
            download.readers -= 1
            self._rest(download)
            self._condition.notify_all()

    @staticmethod
    def _rest(download: Download) -> None:
        """Close the file of a blob that was read."""
        unused = download.opened and not download.readers and not download.transfers
        if unused and download.file.complete:
            download.file.rest()

    def _end(self, download: Download) -> None:
        """Close the file of a blob after the end, once nobody writes to it or reads from it."""
        if self._stopped and not (download.transfers or download.reading):
            download.file.close()

    def can_give(self, digest: str) -> bool:
        """Return whether the file of a blob can be moved away: it is complete, and still in its place."""
        file = self._downloads[digest].file
        return file.complete and file.in_place()

    def give(self, digest: str, target: Path) -> None:
        """Move the file of a blob, which is complete; it can still be read here.

        Raises:
            OSError: it cannot be moved.
        """
        self._downloads[digest].file.move(target)

    def cancel(self) -> None:
        """End all transfers, and all reads that wait for them. The files stay: the next download goes on with them."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def remove(self) -> None:
        """Remove the files: their content is not needed any more.

        Raises:
            OSError: a file cannot be removed.
        """
        for download in self._downloads.values():
            download.file.remove()

    def remove_damaged(self) -> list[str]:
        """Remove the files that have another digest than they should, or may have, of those that were read.

        A file that is not complete may be damaged: what read it has failed for some reason.

        Returns:
            The digests of the blobs.

        Raises:
            OSError: a file cannot be read or removed.
        """
        found = []
        for download in self._downloads.values():
            if download.opened and not (
                download.file.complete and download.file.awake() and download.digest_is_right()
            ):
                found.append(download.blob.digest)
                for distrust in list(download.distrust):
                    distrust()  # a mirror that is damaged is not asked for it again
                download.file.unlink()  # a thread may still write to it
        return found

    def close(self) -> None:
        """End the transfers, and release the locks. A second call does nothing."""
        self.cancel()
        self._threads.close(_PATIENCE)
        with self._condition:
            for download in self._downloads.values():
                self._end(download)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # The threads

    def _work(self) -> None:
        while True:
            try:
                transfer = self._next()
            except BaseException as error:  # raised again in the readers
                self._fail(error)
                return
            if transfer is None:
                return
            try:
                self._receive(transfer)
                self._changed(transfer.download)
            except _NoRanges:
                self._give_back(transfer)
            except DownloadStopped:
                pass
            except RegistryUnavailable as error:
                error.add_note("what has arrived is kept for the next pull")
                self._fail(error)
            except BaseException as error:
                self._fail(error)
            finally:
                with self._condition:
                    transfer.download.transfers.remove(transfer)
                    self._rest(transfer.download)
                    self._end(transfer.download)
                    self._condition.notify_all()

    def _next(self) -> Transfer | None:
        """Return the next transfer; wait for one while there may be more; `None` if there is nothing left to do."""
        with self._condition:
            while not self._stopped:
                locked = False
                begun = [one for one in self._downloads.values() if one.begun == "downloading" and not one.file.resting]
                full = len(begun) >= _OPEN
                for download in self._downloads.values():
                    if download.begun != "downloading":
                        if full and not download.opened:
                            locked = True
                            continue
                        if not download.file.try_lock():
                            locked = True
                            if download.begun == "waiting":
                                download.begun = "elsewhere"
                                self._changed(download)
                            continue
                        self._begin(download)
                    if download.todo:
                        return self._transfer(download, *download.todo.pop(0))
                running = [one for download in self._downloads.values() for one in download.transfers]
                if not (running or locked):
                    return None
                if (divided := self._divide(running)) is not None:
                    return divided
                self._condition.wait(_LOCKED if locked else _MEASURED)
        return None

    def _begin(self, download: Download) -> None:
        missing = download.blob.size - download.received
        if download.received and missing:
            logger.info("{}: {} bytes are here already", download.blob.digest, download.received)
        status = os.statvfs(self._directory)
        blocks = status.f_bavail if os.geteuid() else status.f_bfree  # some are reserved for root
        if missing > blocks * status.f_frsize:
            raise OSError(
                errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {missing} bytes are needed", str(self._directory)
            )
        download.begun = "downloading"
        download.todo = download.file.gaps()
        self._condition.notify_all()
        self._changed(download)

    @staticmethod
    def _transfer(download: Download, start: int, end: int, *, divided: bool = False) -> Transfer:
        now = time.monotonic()
        transfer = Transfer(download, start, end, divided, now, start, now)
        download.transfers.append(transfer)
        return transfer

    def _divide(self, running: list[Transfer]) -> Transfer | None:
        """Divide the range that takes longest, if that is worth it; return its second half."""
        now = time.monotonic()
        best, longest = None, _WORTH_SECONDS
        for one in running:
            seconds, left = now - one.began, one.end - one.start
            if not one.download.divisible or seconds < _MEASURED or left < _WORTH_BYTES:
                continue
            needs = left * seconds / max(1, one.start - one.first)
            if needs > longest and len(one.download.file.ranges) + len(one.download.transfers) < MAX_RANGES // 2:
                best, longest = one, needs
        if best is None:
            return None
        middle = best.start + (best.end - best.start) // 2
        end, best.end = best.end, middle
        return self._transfer(best.download, middle, end, divided=True)

    def _give_back(self, transfer: Transfer) -> None:
        """Leave a range to the transfer that it was divided from."""
        with self._condition:
            transfer.download.divisible = False
            for one in transfer.download.transfers:
                if one.end == transfer.start and one is not transfer and one.start < one.end:
                    one.end = transfer.end
                    return
            transfer.download.todo.append((transfer.start, transfer.end))

    def _receive(self, transfer: Transfer) -> None:
        """Receive a range. Where it stops, the registry's client goes on.

        Raises:
            DownloadStopped: the downloads were ended.
            RegistryError: it cannot be received.
            OSError: it cannot be written.
        """
        download, blob = transfer.download, transfer.download.blob
        start, end = transfer.start, transfer.end
        with closing(self._fetch(blob, start, None if end == blob.size else end)) as body:
            download.distrust.append(body.distrust)
            if body.size is not None and body.size != blob.size:
                if body.distrust():  # it was a mirror: the next server is asked
                    self._receive(transfer)
                    return
                raise InvalidAnswer(
                    self._host, f"blob {blob.digest} has {body.size} bytes, not {blob.size} as the manifest says"
                )
            skip = start - body.start
            if skip:
                self._check_restart(transfer)
            count = _SMALLEST_PIECE
            while transfer.start < transfer.end:
                if self._stopped:
                    raise DownloadStopped(f"the download of {blob.digest} was ended")
                began = time.monotonic()
                data: bytes | memoryview = body.read(count)
                if not data:
                    raise InvalidAnswer(
                        self._host, f"blob {blob.digest} ends after {transfer.start} of {blob.size} bytes"
                    )
                seconds = time.monotonic() - began
                count = min(count * 2, PIECE) if seconds < _PIECE_SECONDS else max(count // 2, _SMALLEST_PIECE)
                if skip:
                    passed = min(skip, len(data))
                    skip -= passed
                    data = memoryview(data)[passed:]
                if data:
                    self._store(transfer, memoryview(data))
                    self._changed(download)

    def _store(self, transfer: Transfer, data: memoryview) -> None:
        """Write what was received, up to the end of the range, and tell those who wait for it.

        Raises:
            OSError: it cannot be written.
        """
        download = transfer.download
        data = data[: transfer.end - transfer.start]
        try:
            download.file.write_at(transfer.start, data)
            with self._condition:
                start, transfer.start = transfer.start, transfer.start + len(data)
                transfer.advanced = time.monotonic()
                download.file.add(start, transfer.start)
                download.fetched += len(data)
                self._condition.notify_all()
        except OSError as error:
            error.filename = str(self._directory)
            error.add_note(f"while downloading {download.blob.digest}; what has arrived is kept for the next pull")
            raise

    @staticmethod
    def _check_restart(transfer: Transfer) -> None:
        """Where the server sends the whole blob instead of a range, read it from its start if there is no other way."""
        if transfer.divided:
            raise _NoRanges
        transfer.download.divisible = False
        logger.info("{}: the server does not send parts: all is received again", transfer.download.blob.digest)

    def _check_stalled(self) -> None:
        """Fail if a server sends next to nothing: it would hold the pull for ever."""
        before = time.monotonic() - _STALLED
        for download in self._downloads.values():
            for one in download.transfers:
                if one.advanced < before:
                    reason = f"blob {download.blob.digest}: less than {_SMALLEST_PIECE} bytes came in {_STALLED:.0f} s"
                    self._fail(RegistryUnavailable(self._host, f"{reason}; what has arrived is kept"))

    def _fail(self, error: BaseException) -> None:
        with self._condition:
            if self._error is None and not self._stopped:
                self._error = error
            self._stopped = True
            self._condition.notify_all()
