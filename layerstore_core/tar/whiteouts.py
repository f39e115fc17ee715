"""Names in layers: how they are cleaned, and which of them say that something is gone.

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

_DOTS: Final = (b"", b".", b"..")


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


def clean_name(name: bytes) -> bytes:
    """The name without `.`, `..`, doubled and outer slashes, as Go's `path.Clean` has it, relative.

    The root is the empty name. A name may begin with `..` only if it leaves the root: the caller
    refuses it. An absolute name cannot leave: `/../x` is `x`, as for the kernel.
    """
    if not name or name in (b".", b"/", b"./"):
        return b""
    # Nearly all names are clean already, but for `./` before all and a slash at the end of directories.
    trimmed = name[2:] if name.startswith(b"./") else name
    if trimmed.endswith(b"/"):
        trimmed = trimmed[:-1]
    if (
        b"//" not in name
        and not trimmed.startswith((b"/", b"./", b"../"))
        and trimmed not in _DOTS
        and (b"/." not in trimmed or not _has_dots(trimmed))
    ):
        return trimmed
    parts: list[bytes] = []
    absolute = name.startswith(b"/")
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            parts.append(part)
        elif parts and parts[-1] != b"..":
            parts.pop()
        elif not absolute:
            parts.append(part)
    return b"/".join(parts)


def _has_dots(name: bytes) -> bool:
    """Whether a component of a name, not the first, is `.` or `..`."""
    return b"/./" in name or b"/../" in name or name.endswith((b"/.", b"/.."))


def leaves_root(clean: bytes) -> bool:
    """Whether a cleaned name points out of the root."""
    return clean == b".." or clean.startswith(b"../")


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
