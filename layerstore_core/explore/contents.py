"""The content of a file as lines of text, or of hex digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Final, overload

from layerstore_core.explore.lines import Line, Part, Role
from layerstore_core.text import printable

#: The most bytes of a file that are shown.
MOST_BYTES: Final = 8 << 20
#: Longer lines of text are continued in the next one.
MOST_CHARACTERS: Final = 1000
_PER_LINE: Final = 16
_SAMPLE: Final = 8192


class FileContent:
    """The beginning of a file, or all of it.

    Args:
        data: the bytes.
        size: the size of the whole file in bytes.
    """

    def __init__(self, data: bytes, size: int) -> None:
        self.data = data
        self.size = size

    @classmethod
    def read(cls, file: BinaryIO, size: int) -> FileContent:
        """Read as much of a file as is shown; errors as from reading it."""
        data = file.read(MOST_BYTES)
        if len(data) == size:
            file.read(1)  # the end verifies the content
        return cls(data, size)

    @property
    def is_text(self) -> bool:
        """Whether it looks like text: UTF-8 without control characters, as far as the first bytes show."""
        sample = self.data[:_SAMPLE]
        if b"\0" in sample:
            return False
        try:
            sample.decode()
        except UnicodeDecodeError as error:
            return error.start >= len(sample) - 3 and len(self.data) > len(sample)  # the sample ends in a character
        return True

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the file."""
        return len(self.data) == self.size

    def text_lines(self) -> list[Line]:
        """Return the lines of the text; characters that cannot be seen are escaped, tabs are blanks."""
        text = self.data.decode("utf-8", "surrogateescape")
        lines: list[Line] = []
        for line in text.split("\n"):
            shown = printable(line.expandtabs(8).rstrip("\r"), backslash=False)
            lines += [
                (Part(shown[start : start + MOST_CHARACTERS]),)
                for start in range(0, max(len(shown), 1), MOST_CHARACTERS)
            ]
        if lines and lines[-1] == (Part(""),):
            lines.pop()
        return lines

    def hex_lines(self) -> Sequence[Line]:
        """Return the lines with offsets, hex digits and characters; each is made when it is asked for."""
        return _HexLines(self.data)


class _HexLines(Sequence[Line]):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return (len(self._data) + _PER_LINE - 1) // _PER_LINE

    @overload
    def __getitem__(self, number: int) -> Line: ...

    @overload
    def __getitem__(self, number: slice) -> list[Line]: ...

    def __getitem__(self, number: int | slice) -> Line | list[Line]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = number * _PER_LINE
        part = self._data[start : start + _PER_LINE]
        first, second = part[:8].hex(" "), part[8:].hex(" ")
        characters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        return Part(f"{start:08x}  ", Role.FAINT), Part(f"{first:<23}  {second:<23}  "), Part(characters, Role.LINK)
