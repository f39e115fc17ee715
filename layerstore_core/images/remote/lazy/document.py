"""A table of contents as JSON, read entry by entry: the whole of it may have millions, and comes from anywhere."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from layerstore_core.errors import InvalidLayer

#: The longest JSON value in a table, in characters: an entry with all that a tar header may have.
MAX_VALUE: Final = 1 << 20
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def read_entries(chunks: Iterator[bytes], where: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of a table, in their order.

    Args:
        chunks: the bytes of the table.
        where: what it is the table of, for messages.

    Raises:
        InvalidLayer: it is no table of version 1, or an entry is too long.
    """
    reader = _Reader(chunks, where)
    reader.expect("{")
    version: Any = None
    if not reader.take("}"):
        while True:
            key = reader.value()
            reader.expect(":")
            if key == "entries" and reader.take("["):
                yield from _items(reader)
            elif key == "version":
                version = reader.value()
            else:
                reader.value()
            if not reader.take(","):
                break
        reader.expect("}")
    reader.end()
    if version != 1 or isinstance(version, bool):
        raise InvalidLayer(f"the table of contents of {where} has version {str(version)[:40]!r}, not 1")


def _items(reader: _Reader) -> Iterator[dict[str, Any]]:
    if reader.take("]"):
        return
    while True:
        item = reader.value()
        if not isinstance(item, dict):
            raise reader.error("an entry is no object")
        yield item
        if not reader.take(","):
            break
    reader.expect("]")


class _Reader:
    """A reader of JSON that comes in pieces."""

    def __init__(self, chunks: Iterator[bytes], where: str) -> None:
        self._chunks = chunks
        self._where = where
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._parse = json.JSONDecoder().raw_decode
        self._text = ""
        self._position = 0
        self._at_end = False

    def value(self) -> Any:
        """Return the next value."""
        self._skip_space()
        while True:
            try:
                value, end = self._parse(self._text, self._position)
                if end == len(self._text) and self._more():
                    continue  # a number may go on
            except RecursionError:
                raise self.error("it is nested too deep") from None
            except ValueError as error:
                if len(self._text) - self._position > MAX_VALUE:
                    raise self.error(f"an entry is longer than {MAX_VALUE} characters") from None
                if self._more():
                    continue
                raise self.error(str(error)[:200]) from None
            if end - self._position > MAX_VALUE:
                raise self.error(f"an entry is longer than {MAX_VALUE} characters")
            self._position = end
            return value

    def take(self, character: str) -> bool:
        """Read a character if it is the next one; return whether it is."""
        self._skip_space()
        if not self._text.startswith(character, self._position):
            return False
        self._position += 1
        return True

    def expect(self, character: str) -> None:
        """Read a character, which must be the next one."""
        if not self.take(character):
            raise self.error(f"there is no {character!r} where one should be")

    def end(self) -> None:
        """Check that nothing else follows."""
        self._skip_space()
        if self._position < len(self._text):
            raise self.error("something follows after its end")

    def error(self, reason: str) -> InvalidLayer:
        return InvalidLayer(f"the table of contents of {self._where} cannot be read: {reason}")

    def _skip_space(self) -> None:
        while True:
            match = _SPACE.match(self._text, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._text) or not self._more():
                return

    def _more(self) -> bool:
        """Get more text; return whether there is any."""
        while not self._at_end:
            chunk = next(self._chunks, None)
            self._at_end = chunk is None
            try:
                text = self._decoder.decode(chunk or b"", final=self._at_end)
            except UnicodeDecodeError:
                raise self.error("it is not UTF-8") from None
            if text:
                self._text = self._text[self._position :] + text
                self._position = 0
                return True
        return False
