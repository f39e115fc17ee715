"""The metadata of one tar entry, as the scanner reads it and as `diff.pack` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from layerstore_core.base.paths import clean_name

#: No extended attributes, as nearly all entries have: one read-only mapping for all of them.
NO_XATTRS: Final[Mapping[bytes, bytes]] = MappingProxyType({})


class EntryType(Enum):
    """The type of an entry, in whichever tar dialect its type flag is."""

    FILE = "file"
    HARDLINK = "hard link"
    SYMLINK = "symbolic link"
    CHAR = "character device"
    BLOCK = "block device"
    DIR = "directory"
    FIFO = "fifo"
    #: A PAX global header: an entry in the stream for which no file is made.
    GLOBAL = "global header"
    #: A GNU volume label or multi-volume continuation: no file is made for it.
    VOLUME = "volume header"

    @property
    def word(self) -> str:
        """The word for the type of a file in JSON answers, which does not change."""
        return _WORDS.get(self.name, self.value)


_WORDS: Final = {"SYMLINK": "symlink", "CHAR": "char", "BLOCK": "block"}


@dataclass(slots=True)
class TarEntry:
    """The metadata of one tar entry. Names are the bytes in the tar, neither cleaned nor decoded."""

    name: bytes
    type: EntryType
    #: Permission bits with the set-ID and sticky bits (0o7777 at most).
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    #: Logical size in bytes: the size that `stat` reports for the extracted file.
    size: int = 0
    mtime_ns: int = 0
    linkname: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    #: Extended attributes by full name (`b"user.mime"`), from PAX `SCHILY.xattr.` records.
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)
    #: Data regions `(offset, length)` of a sparse file, ascending; `None` for a file without holes.
    sparse: list[tuple[int, int]] | None = None
    #: The type flag in the header, for code that needs to know the dialect.
    typeflag: bytes = b"0"
    #: Bytes of payload that follow the header in the tar, without padding.
    stored_size: int = 0
    #: Where the entry's first header block starts, in bytes from the start of the uncompressed tar.
    offset: int = 0
    _path: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def path(self) -> bytes:
        """The cleaned name (`clean_name`). It is kept, so `name` must not change after the first use."""
        path = self._path
        if path is None:
            path = self._path = clean_name(self.name)
        return path

    @property
    def is_whiteout_device(self) -> bool:
        """Whether the entry is a character device 0:0: in overlayfs, and so in Docker's overlay2, a whiteout."""
        return self.type is EntryType.CHAR and not (self.devmajor or self.devminor)
