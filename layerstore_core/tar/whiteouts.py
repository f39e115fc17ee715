"""Whiteouts: names in layers which say that something is gone.

Rules: the OCI image specification, "Whiteouts" in `layer.md`; the names come from aufs.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from layerstore_core.errors import InvalidLayer

WHITEOUT_PREFIX: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
#: Names at the top of a layer that begin so are aufs's own, and mean nothing to others.
AUFS_PREFIX: Final = b".wh..wh."
#: Where aufs kept the content of hard links between its branches; links may point in here.
AUFS_LINKS: Final = b".wh..wh.plnk"


class NameKind(Enum):
    """What the cleaned name of an entry stands for."""

    #: A file of any type, or the root itself (the empty name).
    PLAIN = "plain"
    #: Something of the parent is deleted.
    WHITEOUT = "whiteout"
    #: All that the parent has in the directory is hidden.
    OPAQUE = "opaque"
    #: A file in aufs's directory of hard links.
    AUFS_LINK = "aufs link"
    #: Anything else of aufs's own.
    AUFS = "aufs"


def classify(clean: bytes) -> NameKind:
    """What an entry with this cleaned name stands for."""
    if b".wh." not in clean:
        return NameKind.PLAIN
    if clean.startswith(AUFS_PREFIX) and clean != OPAQUE:
        return NameKind.AUFS_LINK if clean.startswith(AUFS_LINKS + b"/") else NameKind.AUFS
    base = clean.rpartition(b"/")[2]
    if base == OPAQUE:
        return NameKind.OPAQUE
    return NameKind.WHITEOUT if base.startswith(WHITEOUT_PREFIX) else NameKind.PLAIN


def whiteout_target(clean: bytes) -> bytes:
    """The cleaned name of what a whiteout deletes.

    Raises:
        InvalidLayer: it names nothing, its own directory, or the one above.
    """
    directory, slash, base = clean.rpartition(b"/")
    target = base[len(WHITEOUT_PREFIX) :]
    if target in (b"", b".", b".."):
        raise InvalidLayer("a whiteout that names no file", entry=clean)
    return directory + slash + target


def whiteout_name(clean: bytes) -> bytes:
    """The name of the whiteout that deletes `clean`."""
    directory, slash, base = clean.rpartition(b"/")
    return directory + slash + WHITEOUT_PREFIX + base
