"""The files of a merged tree, of any type, with all their metadata."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import ClassVar, Final

from layerstore_core.tar.entry import NO_XATTRS, EntryType
from layerstore_core.view.limits import clean_target

#: The layer of a directory that no layer has: the root of an empty view.
NO_LAYER: Final = -1
#: Docker's mode for directories that a tar needs but does not contain.
IMPLIED_MODE: Final = 0o755

_FORMATS: Final = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.DIR: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.CHAR: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


class Node:
    """A file of a merged tree, of any type. Hard links of one file share one node: compare with `is`.

    The metadata is that of the layers' tars: what a mount shows if the layers were unpacked with root's rights.

    Attributes:
        type: `EntryType.FILE`, `DIR`, `SYMLINK`, `CHAR`, `BLOCK` or `FIFO`.
        mode: permission bits, with the set-ID and sticky bits.
        uid: user ID, as in the layer.
        gid: group ID, as in the layer.
        size: of a regular file: its size in bytes; of a symbolic link: the length of its target; else 0.
        mtime_ns: time of modification in nanoseconds.
        linkname: of a symbolic link: the path that it leads to; else empty.
        route: of a symbolic link: the same without components that lead nowhere, such as `.`; else empty.
        devmajor: of a device: its major number; else 0.
        devminor: of a device: its minor number; else 0.
        xattrs: extended attributes by full name.
        layer: index of the layer that it comes from, the base's being 0.
        linked: whether it may have several names.
        sparse: of a sparse file: its data regions, as offset and length in bytes; else `None`.
        children: of a directory: its files by name, in no particular order; else empty.
        implied: of a directory: no layer has an entry for it, so that its metadata is not known.
    """

    __slots__ = ("gid", "layer", "linked", "mode", "mtime_ns", "uid", "xattrs")

    type: ClassVar[EntryType]
    size: int = 0
    linkname: bytes = b""
    route: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    sparse: list[tuple[int, int]] | None = None
    children: dict[bytes, Node] = {}  # noqa: RUF012 - all files but directories share it, and it stays empty
    implied: bool = False

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int, layer: int) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.layer = layer
        self.xattrs: Mapping[bytes, bytes] = NO_XATTRS
        self.linked = False

    def __repr__(self) -> str:
        return f"<{self.type.value} {self.mode:04o} {self.uid}:{self.gid} of layer {self.layer}>"

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.type is EntryType.DIR

    @property
    def st_mode(self) -> int:
        """The type and the permission bits, as `os.stat` returns them."""
        return _FORMATS[self.type] | self.mode


class FileNode(Node):
    """A regular file, and where its content is.

    Attributes:
        name: the name of the driver's file that has the content, as in the tar; empty if the content is with the
            layer's record or in its tar only.
        offset: where the payload begins in the layer's tar, in bytes.
        stored_size: length of the payload in bytes: less than the size if the file is sparse.
        crc: CRC-64/GO-ISO of the payload, if it is in a driver's file.
    """

    __slots__ = ("crc", "name", "offset", "size", "stored_size")

    type = EntryType.FILE

    def __init__(  # noqa: PLR0917 - so many nodes are made that keywords would take time
        self,
        mode: int,
        uid: int,
        gid: int,
        mtime_ns: int,
        layer: int,
        size: int,
        name: bytes,
        offset: int,
        crc: int,
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.layer = layer
        self.xattrs = NO_XATTRS
        self.linked = False
        self.size = self.stored_size = size
        self.name = name
        self.offset = offset
        self.crc = crc


class SparseNode(FileNode):
    """A regular file with holes. Its payload has the bytes of its data regions."""

    __slots__ = ("sparse",)


class DirectoryNode(Node):
    """A directory."""

    __slots__ = ("children", "implied")

    type = EntryType.DIR

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int, layer: int, *, implied: bool = False) -> None:
        super().__init__(mode, uid, gid, mtime_ns, layer)
        self.children: dict[bytes, Node] = {}
        self.implied = implied

    @classmethod
    def make_implied(cls, layer: int) -> DirectoryNode:
        """Return a directory that no layer has an entry for."""
        return cls(IMPLIED_MODE, 0, 0, 0, layer, implied=True)


class SymlinkNode(Node):
    """A symbolic link."""

    __slots__ = ("linkname", "route", "size")

    type = EntryType.SYMLINK

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int, layer: int, linkname: bytes) -> None:  # noqa: PLR0917
        super().__init__(mode, uid, gid, mtime_ns, layer)
        self.linkname = linkname
        self.route = clean_target(linkname)
        self.size = len(linkname)


class _DeviceNode(Node):
    __slots__ = ("devmajor", "devminor")

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int, layer: int, device: tuple[int, int]) -> None:  # noqa: PLR0917
        super().__init__(mode, uid, gid, mtime_ns, layer)
        self.devmajor, self.devminor = device


class CharNode(_DeviceNode):
    """A character device."""

    __slots__ = ()

    type = EntryType.CHAR


class BlockNode(_DeviceNode):
    """A block device."""

    __slots__ = ()

    type = EntryType.BLOCK


class FifoNode(Node):
    """A fifo."""

    __slots__ = ()

    type = EntryType.FIFO
