"""The bytes of a blob that is sent: read in pieces from any position, because an upload may have to go back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


class SourceFailed(Exception):
    """The source of the bytes failed, and not the registry.

    Args:
        error: what the source raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class UploadSource:
    """The bytes of one blob.

    Args:
        digest: its digest.
        size: its size in bytes.
        chunks: returns its bytes from the first one on, in pieces of any size.
    """

    def __init__(self, digest: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        self.digest = digest
        self.size = size
        self._chunks = chunks
        self._pieces: Iterator[bytes] = iter(())
        self._rest: bytes | memoryview = b""
        self._position = -1

    def read(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Return the bytes of a range. Going back reads the source again from its beginning.

        Raises:
            SourceFailed: the source failed, or has another size.
        """
        try:
            self._go_to(start)
            while self._position < end:
                yield self._take(end - self._position)
            if end == self.size and (len(self._rest) or next(self._pieces, b"")):
                raise ValueError(f"the blob has more than the {self.size} bytes that it is said to have")
        except Exception as error:
            self._position = -1
            raise SourceFailed(error) from error

    def _go_to(self, position: int) -> None:
        if not 0 <= self._position <= position:
            self._pieces, self._rest, self._position = iter(self._chunks()), b"", 0
        while self._position < position:
            self._take(position - self._position)

    def _take(self, most: int) -> bytes | memoryview:
        """Return the next bytes: one piece of the source, or a part of it."""
        while not len(self._rest):
            piece = next(self._pieces, None)
            if piece is None:
                raise ValueError(f"the blob ends after {self._position} of the {self.size} bytes")
            self._rest = piece
        taken = self._rest
        if len(taken) > most:
            view = memoryview(taken)
            taken, self._rest = view[:most], view[most:]
        else:
            self._rest = b""
        self._position += len(taken)
        return taken
