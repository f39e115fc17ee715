"""Text for people: untrusted text, escaped for a terminal, a log and a line of output; sizes in units."""

from __future__ import annotations

import os
from typing import Final

_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
#: Characters that are letters or marks by their category, but invisible: with them, two names may look the same.
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")

#: The characters that `os.fsdecode` makes of bytes from 0xa0 on.
_BYTES: Final = "".join(map(chr, range(0xDCA0, 0xDD00)))


def printable(text: str, *, backslash: bool = True, path: bool = False) -> str:
    r"""Return text in one line that can mislead neither a terminal nor a reader.

    Characters that are not visible are escaped as in Python. Control characters (C0 and C1) become `\n` or `\x1b`, for
    example. The others become `\u202e` or `\udcff`, for example: characters that change the direction of text, line
    separators, spaces other than the usual one, characters without a width, unassigned characters, and surrogates,
    which represent bytes that are not UTF-8.

    Args:
        text: any text, such as a file name or a string from untrusted JSON.
        backslash: whether to write `\` as `\\`, so that two different texts never look the same. Use `False` for a
            sentence in which quotations are already escaped.
        path: whether the text is a file name from `os.fsdecode`. Then bytes that are neither UTF-8 nor control
            characters of Latin-1 stay surrogates, so that they can be written as they are on disk.
    """
    if text.isascii() and text.isprintable():
        return text.replace("\\", "\\\\") if backslash else text
    # If the text is not a file name, its surrogates written as bytes may be UTF-8 of any control character.
    kept = _BYTES if path and _is_name(text) else ""
    return "".join(
        _escaped(c) if c not in kept and _is_hidden(c) else "\\\\" if c == "\\" and backslash else c for c in text
    )


def _is_name(text: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(text)) == text
    except UnicodeEncodeError:
        return False


def _is_hidden(character: str) -> bool:
    return not character.isprintable() or character in _INVISIBLE


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def human_size(size: int) -> str:
    """Return `size`, which is in bytes, in binary units: `17 B`, `1.5 KiB`, `230 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        # 1023.95 would be rounded up to 1024.0, which is 1.0 of the next unit.
        if value < (1023.95 if unit != "B" else 1024) or unit == "PiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
