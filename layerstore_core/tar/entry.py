"""One entry of a tar, as the scanner reads it and as packing writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from layerstore_core.base.paths import clean_name

#: What nearly all entries have for extended attributes: one mapping for all, which nobody can write to.
NO_XATTRS: Final[Mapping[bytes, bytes]] = MappingProxyType({})


class EntryType(Enum):
    """What an entry is, once the type flags of all tar dialects are read."""

    FILE = "file"
    HARDLINK = "hard link"
    SYMLINK = "symbolic link"
    CHAR = "character device"
    BLOCK = "block device"
    DIR = "directory"
    FIFO = "fifo"
    #: A PAX global header: it stands in the stream like an entry, and makes nothing.
    GLOBAL = "global header"
    #: A GNU volume label or multi-volume continuation: it makes nothing.
    VOLUME = "volume header"


@dataclass(slots=True)
class TarEntry:
    """The metadata of one tar entry. Names are the bytes of the tar, neither cleaned nor decoded."""

    name: bytes
    type: EntryType
    #: Permission bits with set-ID and sticky (0o7777 at most).
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    #: Logical size in bytes: what `stat` says of the extracted file.
    size: int = 0
    mtime_ns: int = 0
    linkname: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    #: Extended attributes by full name (`b"user.mime"`), from PAX `SCHILY.xattr.` records.
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)
    #: Data regions `(offset, length)` of a sparse file, ascending; `None` for a file without holes.
    sparse: list[tuple[int, int]] | None = None
    #: The type flag in the header, for those who must know the dialect.
    typeflag: bytes = b"0"
    #: Bytes of payload that follow the header in the tar, without padding.
    stored_size: int = 0
    #: Where the entry's first header block starts, in bytes from the start of the uncompressed tar.
    offset: int = 0
    _path: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def path(self) -> bytes:
        """The cleaned name (`clean_name`), which nobody may change any more once this was asked for."""
        path = self._path
        if path is None:
            path = self._path = clean_name(self.name)
        return path

    @property
    def is_whiteout_device(self) -> bool:
        """Whether it is a character device 0:0. To overlayfs, and so to Docker's overlay2, that deletes its name."""
        return self.type is EntryType.CHAR and not (self.devmajor or self.devminor)
