"""The layer stream: the argument of a driver's `apply_diff`, readable as plain bytes or as parsed entries.

In both ways, the tar is read once, and a listener gets every byte of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

from layerstore_core.base.nameset import seen_names
from layerstore_core.streams.saved import SavedPayloads
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.run import Run
from layerstore_core.tar.scanner import TarScanner

#: How many bytes are read from a file at a time.
_CHUNK: Final = 1 << 20


class StreamListener(Protocol):
    """A listener that gets all parts of the tar, in order."""

    def segment(self, data: bytes) -> None:
        """Process bytes that are not payload: headers, padding, the bytes after the last entry."""

    def run(self, run: Run) -> None:
        """Process a run: entries that come in one piece each."""

    def begin_entry(self, entry: TarEntry) -> None:
        """Begin an entry that does not come in one piece. Its headers were the last segment."""

    def payload(self, chunk: memoryview) -> None:
        """Process a piece of the entry's payload."""

    def end_entry(self) -> None:
        """End the entry: its payload is complete."""

    def end(self) -> None:
        """End the tar: it is complete."""


class LayerStream(io.RawIOBase):
    """A layer's uncompressed tar, for a driver to read.

    Either read it like any unbuffered binary file, or read its entries::

        for entry in diff.entries():
            for chunk in diff.payload():
                ...

    The two cannot be mixed. When `apply_diff` returns, the store reads the rest.

    Args:
        scanner: parses the tar.
        listener: gets all parts of the tar as they are read.
        await_parents: called by the method of this name.
        count_implied: called with a number of bytes: the size of the entries that the tar would have in addition if it
            had one for each directory that its names imply. It raises an exception if the layer is too large then.
        save_payloads: the attribute of this name.
    """

    def __init__(
        self,
        scanner: TarScanner,
        listener: StreamListener | None = None,
        await_parents: Callable[[], None] | None = None,
        *,
        count_implied: Callable[[int], None] = lambda _: None,
        save_payloads: Callable[[], SavedPayloads | None] = lambda: None,
    ) -> None:
        super().__init__()
        self.count_implied = count_implied
        self._await_parents = await_parents
        #: Returns where the unpacker saves contents of this layer's files before it removes them; `None` if that is not
        #: necessary. Who calls this has to do so, and to call it before anything is read: then a pipe is not spooled.
        self.save_payloads = save_payloads
        self._scanner = scanner
        self._listener = listener
        self._current: TarEntry | None = None
        #: The current entry's payload, if it came in one piece and has not been returned yet.
        self._whole: memoryview | None = None
        self._done = False
        self._entries_begun = False
        self._pieces: Iterator[bytes | memoryview] | None = None
        self._piece: memoryview = memoryview(b"")
        # Raised again at each later call: a driver that suppresses it must not mistake the rest for a whole layer.
        self._failure: Exception | None = None
        #: How many entries have been read, or begun.
        self.entry_count = 0
        #: Set by the unpacker if a file of this layer may not have its name any more at the end.
        self.displaced = False
        #: The names that this layer has written, as the unpacker records them.
        self.touched = seen_names()

    @classmethod
    def over(cls, file: BinaryIO) -> LayerStream:
        """Open a stream over an uncompressed tar that a driver has, to pass it to `unpack_layer`.

        Args:
            file: the tar. It is read from its current position, and stays open.
        """
        return cls(TarScanner(lambda: file.read(_CHUNK) or b""))

    def await_parents(self) -> None:
        """Wait until the parent layers are complete, if they are being applied at the same time.

        A driver with `Capabilities.parallel_apply` calls this before it looks at the parents.

        Raises:
            LayerStoreError: a parent has failed. The driver must let this error through, like errors of reading.
        """
        if self._await_parents is not None:
            self._await_parents()

    @property
    def read_raw(self) -> bool:
        """Whether the driver has read the stream as bytes, so that it is not known which files it made."""
        return self._pieces is not None

    def entries(self) -> Iterator[TarEntry]:
        """Iterate over the entries. The step to the next entry skips the rest of the payload.

        Raises:
            InvalidLayer: the tar is malformed or cut off.
            ValueError: the stream has been read as bytes already.
        """
        self._begin_entries()
        while (entry := self._next_entry()[1]) is not None:
            yield entry

    def entries_and_runs(self) -> Iterator[TarEntry | Run]:
        """Iterate over the entries, as `entries`, but with plain entries in runs, where there are kernels.

        Most entries are plain. The payloads of a run's entries are in the run.

        Raises:
            InvalidLayer: the tar is malformed or cut off.
            ValueError: the stream has been read as bytes already.
        """
        self._begin_entries()
        while True:
            while (run := self._next_run()) is not None:
                yield run
            if (entry := self._next_entry()[1]) is None:
                return
            yield entry

    def payload(self) -> Iterator[memoryview]:
        """Iterate over the payload of the current entry, as it is in the tar: for a sparse file, its data regions."""
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
        """Read raw bytes, as in `io.RawIOBase`.

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
        """Read the rest, so that the listener gets all of the tar.

        Raises:
            InvalidLayer: the tar is malformed or cut off.
        """
        if self._pieces is not None:
            for _ in self._pieces:
                pass
        while self._next_run() is not None or self._next_entry()[1] is not None:
            pass

    def _begin_entries(self) -> None:
        if self._pieces is not None:
            raise ValueError("this layer stream has been read as bytes; it cannot be iterated as entries")
        self._entries_begun = True

    def _next_run(self) -> Run | None:
        """Read the plain entries that come next; return `None` if there are none, or no kernels."""
        self._finish_entry()
        if self._done:
            return None
        try:
            run = self._scanner.next_run()
            if run is not None:
                self.entry_count += len(run)
                if self._listener is not None:
                    self._listener.run(run)
        except Exception as error:
            self._failure = error
            raise
        return run

    def _finish_entry(self) -> None:
        """Read the rest of the current entry's payload."""
        if self._failure is not None:
            raise self._failure
        self._whole = None
        if self._current is not None:
            for _ in self.payload():
                pass

    def _next_entry(self) -> tuple[bytes, TarEntry | None]:
        self._finish_entry()
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
                if listener is not None:
                    listener.segment(segment)
                    listener.begin_entry(entry)
                    if whole:
                        listener.payload(whole)
                    if whole is not None:
                        listener.end_entry()
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
            while (run := self._next_run()) is not None:
                yield run.raw()
            segment, entry = self._next_entry()
            yield segment
            if entry is None:
                yield from self._trailer()
                return
            yield from self.payload()
