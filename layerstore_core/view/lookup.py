"""Looking up one file without merging the layers: the layers are searched from the topmost down.

This works for nearly all files of nearly all images: builders write an entry for each directory before what is in it.
Then a layer by itself shows whether it makes, replaces or deletes the file. In all other cases nothing is found here,
and the merged tree has to answer. Recorded layers are searched here; others search themselves (`view.search`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import BLOCK
from layerstore_core.tar.segments import read_segment
from layerstore_core.tar.whiteouts import AUFS_PREFIX, OPAQUE, WHITEOUT_PREFIX
from layerstore_core.tarsplit.codec import Piece
from layerstore_core.tree.root import MAX_LINKS
from layerstore_core.view.layers import RecordedLayer, ViewLayer
from layerstore_core.view.nodes import FileNode, SparseNode
from layerstore_core.view.search import Found, SearchedLayer, UnclearError

_SLASHES: Final = b"/"
#: Where the type flag of the last header is, from the end of a segment.
_FLAG_AT: Final = 156 - BLOCK
_DIRECTORY: Final = ord("5")
#: Files, contiguous files, hard links, symbolic links, directories and fifos.
_KNOWN: Final = frozenset(b"0\x0071256")
_ZEROS: Final = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class _Link:
    """A link that has been found instead of a file.

    Attributes:
        path: where to look next.
        layers: how many of the layers, from the base on, to look into.
        hard: whether it is a hard link.
    """

    path: bytes
    layers: int
    hard: bool = False


def find_file(layers: Sequence[ViewLayer], path: bytes) -> FileNode | None:
    """Do what `locate_file` does, and return the node only."""
    found = locate_file(layers, path)
    return None if found is None else found[1]


def locate_file(layers: Sequence[ViewLayer], path: bytes) -> tuple[bytes, FileNode] | None:
    """Return the regular file that a path leads to, and its path; `None` if the merged tree has to be asked.

    The node's metadata is that of its own entry: hard links in other layers may have changed it.

    Args:
        layers: the layers, the base first.
        path: the path; symbolic links are followed.

    Returns:
        The path with links resolved, and the node.

    Raises:
        IntegrityError: the record of a layer is damaged.
        InvalidLayer: a layer that is searched is damaged.
        OSError: layers that are searched say that there is no such file.
    """
    real, link = b"", _Link(path, len(layers))
    hard = False
    for _ in range(MAX_LINKS):
        parts = [part for part in link.path.split(_SLASHES) if part not in (b"", b".")]
        if not parts or b".." in parts or link.path.endswith((b"/", b"/.")):
            return None
        if not hard:
            real = _SLASHES.join(parts)
        try:
            found = _search(layers[: link.layers], parts, None if hard else path)
        except UnclearError:
            return None
        if not isinstance(found, _Link):
            return None if found is None else (real, found)
        hard = hard or found.hard
        link = found
    return None


def _search(layers: Sequence[ViewLayer], parts: Sequence[bytes], asked: bytes | None) -> FileNode | _Link | None:
    """Return the file, or a link on the way to it; `None` if there is neither.

    Args:
        layers: the layers, the base first.
        parts: the components of the path.
        asked: the path that was asked for, for errors. `None`: a hard link leads to the path, which may be gone since
            the link was made, so there are no errors.

    Raises:
        UnclearError: only merging can say.
        OSError: there is no such file.
    """
    wanted = {_SLASHES.join(parts[:count]): count for count in range(1, len(parts) + 1)}
    #: Paths that are directories in the layers so far: whatever a layer below has there is hidden.
    directories: set[bytes] = set()
    certain = bool(layers)
    for number in range(len(layers) - 1, -1, -1):
        layer, searched = layers[number], False
        if isinstance(layer, RecordedLayer):
            with layer.pieces() as blocks:
                found = Found(_entries_at(chain.from_iterable(blocks), wanted))
        elif isinstance(layer, SearchedLayer):
            found, searched = layer.search(wanted), True
        else:
            raise UnclearError
        if directories and not found.listed:
            raise UnclearError
        for path, (entry, name, offset, crc) in sorted(found.entries.items()):
            above, _, _ = path.rpartition(_SLASHES)
            count = wanted[path]
            if (
                entry.type is EntryType.SYMLINK
                and path not in directories
                and (count < len(parts) or asked is not None)
            ):
                if not found.listed and not entry.linkname.startswith(_SLASHES):
                    raise UnclearError  # it may be in another directory than its path says
                rest = _SLASHES.join([_target(above, entry.linkname), *parts[count:]])
                return _Link(rest, len(layers))
            if count < len(parts):
                if entry.type is not EntryType.DIR:
                    if searched and entry.type is EntryType.FILE and path not in directories and asked is not None:
                        raise _error(errno.ENOTDIR, asked)
                    raise UnclearError
                directories.add(path)
            elif entry.type is EntryType.FILE:
                return _node(entry, number, name, offset, crc)
            elif searched and entry.type is EntryType.HARDLINK:
                return _Link(_hard_target(entry), number + 1, hard=True)
            elif searched and entry.type is EntryType.DIR and asked is not None:
                raise _error(errno.EISDIR, asked)
            else:
                raise UnclearError
        if found.hidden:
            break
        certain = certain and searched
    if asked is None or not certain:
        return None
    raise _error(errno.ENOENT, asked)


def _error(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), os.fsdecode(path))


def _node(entry: TarEntry, layer: int, name: bytes, offset: int, crc: int) -> FileNode:
    if entry.sparse is None:
        return FileNode(entry.mode, entry.uid, entry.gid, entry.mtime_ns, layer, entry.size, name, offset, crc)
    node = SparseNode(entry.mode, entry.uid, entry.gid, entry.mtime_ns, layer, entry.size, name, offset, crc)
    node.sparse, node.stored_size = entry.sparse, entry.stored_size
    return node


def _hard_target(entry: TarEntry) -> bytes:
    target = clean_name(entry.linkname)
    if not target or leaves_root(target) or target.startswith(AUFS_PREFIX):
        raise UnclearError
    return target


def _target(above: bytes, linkname: bytes) -> bytes:
    """Return the path that a symbolic link in the directory `above`, which is a path without links, leads to."""
    if linkname.startswith(b"/"):
        return linkname
    while linkname.startswith(b"../"):
        above, linkname = above.rpartition(_SLASHES)[0], linkname[3:].lstrip(b"/")
    return above + b"/" + linkname


def _entries_at(pieces: Iterable[Piece], wanted: dict[bytes, int]) -> dict[bytes, tuple[TarEntry, bytes, int, int]]:
    """Return the entries of a layer at some paths, each with the name, offset and checksum of its payload.

    Raises:
        UnclearError: the layer has something that only merging can interpret.
    """
    found: dict[bytes, tuple[TarEntry, bytes, int, int]] = {}
    directories = {b""}
    last: bytes | None = None
    offset = padding = 0
    for segment, name, size, crc in pieces:
        if not name:
            if not segment[padding:].strip(b"\0"):
                break  # the end of the archive
            raise UnclearError
        path = name[2:] if name.startswith(b"./") else name
        if path.endswith(b"/"):
            path = path[:-1]
        above, _, base = path.rpartition(_SLASHES)
        if above != last:
            if above not in directories:
                raise UnclearError
            last = above
        if (not base and path) or path.startswith(b"/") or len(segment) < BLOCK:
            raise UnclearError
        if base.startswith(b".") and path != b".":
            _check_dots(above, base, wanted)
        flag = segment[_FLAG_AT]
        if flag not in _KNOWN:
            raise UnclearError
        if flag == _DIRECTORY:
            if path != b".":
                directories.add(path)
        elif path in directories:
            raise UnclearError
        start = offset + len(segment)
        if path in wanted:
            entry = read_segment(segment, padding, size)
            if entry is None or path in found:
                raise UnclearError
            found[path] = entry, name if size else b"", start, crc
        padding, offset = -size % BLOCK, start + size
    return found


def _check_dots(above: bytes, base: bytes, wanted: dict[bytes, int]) -> None:
    """Raise `UnclearError` for a name that is not clean, and for a whiteout that may concern one of the paths."""
    if base in (b".", b".."):
        raise UnclearError
    if base == OPAQUE:
        if not above or above in wanted:
            raise UnclearError
    elif base.startswith(AUFS_PREFIX):
        raise UnclearError
    elif base.startswith(WHITEOUT_PREFIX):
        deleted = base[len(WHITEOUT_PREFIX) :]
        if (above + b"/" + deleted if above else deleted) in wanted:
            raise UnclearError
