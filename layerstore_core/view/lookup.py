"""Looking up one file without merging the layers: the layers are searched from the topmost down.

This works for nearly all files of nearly all images: builders write an entry for each directory before what is in it.
Then a layer by itself shows whether it makes, replaces or deletes the file. In all other cases nothing is found here,
and the merged tree has to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import BLOCK
from layerstore_core.tar.segments import read_segment
from layerstore_core.tar.whiteouts import AUFS_PREFIX, OPAQUE, WHITEOUT_PREFIX
from layerstore_core.tarsplit.codec import Piece
from layerstore_core.tree.root import MAX_LINKS
from layerstore_core.view.layers import RecordedLayer, ViewLayer
from layerstore_core.view.nodes import FileNode

_SLASHES: Final = b"/"
#: Where the type flag of the last header is, from the end of a segment.
_FLAG_AT: Final = 156 - BLOCK
_DIRECTORY: Final = ord("5")
#: Files, contiguous files, hard links, symbolic links, directories and fifos.
_KNOWN: Final = frozenset(b"0\x0071256")
_ZEROS: Final = bytes(BLOCK)


class _Unclear(Exception):
    """The layer has something that only merging can interpret."""


def find_file(layers: Sequence[ViewLayer], path: bytes) -> FileNode | None:
    """Return the regular file that a path leads to; `None` if the merged tree has to be asked.

    The node's metadata is that of its own entry: hard links in other layers may have changed it.

    Args:
        layers: the layers, the base first.
        path: the path; symbolic links are followed.

    Raises:
        IntegrityError: the record of a layer is damaged.
    """
    for _ in range(MAX_LINKS):
        parts = [part for part in path.split(_SLASHES) if part not in (b"", b".")]
        if not parts or b".." in parts or path.endswith((b"/", b"/.")):
            return None
        try:
            found = _search(layers, parts)
        except _Unclear:
            return None
        if not isinstance(found, bytes):
            return found
        path = found
    return None


def _search(layers: Sequence[ViewLayer], parts: Sequence[bytes]) -> FileNode | bytes | None:
    """Return the file, or the path that a symbolic link on the way to it leads to; `None` if there is neither."""
    wanted = {_SLASHES.join(parts[:count]): count for count in range(1, len(parts) + 1)}
    #: Paths that are directories in the layers so far: whatever a layer below has there is hidden.
    directories: set[bytes] = set()
    for number in range(len(layers) - 1, -1, -1):
        layer = layers[number]
        if not isinstance(layer, RecordedLayer):
            raise _Unclear
        with layer.pieces() as blocks:
            entries = _entries_at(chain.from_iterable(blocks), wanted)
        for path, (entry, name, offset, crc) in sorted(entries.items()):
            above, _, _ = path.rpartition(_SLASHES)
            count = wanted[path]
            if entry.type is EntryType.SYMLINK and path not in directories:
                return _SLASHES.join([_target(above, entry.linkname), *parts[count:]])
            if count < len(parts):
                if entry.type is not EntryType.DIR:
                    raise _Unclear
                directories.add(path)
            elif entry.type is EntryType.FILE:
                return FileNode(entry.mode, entry.uid, entry.gid, entry.mtime_ns, number, entry.size, name, offset, crc)
            else:
                raise _Unclear
    return None


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
        _Unclear: the layer has something that only merging can interpret.
    """
    found: dict[bytes, tuple[TarEntry, bytes, int, int]] = {}
    directories = {b""}
    last: bytes | None = None
    offset = padding = 0
    for segment, name, size, crc in pieces:
        if not name:
            if not segment[padding:].strip(b"\0"):
                break  # the end of the archive
            raise _Unclear
        path = name[2:] if name.startswith(b"./") else name
        if path.endswith(b"/"):
            path = path[:-1]
        above, _, base = path.rpartition(_SLASHES)
        if above != last:
            if above not in directories:
                raise _Unclear
            last = above
        if (not base and path) or path.startswith(b"/") or len(segment) < BLOCK:
            raise _Unclear
        if base.startswith(b".") and path != b".":
            _check_dots(above, base, wanted)
        flag = segment[_FLAG_AT]
        if flag not in _KNOWN:
            raise _Unclear
        if flag == _DIRECTORY:
            if path != b".":
                directories.add(path)
        elif path in directories:
            raise _Unclear
        start = offset + len(segment)
        if path in wanted:
            entry = read_segment(segment, padding, size)
            if entry is None or path in found:
                raise _Unclear
            found[path] = entry, name if size else b"", start, crc
        padding, offset = -size % BLOCK, start + size
    return found


def _check_dots(above: bytes, base: bytes, wanted: dict[bytes, int]) -> None:
    """Raise `_Unclear` for a name that is not clean, and for a whiteout that may concern one of the paths."""
    if base in (b".", b".."):
        raise _Unclear
    if base == OPAQUE:
        if not above or above in wanted:
            raise _Unclear
    elif base.startswith(AUFS_PREFIX):
        raise _Unclear
    elif base.startswith(WHITEOUT_PREFIX):
        deleted = base[len(WHITEOUT_PREFIX) :]
        if (above + b"/" + deleted if above else deleted) in wanted:
            raise _Unclear
