"""Whiteouts: names in layers that delete files of the parent.

Rules: the OCI image specification, "Whiteouts" in `layer.md`; the names come from aufs.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from layerstore_core.errors import InvalidLayer

WHITEOUT_PREFIX: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
#: The prefix of aufs's own names at the top of a layer. They have no meaning for others.
AUFS_PREFIX: Final = b".wh..wh."
#: The directory where aufs kept the content of hard links between its branches. Links may point into it.
AUFS_LINKS: Final = b".wh..wh.plnk"


class NameKind(Enum):
    """The meaning of an entry's cleaned name."""

    #: A file of any type, or the root itself (the empty name).
    PLAIN = "plain"
    #: A file or directory of the parent is deleted.
    WHITEOUT = "whiteout"
    #: Everything that the parent has in the directory is hidden.
    OPAQUE = "opaque"
    #: A file in aufs's directory of hard links.
    AUFS_LINK = "aufs link"
    #: Any other name of aufs's own.
    AUFS = "aufs"


def classify(clean: bytes) -> NameKind:
    """Return the meaning of a cleaned name."""
    if b".wh." not in clean:
        return NameKind.PLAIN
    if clean.startswith(AUFS_PREFIX) and clean != OPAQUE:
        return NameKind.AUFS_LINK if clean.startswith(AUFS_LINKS + b"/") else NameKind.AUFS
    base = clean.rpartition(b"/")[2]
    if base == OPAQUE:
        return NameKind.OPAQUE
    return NameKind.WHITEOUT if base.startswith(WHITEOUT_PREFIX) else NameKind.PLAIN


def whiteout_target(clean: bytes) -> bytes:
    """Return the cleaned name of the file or directory that a whiteout deletes.

    Raises:
        InvalidLayer: the whiteout names nothing, its own directory, or the parent directory.
    """
    directory, slash, base = clean.rpartition(b"/")
    target = base[len(WHITEOUT_PREFIX) :]
    if target in (b"", b".", b".."):
        raise InvalidLayer("the whiteout names no file", entry=clean)
    return directory + slash + target


def whiteout_name(clean: bytes) -> bytes:
    """Return the name of the whiteout that deletes `clean`."""
    directory, slash, base = clean.rpartition(b"/")
    return directory + slash + WHITEOUT_PREFIX + base
