"""Tars for the kit: entries as data, and the tar and the tree that they make.

A test says once what a layer holds, as a list of `Item`s; `tar_of` writes the layer, and
`layerstore_core.conformance.trees.expected_tree` says what the driver has to show.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry

#: A moment with all nine digits after the point: 2023-11-14T22:13:20.123456789Z.
MOMENT: Final = 1_700_000_000_123_456_789


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a layer, with its content."""

    entry: TarEntry
    content: bytes = b""

    def encode(self) -> bytes:
        """The entry's bytes in a tar."""
        return encode_header(self.entry) + self.content + padding(len(self.content))


def file(name: bytes, content: bytes = b"", **metadata: Any) -> Item:
    """A regular file."""
    return Item(_entry(name, EntryType.FILE, size=len(content), **metadata), content)


def directory(name: bytes, **metadata: Any) -> Item:
    """A directory; its name needs no slash at the end."""
    metadata.setdefault("mode", 0o755)
    return Item(_entry(name.rstrip(b"/") + b"/", EntryType.DIR, **metadata))


def symlink(name: bytes, target: bytes, **metadata: Any) -> Item:
    """A symbolic link."""
    metadata.setdefault("mode", 0o777)
    return Item(_entry(name, EntryType.SYMLINK, linkname=target, **metadata))


def hard_link(name: bytes, target: bytes, **metadata: Any) -> Item:
    """A further name for an earlier entry of the same layer."""
    return Item(_entry(name, EntryType.HARDLINK, linkname=target, **metadata))


def special(name: bytes, kind: EntryType, major: int = 0, minor: int = 0, **metadata: Any) -> Item:
    """A device or a fifo."""
    return Item(_entry(name, kind, devmajor=major, devminor=minor, **metadata))


def whiteout(name: bytes) -> Item:
    """Says that `name` of a layer below is gone."""
    parent, slash, base = name.rpartition(b"/")
    return file(parent + slash + b".wh." + base)


def opaque(name: bytes) -> Item:
    """Says that nothing of the directory `name` shows from below."""
    return file(name.rstrip(b"/") + b"/.wh..wh..opq" if name else b".wh..wh..opq")


def tar_of(items: Iterable[Item]) -> bytes:
    """The tar that holds the items, in their order."""
    return b"".join(item.encode() for item in items) + END_OF_ARCHIVE


def _entry(name: bytes, kind: EntryType, **metadata: Any) -> TarEntry:
    # An ordinary user can make files only of his own.
    if os.geteuid():
        metadata["uid"], metadata["gid"] = os.geteuid(), os.getegid()
    metadata.setdefault("mtime_ns", MOMENT)
    return TarEntry(name=name, type=kind, **metadata)
