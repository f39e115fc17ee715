"""Text that others have written, made fit for a terminal, a log and a line of output."""

from __future__ import annotations

import os
from typing import Final

_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
#: Letters and marks by their category, but with nothing to see: with them two names look the same.
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")

#: What `os.fsdecode` makes of bytes from 0xa0 on.
_BYTES: Final = "".join(map(chr, range(0xDCA0, 0xDD00)))


def printable(text: str, *, backslash: bool = True, path: bool = False) -> str:
    r"""Write text in one line by which neither a terminal nor a reader can be misled.

    What is not to be seen is escaped, as Python writes it: control characters (C0 and C1) as `\n` or `\x1b`, what changes
    the direction of text, line separators, spaces other than the usual one, characters without a width, unassigned ones,
    and surrogates, which stand for bytes that are no UTF-8, as `\u202e` or `\udcff`.

    Args:
        text: any text, such as a file's name or a string from somebody's JSON.
        backslash: also write `\` as `\\`, so that two texts never look the same. Not for a sentence whose quotations are
            escaped already.
        path: it is the name of a file, as `os.fsdecode` gives it: bytes that are no UTF-8, and no control characters of
            Latin-1 either, stay surrogates, so that they can be written as they are on disk.
    """
    if text.isascii() and text.isprintable():
        return text.replace("\\", "\\\\") if backslash else text
    # Surrogates that no name of a file has may be UTF-8 when they are written as bytes: any control character.
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
