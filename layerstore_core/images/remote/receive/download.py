"""One blob that is downloaded: what is asked for, its file, and where it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from layerstore_core.images.remote.events import State
from layerstore_core.images.remote.receive.partial_file import PartialFile

#: The largest pieces in which blobs are received and read, in bytes.
PIECE: Final = 1 << 20


class Body(Protocol):
    """The answer to a request for a blob.

    Attributes:
        start: the offset of its first byte in the blob.
        size: the size of the whole blob; `None` if the answer does not say that.
    """

    @property
    def start(self) -> int: ...
    @property
    def size(self) -> int | None: ...
    def read(self, count: int, /) -> bytes: ...
    def distrust(self) -> bool: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob to be downloaded.

    Attributes:
        digest: its digest.
        size: its size, in bytes.
        urls: other places that have it.
    """

    digest: str
    size: int
    urls: tuple[str, ...] = ()


#: Asks for a blob from an offset on, up to another one; `None` for the rest.
Fetch = Callable[[Blob, int, int | None], Body]


@dataclass(slots=True, eq=False)
class Transfer:
    """A range of a blob that one thread receives; `start` moves on, and `end` back where the range is divided."""

    download: Download
    start: int
    end: int
    divided: bool = False
    began: float = 0.0
    first: int = 0
    advanced: float = 0.0


class Download:
    """One blob and its file.

    Args:
        blob: the blob.
        path: the path of its file.

    Attributes:
        blob: the blob.
        file: its file.
        fetched: how many bytes were received, in this run.
        position: how far it has been read.
        opened: whether it has been opened for reading.
        readers: how many have it open.
        reading: how many read from its file just now, which so stays open.
        distrust: of each server that has sent a part of it: reports that the bytes were wrong.
    """

    def __init__(self, blob: Blob, path: Path) -> None:
        self.blob = blob
        self.file = PartialFile(path, blob.size)
        self.fetched = 0
        self.position = 0
        self.opened = False
        self.readers = 0
        self.reading = 0
        self.begun: Literal["waiting", "elsewhere", "downloading"] = "waiting"
        self.todo: list[tuple[int, int]] = []
        self.transfers: list[Transfer] = []
        self.divisible = True
        self.distrust: list[Callable[[], bool]] = []

    @property
    def received(self) -> int:
        """How many bytes are there, also those of earlier runs."""
        return self.file.received

    @property
    def state(self) -> State:
        """Where the blob is."""
        if self.begun != "downloading" or not self.file.complete:
            return self.begun
        return "waiting" if not self.opened else "done" if self.position >= self.blob.size else "unpacking"

    def digest_is_right(self) -> bool:
        """Return whether the file, which is complete, has the digest that it should have.

        Raises:
            OSError: it cannot be read.
        """
        algorithm, _, expected = self.blob.digest.partition(":")
        found, position = hashlib.new(algorithm), 0
        while position < self.blob.size:
            data = self.file.read_at(position, min(PIECE, self.blob.size - position))
            found.update(data)
            position += len(data)
        return found.hexdigest() == expected


def path_of(directory: Path, digest: str) -> Path:
    """Return the path of a blob's file."""
    algorithm, _, digits = digest.partition(":")
    return directory / algorithm / digits
