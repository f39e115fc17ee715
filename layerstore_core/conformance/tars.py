"""Tars for the kit, written from entries as data.

A test lists the content of a layer once, as `Item`s. `tar_of` writes the layer, and
`layerstore_core.conformance.trees.expected_tree` returns the tree that the driver has to show.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry

#: A time with all nine digits of nanoseconds: 2023-11-14T22:13:20.123456789Z.
MOMENT: Final = 1_700_000_000_123_456_789


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a layer, with its content."""

    entry: TarEntry
    content: bytes = b""

    def encode(self) -> bytes:
        """Return the entry's bytes in a tar."""
        return encode_header(self.entry) + self.content + padding(len(self.content))


def file(name: bytes, content: bytes = b"", **metadata: Any) -> Item:
    """Return a regular file."""
    return Item(_entry(name, EntryType.FILE, size=len(content), **metadata), content)


def directory(name: bytes, **metadata: Any) -> Item:
    """Return a directory. Its name needs no slash at the end."""
    metadata.setdefault("mode", 0o755)
    return Item(_entry(name.rstrip(b"/") + b"/", EntryType.DIR, **metadata))


def symlink(name: bytes, target: bytes, **metadata: Any) -> Item:
    """Return a symbolic link."""
    metadata.setdefault("mode", 0o777)
    return Item(_entry(name, EntryType.SYMLINK, linkname=target, **metadata))


def hard_link(name: bytes, target: bytes, **metadata: Any) -> Item:
    """Return a hard link: a further name for an earlier entry of the same layer."""
    return Item(_entry(name, EntryType.HARDLINK, linkname=target, **metadata))


def special(name: bytes, kind: EntryType, major: int = 0, minor: int = 0, **metadata: Any) -> Item:
    """Return a device or a fifo."""
    return Item(_entry(name, kind, devmajor=major, devminor=minor, **metadata))


def whiteout(name: bytes) -> Item:
    """Return a whiteout, which deletes `name` of a parent layer."""
    parent, slash, base = name.rpartition(b"/")
    return file(parent + slash + b".wh." + base)


def opaque(name: bytes) -> Item:
    """Return an opaque whiteout, which hides all that parent layers have in the directory `name`."""
    return file(name.rstrip(b"/") + b"/.wh..wh..opq" if name else b".wh..wh..opq")


def tar_of(items: Iterable[Item]) -> bytes:
    """Return the tar of some items, in their order."""
    return b"".join(item.encode() for item in items) + END_OF_ARCHIVE


def _entry(name: bytes, kind: EntryType, **metadata: Any) -> TarEntry:
    # An ordinary user can create only files that belong to that user.
    if os.geteuid():
        metadata["uid"], metadata["gid"] = os.geteuid(), os.getegid()
    metadata.setdefault("mtime_ns", MOMENT)
    return TarEntry(name=name, type=kind, **metadata)
