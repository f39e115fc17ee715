"""Metadata that a disk could not keep: recorded from the tars of layers, and restored in diffs.

A process that is not root can set no owner but itself, and no privileged attributes; and it adds the right to read to
its own files (`unpack.create`). Root of a user namespace has only a few owners to set. A diff that took its metadata
from the disk alone would make every file the caller's. So a file of the parent gets the metadata of its tar entry again
in the diff, as far as it was not changed since. New files belong to user and group 0, as with umoci, buildah and
podman.

Files are identified by their paths in the tree: names in tars may lead through links. A new file counts as a renamed
one if a file was deleted that had the same type, size, time (to the nanosecond), mode and target, and the same content
by its CRC-64: then it gets the owner of that one, as a disk that can keep owners keeps them in a rename. What has no
content (an empty file, a directory) needs the same base name, too: images often give all files one time.

Who writes a file must not give it rights by that. So privileged attributes never follow a rename, and `security.*`
(file capabilities) stays with a path only if the file has the content of the parent's tar.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final, NamedTuple, cast

from fastcrc import crc64

from layerstore_core.base.paths import clean_name
from layerstore_core.tar.encode import encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.whiteouts import NameKind, classify, whiteout_target
from layerstore_core.tree.access_lists import ACCESS, DEFAULT, named_ids, shift_ids, stored_form
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.root import MAX_LINKS
from layerstore_core.unpack.create import rights_to_read
from layerstore_core.unpack.owners import NamespaceIDs

#: Attributes that only root may set.
_PRIVILEGED: Final = (b"trusted.", b"security.")
_ACCESS_LISTS: Final = (ACCESS, DEFAULT)
#: Privileged attributes that the kernel keeps when a file is written to.
_LASTING: Final = b"trusted."
#: Attributes that give a program rights.
_RIGHTS: Final = b"security."
#: Content that is kept in memory until its header is known, in bytes. More goes to a file without a name.
_IN_MEMORY: Final = 1 << 20
_CHUNK: Final = 1 << 20
_MAKES_NOTHING: Final = (EntryType.GLOBAL, EntryType.VOLUME)


class _Metadata(NamedTuple):
    """Metadata of a file in its tar entry; of its extended attributes, the privileged ones.

    `crc` is the CRC-64/GO-ISO of its content, `None` if that is unknown.
    """

    type: EntryType
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    xattrs: dict[bytes, bytes]
    crc: int | None

    @property
    def gives_rights(self) -> bool:
        """Whether the file has attributes that give a program rights."""
        return any(key.startswith(_RIGHTS) for key in self.xattrs)

    def without(self, prefixes: bytes | tuple[bytes, ...]) -> _Metadata:
        """Return the metadata without the attributes whose names have a prefix."""
        return self._replace(xattrs={key: value for key, value in self.xattrs.items() if not key.startswith(prefixes)})


class _Likeness(NamedTuple):
    """What a renamed file has in common with the file that it was."""

    type: EntryType
    mode: int
    size: int
    mtime_ns: int
    target: bytes


@dataclass(slots=True)
class _Node:
    """Node of a path: its entry's metadata, if the disk may not keep it; its layer's number; the target of a link."""

    layer: int
    metadata: _Metadata | None = None
    target: bytes = b""
    children: dict[bytes, _Node] = field(default_factory=dict)


class Rights:
    """Metadata that this process can set on files, given its user and its user namespace.

    Args:
        id_mapping: how IDs in layers correspond to IDs on disk.
    """

    def __init__(self, id_mapping: IDMapping) -> None:
        self._id_mapping = id_mapping
        self.ordinary = os.geteuid() != 0
        self._users, self._groups = NamespaceIDs("/proc/self/uid_map"), NamespaceIDs("/proc/self/gid_map")

    @property
    def complete(self) -> bool:
        """Whether every file can get all metadata of its entry."""
        return not self.ordinary and self._users.complete and self._groups.complete

    def owner(self, entry: TarEntry, metadata: _Metadata | None) -> tuple[int, int]:
        """Return the owner for an entry of a diff, given the metadata of its file in the parent's tar."""
        if self.ordinary:
            return (metadata.uid, metadata.gid) if metadata else (0, 0)
        if metadata is None:
            return entry.uid, entry.gid
        # An owner that could not be set was left as the process creates files: root.
        try:
            uid, gid = self._id_mapping.to_host(metadata.uid, metadata.gid)
        except ValueError:
            return entry.uid, entry.gid
        return (
            metadata.uid if entry.uid == 0 and uid not in self._users else entry.uid,
            metadata.gid if entry.gid == 0 and gid not in self._groups else entry.gid,
        )

    def keeps_access_list(self, value: bytes) -> bool:
        """Return whether a file can have an access list of a tar."""
        try:
            users, groups = named_ids(shift_ids(value, self._id_mapping, to_host=True))
        except ValueError:
            return True
        return all(one in self._users for one in users) and all(one in self._groups for one in groups)


class RecordedMetadata:
    """Metadata from the tars of a chain of layers, for the files where a disk may not keep it."""

    def __init__(self) -> None:
        self._root = _Node(0)
        self._layer = 0
        self._added: frozenset[bytes] = frozenset()
        #: By what a rename does not change: the names and the metadata of deleted files.
        self._deleted: dict[_Likeness, list[tuple[bytes, _Metadata]]] = {}
        #: What was found for new files of the diff, for hard links to them.
        self._renamed: dict[bytes, _Metadata] = {}
        #: Size and CRC-64 of the files of the diff, for hard links to them.
        self._contents: dict[bytes, tuple[int, int | None]] = {}
        #: Whether a file of the chain has attributes that give rights: else no content matters to hard links.
        self.gives_rights = False

    def __bool__(self) -> bool:
        return bool(self._root.children)

    def add_layer(self, entries: Iterator[tuple[TarEntry, int | None]]) -> None:
        """Record the entries of the next layer of the chain, as of `entries_of`; the base layer comes first."""
        self._layer += 1
        for entry, crc in entries:
            if entry.type in _MAKES_NOTHING:
                continue
            path = entry.path
            kind = classify(path)
            if kind is NameKind.WHITEOUT:
                self._delete(self._parts(whiteout_target(path)))
            elif kind is NameKind.OPAQUE:
                self._hide_all(self._parts(path)[:-1])
            elif kind is NameKind.PLAIN:
                if entry.is_whiteout_device:
                    self._delete(self._parts(path))
                else:
                    self._put(entry, self._parts(path), crc)

    def add_changes(self, added: Iterable[bytes], deleted: Iterable[bytes], *, ordinary: bool) -> None:
        """Record what the diff adds and deletes, after all layers: a file may be deleted because it was renamed.

        Args:
            added: the paths of new files, relative to the root.
            deleted: the paths of deleted files. A deleted directory stands for all that was in it.
            ordinary: whether the disk has the modes that an ordinary user's files get.
        """
        for path in deleted:
            node = self._node(_split(path))
            pending = [(path, node)] if node is not None else []
            while pending:
                name, here = pending.pop()
                if here.metadata is not None:
                    known = here.metadata
                    mode = _shown_mode(known) if ordinary else known.mode
                    likeness = _Likeness(known.type, mode, known.size, known.mtime_ns, here.target)
                    self._deleted.setdefault(likeness, []).append((_base(name), known))
                pending += here.children.items()
        if self._deleted:
            self._added = frozenset(added)

    def needs_content(self, entry: TarEntry) -> bool:
        """Return whether the content of an entry of the diff decides about its metadata."""
        if entry.type is not EntryType.FILE or not entry.size:
            return False
        if entry.path in self._added:
            return any(known.crc is not None for _, known in self._alike(entry))
        known = self._at(_split(entry.path))
        return known is not None and known.gives_rights and _is_unwritten(entry, known)

    def add_content(self, entry: TarEntry, crc: int | None) -> None:
        """Record the content of a file of the diff, for hard links to it; its CRC-64 is `None` if it is unknown."""
        self._contents[entry.path] = entry.size, crc

    def find(self, entry: TarEntry, crc: int | None) -> _Metadata | None:
        """Return the recorded metadata of the file of a diff's entry, if the file had the same type.

        Args:
            entry: the entry.
            crc: the CRC-64 of its content, if `needs_content` asks for it.
        """
        path = entry.path
        if entry.type is EntryType.HARDLINK:
            return self._find_link(path, clean_name(entry.linkname))
        if path in self._added:
            renamed = self._find_renamed(entry, crc)
            if renamed is not None:
                self._renamed[path] = renamed
            return renamed
        known = self._at(_split(path))
        if known is None or known.type is not entry.type:
            return None
        return known if not entry.size or crc == known.crc else known.without(_RIGHTS)

    def _alike(self, entry: TarEntry) -> list[tuple[bytes, _Metadata]]:
        target = entry.linkname if entry.type is EntryType.SYMLINK else b""
        return self._deleted.get(_Likeness(entry.type, entry.mode, entry.size, entry.mtime_ns, target), [])

    def _find_renamed(self, entry: TarEntry, crc: int | None) -> _Metadata | None:
        """Return the metadata of the deleted file that a new one was; `None` if there is none or it is unclear."""
        alike = self._alike(entry)
        candidates = [known for name, known in alike if name == _base(entry.path)]
        if entry.size or entry.type is EntryType.SYMLINK:
            candidates = candidates or [known for _, known in alike]
        if entry.size:
            candidates = [known for known in candidates if known.crc is not None and known.crc == crc]
        if not candidates or any(known != candidates[0] for known in candidates):
            return None
        return candidates[0].without(_PRIVILEGED)

    def _find_link(self, path: bytes, target: bytes) -> _Metadata | None:
        other = self._at(_split(target))
        known = self._at(_split(path)) or self._renamed.get(target) or other
        if known is None or known.type is EntryType.DIR:
            return None
        # The attributes go to the file, whatever name has them.
        content = self._contents.get(target) or ((other.size, other.crc) if other is not None else None)
        return known if not known.gives_rights or content == (known.size, known.crc) else known.without(_RIGHTS)

    def _put(self, entry: TarEntry, parts: list[bytes], crc: int | None) -> None:
        """Record an entry's metadata, if a disk may not keep it."""
        metadata = _Metadata(entry.type, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, {}, crc)
        metadata.xattrs.update(
            (key, value)
            for key, value in entry.xattrs.items()
            if key.startswith(_PRIVILEGED) or (key in _ACCESS_LISTS and any(named_ids(value)))
        )
        if entry.type is EntryType.HARDLINK and (target := self._at(self._parts(clean_name(entry.linkname)))):
            # A hard link applies its entry's metadata to the file, and removes no attributes.
            metadata = metadata._replace(
                type=target.type,
                size=target.size,
                mtime_ns=entry.mtime_ns,
                xattrs={**target.xattrs, **metadata.xattrs},
                crc=target.crc,
            )
        self.gives_rights = self.gives_rights or metadata.gives_rights
        usual = not (metadata.uid or metadata.gid or metadata.xattrs) and _shown_mode(metadata) == metadata.mode
        node = self._root
        for part in parts:
            child = node.children.get(part)
            if child is None:
                if usual and entry.type is not EntryType.SYMLINK:
                    return  # nothing is recorded there either
                child = node.children[part] = _Node(self._layer)
            node = child
        node.layer, node.metadata = self._layer, None if usual else metadata
        node.target = entry.linkname if entry.type is EntryType.SYMLINK else b""
        if entry.type is not EntryType.DIR:
            node.children.clear()

    def _parts(self, path: bytes) -> list[bytes]:
        """Return the parts of a path relative to the root, with links resolved as if each led to a directory."""
        way = [(b"", self._root)]
        *todo, base = path.split(b"/")
        todo.reverse()
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":
                del way[max(1, len(way) - 1) :]
            elif part not in (b"", b"."):
                child = way[-1][1].children.get(part) or _Node(0)  # nothing is recorded there
                if child.target and links < MAX_LINKS:
                    links += 1
                    del way[1 if child.target.startswith(b"/") else len(way) :]
                    todo += child.target.split(b"/")[::-1]
                else:
                    way.append((part, child))
        return [part for part, _ in way[1:]] + _split(base)

    def _node(self, parts: list[bytes]) -> _Node | None:
        node: _Node | None = self._root
        for part in parts:
            node = node.children.get(part) if node is not None else None
        return node

    def _at(self, parts: list[bytes]) -> _Metadata | None:
        node = self._node(parts)
        return node.metadata if node is not None else None

    def _delete(self, parts: list[bytes]) -> None:
        """Forget the metadata at and below a path."""
        node = self._node(parts[:-1])
        if node is not None and parts:
            node.children.pop(parts[-1], None)

    def _hide_all(self, parts: list[bytes]) -> None:
        """Forget the metadata that other layers have in a directory."""
        top = self._node(parts)
        pending = [top] if top is not None else []
        while pending:
            here = pending.pop()
            if here.layer != self._layer and here is not top:
                here.metadata, here.target = None, b""
            pending += here.children.values()


def _split(path: bytes) -> list[bytes]:
    """Return the parts of a cleaned path; none for the root."""
    return path.split(b"/") if path else []


def _base(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def entries_of(
    chunks: Iterator[bytes], contents: Iterator[tuple[int, int]] | None = None
) -> Iterator[tuple[TarEntry, int | None]]:
    """Yield the entries of a tar, each with the CRC-64/GO-ISO of its content; `None` if that is unknown.

    Args:
        chunks: the tar.
        contents: size and CRC-64 of each payload that is not empty, if they are known and need not be read.

    Raises:
        InvalidLayer: the tar is malformed or truncated.
    """
    scanner = TarScanner(lambda: next(chunks, b""))
    while (entry := scanner.next_entry()[1]) is not None:
        crc: int | None = 0
        if entry.stored_size and contents is None:
            for chunk in scanner.payload():
                crc = crc64.go_iso(chunk, crc)
        elif entry.stored_size and contents is not None:
            # The payload is read first: a record of it may come with it.
            for _ in scanner.payload():
                pass
            size, crc = next(contents, (-1, None))
            if size != entry.stored_size:
                crc = None
        yield entry, crc if entry.sparse is None else None


def restore_metadata(
    chunks: Iterator[bytes],
    recorded: RecordedMetadata,
    rights: Rights,
    scratch: Callable[[], str | os.PathLike[str]] = tempfile.gettempdir,
) -> Iterator[bytes]:
    """Yield the tar of a diff with the metadata that the disk could not keep.

    Args:
        chunks: the diff, with the metadata that the disk has.
        recorded: the metadata from the tars of the parent layers.
        rights: the metadata that the disk could keep.
        scratch: returns a directory for large contents that have to be read before their headers are known.

    Raises:
        InvalidLayer: the diff is malformed or truncated.
    """
    scanner = TarScanner(lambda: next(chunks, b""))
    size = 0
    while True:
        raw, entry = scanner.next_entry()
        if entry is None:
            yield raw
            break
        content: Iterator[bytes | memoryview] = scanner.payload()
        crc: int | None = None
        if recorded.needs_content(entry) and entry.sparse is None:
            content, crc = _read_ahead(content, entry.size, scratch)
        restored = _restored(entry, recorded, rights, crc)
        # The raw bytes before the header are the padding of the previous payload.
        yield raw if restored is None else padding(size) + encode_header(restored)
        size = entry.stored_size
        if recorded.gives_rights and entry.type is EntryType.FILE:
            crc = 0
            for chunk in content:
                crc = crc64.go_iso(chunk, crc)
                yield bytes(chunk)
            recorded.add_content(entry, crc if entry.sparse is None else None)
        else:
            yield from map(bytes, content)
    yield from map(bytes, scanner.trailer())


def _read_ahead(
    content: Iterator[bytes | memoryview], size: int, scratch: Callable[[], str | os.PathLike[str]]
) -> tuple[Iterator[bytes], int]:
    """Read a content; return it once more, and its CRC-64."""
    crc = 0
    if size <= _IN_MEMORY:
        kept = b"".join(content)
        return iter([kept]), crc64.go_iso(kept, crc)
    file = cast("BinaryIO", tempfile.TemporaryFile(dir=scratch()))  # noqa: SIM115 (`_read_and_close` does)
    try:
        for chunk in content:
            crc = crc64.go_iso(chunk, crc)
            file.write(chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return _read_and_close(file), crc


def _read_and_close(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from iter(lambda: file.read(_CHUNK), b"")


def _restored(entry: TarEntry, recorded: RecordedMetadata, rights: Rights, crc: int | None) -> TarEntry | None:
    """Return the entry with its metadata restored; `None` if it needs no change."""
    if entry.type in _MAKES_NOTHING or entry.sparse is not None or classify(entry.path) is not NameKind.PLAIN:
        return None
    known = recorded.find(entry, crc)
    uid, gid = rights.owner(entry, known)
    mode, xattrs = entry.mode, dict(entry.xattrs)
    if known is not None:
        if rights.ordinary and mode == _shown_mode(known):
            mode = known.mode
        for key, value in known.xattrs.items():
            if key in _ACCESS_LISTS:
                if not rights.keeps_access_list(value):
                    # The mode was set since, and the access list has it, too.
                    stored = stored_form(value, mode)[0] if key == ACCESS else value
                    xattrs.setdefault(key, stored or value)
            elif key.startswith(_LASTING) or _is_unwritten(entry, known):
                xattrs.setdefault(key, value)
    if (uid, gid, mode, xattrs) == (entry.uid, entry.gid, entry.mode, dict(entry.xattrs)):
        return None
    return replace(entry, uid=uid, gid=gid, mode=mode, xattrs=xattrs)


def _is_unwritten(entry: TarEntry, known: _Metadata) -> bool:
    """Return whether a file has the content that it had in the parent's tar, as far as size and time show."""
    if known.type is not EntryType.FILE:
        return True
    same_size = entry.type is EntryType.HARDLINK or entry.size == known.size
    return same_size and entry.mtime_ns == known.mtime_ns


def _shown_mode(metadata: _Metadata) -> int:
    """Return the mode that an ordinary user's file gets on disk for the mode of its tar entry."""
    if metadata.type is EntryType.SYMLINK:
        return metadata.mode
    return metadata.mode | rights_to_read(metadata.type is EntryType.DIR)
