"""The layer stream: what a driver's `apply_diff` is given, as plain bytes or as parsed entries.

Whichever way it is consumed, the tar passes once, and whoever listens learns of every byte of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

from layerstore_core.base.nameset import SeenNames
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.plain_entries import PlainEntry
from layerstore_core.tar.scanner import TarScanner

#: How much is read of a file at a time, in bytes.
_CHUNK: Final = 1 << 20


class StreamListener(Protocol):
    """Who learns of all that passes, in order."""

    def segment(self, data: bytes) -> None:
        """Bytes that are no payload: headers, padding, what follows the last entry."""

    def whole_entry(self, segment: bytes, entry: TarEntry, payload: memoryview) -> None:
        """An entry in one piece: its headers, as `segment` would have them, and all of its payload."""

    def plain_entries(self, entries: list[PlainEntry]) -> None:
        """Entries in one piece, one after the other."""

    def begin_entry(self, entry: TarEntry) -> None:
        """An entry begins that does not come in one piece; its headers were the last segment."""

    def payload(self, chunk: memoryview) -> None:
        """A piece of the entry's payload."""

    def end_entry(self) -> None:
        """The payload is complete."""

    def end(self) -> None:
        """The tar is complete."""


class LayerStream(io.RawIOBase):
    """A layer's uncompressed tar, on its way into a driver.

    Either read it like any unbuffered binary file, or take it apart::

        for entry in diff.entries():
            for chunk in diff.payload():
                ...

    The two cannot be mixed. What is left unread is read by the store when `apply_diff` returns.

    Args:
        scanner: takes the tar apart.
        listener: learns of all that passes.
        await_parents: what the method of this name is to do.
        count_implied: told how much what the tar's names imply would take in it, in bytes; raises where that is too much.
    """

    def __init__(
        self,
        scanner: TarScanner,
        listener: StreamListener | None = None,
        await_parents: Callable[[], None] | None = None,
        *,
        count_implied: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.count_implied = count_implied
        self._await_parents = await_parents
        self._scanner = scanner
        self._listener = listener
        self._current: TarEntry | None = None
        #: The current entry's payload, where it came in one piece and has not been taken.
        self._whole: memoryview | None = None
        self._done = False
        self._entries_begun = False
        self._pieces: Iterator[bytes | memoryview] | None = None
        self._piece: memoryview = memoryview(b"")
        # An error is raised again and again: a driver that swallows one must not take the rest for a whole layer.
        self._failure: Exception | None = None
        #: How many entries have begun.
        self.entry_count = 0
        #: Set by the unpacker where a file of this layer may not be found by its name at the end.
        self.displaced = False
        #: The unpacker's record of the names that this layer has written.
        self.touched = SeenNames()

    @classmethod
    def over(cls, file: BinaryIO) -> LayerStream:
        """A stream over an uncompressed tar that a driver has read, or reads, itself: for handing it to `unpack_layer`.

        Args:
            file: read from where it stands; it stays open.
        """
        return cls(TarScanner(lambda: file.read(_CHUNK) or b""))

    def await_parents(self) -> None:
        """Wait until the layers below are complete, if they are being applied at the same time.

        For drivers with `Capabilities.parallel_apply`, before they look at what is below.

        Raises:
            LayerStoreError: one of them has failed. To be passed on, like what reading raises.
        """
        if self._await_parents is not None:
            self._await_parents()

    @property
    def read_raw(self) -> bool:
        """Whether the driver has read the stream as bytes, so that what it made of them is not known."""
        return self._pieces is not None

    def entries(self) -> Iterator[TarEntry]:
        """The entries, each once; asking for the next one skips what was not taken of a payload.

        Raises:
            InvalidLayer: the tar is malformed or cut off.
            ValueError: the stream has been read as bytes already.
        """
        if self._pieces is not None:
            raise ValueError("this layer stream has been read as bytes; it cannot be iterated as entries")
        self._entries_begun = True
        while (entry := self._next_entry()[1]) is not None:
            yield entry

    def entries_and_runs(self) -> Iterator[TarEntry | list[PlainEntry]]:
        """As `entries`; plain entries, which most are, come in lists, with all that there is of them.

        Raises:
            InvalidLayer: the tar is malformed or cut off.
            ValueError: the stream has been read as bytes already.
        """
        for entry in self.entries():
            yield entry
            while run := self._next_run():
                yield run

    def whole_payload(self) -> memoryview | None:
        """The payload of the current entry in one piece, which stays valid; `None` where `payload` is needed.

        This is how to take the many small files of a layer at the least cost.
        """
        whole, self._whole = self._whole, None
        return whole

    def payload(self) -> Iterator[memoryview]:
        """The payload of the current entry as it stands in the tar: of a sparse file, its data regions."""
        whole, self._whole = self._whole, None
        if whole:
            yield whole
        entry = self._current
        if entry is None:
            return
        listener = self._listener
        try:
            for chunk in self._scanner.payload():
                if listener is not None:
                    listener.payload(chunk)
                yield chunk
            if self._current is entry:
                self._current = None
                if listener is not None:
                    listener.end_entry()
        except Exception as error:
            self._failure = error
            raise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read raw bytes, as `io.RawIOBase` has it.

        Raises:
            InvalidLayer: the tar is malformed or cut off.
            ValueError: `entries` has been used already.
        """
        if self._entries_begun:
            raise ValueError("this layer stream is being iterated as entries; it cannot be read as bytes")
        if self._failure is not None:
            raise self._failure
        if self._pieces is None:
            self._pieces = self._raw_pieces()
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def drain(self) -> None:
        """Read whatever is left, so that those who listen see all of it.

        Raises:
            InvalidLayer: the tar is malformed or cut off.
        """
        if self._pieces is not None:
            for _ in self._pieces:
                pass
        while self._next_entry()[1] is not None:
            while self._next_run():
                pass

    def _next_run(self) -> list[PlainEntry]:
        """The plain entries that come next."""
        if self._failure is not None:
            raise self._failure
        if self._current is not None:
            for _ in self.payload():
                pass
        self._whole = None
        try:
            entries = self._scanner.plain_entries()
            if entries:
                self.entry_count += len(entries)
                if self._listener is not None:
                    self._listener.plain_entries(entries)
        except Exception as error:
            self._failure = error
            raise
        return entries

    def _next_entry(self) -> tuple[bytes, TarEntry | None]:
        if self._failure is not None:
            raise self._failure
        self._whole = None
        if self._current is not None:
            for _ in self.payload():
                pass
        if self._done:
            return b"", None
        listener = self._listener
        try:
            segment, entry = self._scanner.next_entry()
            if entry is not None:
                self.entry_count += 1
                self._whole = whole = self._scanner.whole_payload()
                if whole is None:
                    self._current = entry
                if listener is None:
                    pass
                elif whole is not None:
                    listener.whole_entry(segment, entry, whole)
                else:
                    listener.segment(segment)
                    listener.begin_entry(entry)
                return segment, entry
            if listener is not None and segment:
                listener.segment(segment)
        except Exception as error:
            self._failure = error
            raise
        self._done = True
        if self._pieces is None:
            for _ in self._trailer():
                pass
        return segment, None

    def _trailer(self) -> Iterator[bytes]:
        try:
            for chunk in self._scanner.trailer():
                if self._listener is not None:
                    self._listener.segment(chunk)
                yield chunk
            if self._listener is not None:
                self._listener.end()
        except Exception as error:
            self._failure = error
            raise

    def _raw_pieces(self) -> Iterator[bytes | memoryview]:
        while True:
            segment, entry = self._next_entry()
            yield segment
            if entry is None:
                yield from self._trailer()
                return
            yield from self.payload()
