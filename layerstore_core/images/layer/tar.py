"""The tar of a layer that is being built: sorted, and read once or several times, always the same bytes."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from layerstore_core.images.layer.content import Walks
from layerstore_core.images.layer.places import Base, BaseNode, Item, Places
from layerstore_core.streams.iterstream import IterStream, join_small_pieces
from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.whiteouts import OPAQUE, whiteout_name

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK: Final = 1 << 20
_WHITEOUT_MODE: Final = 0o600


class LayerTar(io.RawIOBase):
    """A readable stream of chunks that are produced on demand, and produced again when it seeks back.

    That it can seek spares `LayerStore.register` a temporary copy of it.

    Args:
        chunks: starts to produce the bytes.
        name: the name of the stream, for messages.
    """

    def __init__(self, chunks: Callable[[], Iterator[bytes]], name: str) -> None:
        self._chunks = chunks
        self._stream = IterStream(chunks())
        self._position = 0
        self.name = name

    def readable(self) -> bool:
        """Return `True`."""
        return True

    def seekable(self) -> bool:
        """Return `True`."""
        return True

    def tell(self) -> int:
        """Return the number of bytes before the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position, counted from the start. To go back is to produce all bytes before it again."""
        if whence != os.SEEK_SET or offset < 0:
            raise io.UnsupportedOperation("this stream seeks to positions that are counted from its start only")
        if offset < self._position:
            self._stream.close()
            self._stream = IterStream(self._chunks())
            self._position = 0
        while self._position < offset and self.read(min(offset - self._position, _CHUNK)):
            pass
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, or all the rest for a negative size or `None`."""
        data = self._stream.read(size)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Read all the rest."""
        return self.read(-1)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read bytes into `buffer`, and return how many."""
        count = self._stream.readinto(buffer)
        self._position += count
        return count

    def close(self) -> None:
        """Close the stream. A second call does nothing."""
        self._stream.close()
        super().close()


def open_tar(places: Places, *, mtime_ns: int = 0, image: Base | None = None) -> BinaryIO:
    """Open the tar of a layer, sorted by path; the opaque mark of a directory comes first in it.

    Directories above the names of the layer are in it, too, as the image has them.

    Args:
        places: the layer.
        mtime_ns: the time of whiteouts.
        image: the tree of the image below the layer; without it, the base of `places`.
    """
    return cast("BinaryIO", LayerTar(lambda: join_small_pieces(_pieces(places, mtime_ns, image)), "the new layer"))


def _pieces(places: Places, mtime_ns: int, image: Base | None) -> Iterator[bytes]:
    names: list[tuple[bytes, bytes, Item | None]] = [(path, path, item) for path, item in places.items.items()]
    names += [(name, name, None) for name in map(whiteout_name, places.whiteouts)]
    names += [(path + b"/", path + b"/" + OPAQUE if path else OPAQUE, None) for path in places.opaque]
    # Without an entry, programs give a directory all sorts of modes and times.
    made = Item(places.made)
    names += [(path, path, made) for path in places.missing()]
    names += [(path, path, _parent(node)) for path, node in places.parents(image)]
    names.sort(key=itemgetter(0))
    mark = TarEntry(b"", EntryType.FILE, mode=_WHITEOUT_MODE, mtime_ns=mtime_ns)
    first: dict[int, bytes] = {}
    with Walks() as walks:
        for _, path, item in names:
            if item is None:
                yield encode_header(replace(mark, name=path))
            else:
                yield from _entry(path, item, first.setdefault(id(item), path), walks)
    yield END_OF_ARCHIVE


def _parent(node: BaseNode) -> Item:
    xattrs = node.xattrs
    return Item(TarEntry(b"", EntryType.DIR, node.mode, node.uid, node.gid, mtime_ns=node.mtime_ns, xattrs=xattrs))


def _entry(path: bytes, item: Item, first: bytes, walks: Walks) -> Iterator[bytes]:
    """Yield an entry: its headers, its content and its padding."""
    if item.entry.type is EntryType.DIR:
        yield encode_header(replace(item.entry, name=path + b"/" if path else b"./"))
        return
    if first != path:
        yield encode_header(replace(item.entry, name=path, type=EntryType.HARDLINK, linkname=first, size=0))
        return
    size = item.content.size if item.content is not None else 0
    yield encode_header(replace(item.entry, name=path, size=size))
    if item.content is None:
        return
    left = size
    for chunk in item.content.read(walks):
        left -= len(chunk)
        yield chunk
    if left:
        raise OSError(errno.ESTALE, "its size changed while it was read", os.fsdecode(path))
    yield padding(size)
