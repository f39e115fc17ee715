"""Comparing single files of a layer with what its tar, or its parent, says of them."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from layerstore_core.base import inside
from layerstore_core.tree.access_lists import ACCESS, DEFAULT, named_ids, numbered, shift_ids, stored_form
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import read_xattrs
from layerstore_core.verify.content import has_payload, is_copy
from layerstore_core.verify.difference import TYPE_NAMES, Difference, device_text, time_text
from layerstore_core.verify.expected import EntryMetadata, ExpectedFile, ExpectedTree
from layerstore_core.verify.unpack_rights import UnpackRights

_SECOND: Final = 1_000_000_000
#: To chown(2) this ID means "leave it as it is"; the other form of it is -1.
_NO_ID: Final = (1 << 32) - 1
#: Modes of directories that a tar implies: those of this package and of Docker, and one that Docker's vfs gave them
#: once.
_IMPLIED_MODES: Final = (0o755, 0o600)
_ACCESS_LISTS: Final = (ACCESS, DEFAULT)
_CAPABILITY: Final = b"security.capability"
_OVERLAY: Final = (b"trusted.overlay.", b"user.overlay.")


class ParentDirectory(NamedTuple):
    """A directory of the parent's tree, at the path of one of the layer's directories.

    Attributes:
        status: its status.
        xattrs: its extended attributes.
    """

    status: os.stat_result
    xattrs: Mapping[bytes, bytes]


class FileChecker:
    """Compares files with what they should be, and collects the differences.

    Args:
        tree: a walk of the layer's tree. Each method is about the directory that the walk is in.
        rights: what could be set when the layer was unpacked.
        id_mapping: how IDs in the tar correspond to those on disk.

    Attributes:
        differences: the differences found so far.
    """

    def __init__(self, tree: TreeWalk, rights: UnpackRights, id_mapping: IDMapping) -> None:
        self.differences: list[Difference] = []
        self._tree = tree
        self._rights = rights
        self._id_mapping = id_mapping
        # Hard links are compared at the end, when all names are known. Each map keeps one path for each pair.
        #: By inode on disk: the files that its names should be names of.
        self._should_be: dict[tuple[int, int], dict[object, bytes]] = defaultdict(dict)
        #: By expected file: the inodes that its names are names of.
        self._is: dict[object, dict[tuple[int, int], bytes]] = defaultdict(dict)

    def report(self, name: bytes, what: str, *, inherited: bool = False, source: bytes = b"") -> None:
        """Add a difference of the entry `name` in the walk's directory; an empty name means the directory itself.

        Args:
            name: the name of the entry.
            what: see `Difference`.
            inherited: see `Difference`.
            source: see `Difference`.
        """
        path = self._tree.join(name) if name else self._tree.path
        self.differences.append(Difference(path, what, inherited, source))

    def may_be_missing(self, expected: ExpectedFile) -> bool:
        """Return whether the layer may lack this file: a device, where the unpacking process could not make devices."""
        return self._rights.limited and expected.kind in (stat.S_IFCHR, stat.S_IFBLK)

    def check(
        self,
        name: bytes,
        status: os.stat_result,
        expected: ExpectedFile,
        parent_directory: ParentDirectory | None,
        parent_root: str = "",
    ) -> bool:
        """Compare a file with what it should be, and report what differs.

        Args:
            name: its name in the walk's directory; empty for that directory itself.
            status: its status.
            expected: what it should be.
            parent_directory: what the parent has at the same path, if that is a directory.
            parent_root: the root of the parent's tree, for a file that is a hard link to one of the parent's files.

        Returns:
            Whether the file has the right type.

        Raises:
            OSError: a file cannot be read.
        """
        report = partial(
            self.report,
            name,
            inherited=expected.linked is not None or (parent_directory is not None and not expected.metas),
            source=expected.linked_path,
        )
        kind = stat.S_IFMT(status.st_mode)
        if kind != expected.kind:
            report(f"is {TYPE_NAMES.get(kind)}, and should be {TYPE_NAMES.get(expected.kind)}")
            return False
        for what in self._metadata_faults(name, status, expected, parent_directory, parent_root):
            report(what)
        if kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=self._tree.fd)
            if target != expected.target:
                report(f"leads to {os.fsdecode(target)!r}, and should to {os.fsdecode(expected.target)!r}")
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            device = expected.linked.st_rdev if expected.linked else expected.device
            if status.st_rdev != device:
                report(f"has the device numbers {device_text(status.st_rdev)}, and should have {device_text(device)}")
        elif kind == stat.S_IFREG and not self._has_content(name, status, expected, parent_root):
            report("has another content than in the layer's tar")
        if kind != stat.S_IFDIR and (status.st_nlink > 1 or expected.names > 1):
            linked = expected.linked
            self.note_hard_link(name, status, (linked.st_dev, linked.st_ino) if linked else expected)
        return True

    def note_hard_link(self, name: bytes, status: os.stat_result, file: object) -> None:
        """Remember of which file a name should be a hard link; `check_hard_links` compares all of them.

        Args:
            name: a name in the walk's directory.
            status: the status of its file.
            file: the expected file: an `ExpectedFile`, or device and inode of one of the parent's files.
        """
        path, inode = self._tree.join(name), (status.st_dev, status.st_ino)
        self._should_be[inode].setdefault(file, path)
        self._is[file].setdefault(inode, path)

    def check_hard_links(self) -> None:
        """Report names that are hard links of the wrong file; call it when all files have been checked."""
        for files in self._should_be.values():
            (one, first), *others = files.items()
            for other, path in others:
                # If both are the parent's files, the difference is to the parent's tree.
                inherited = isinstance(one, tuple) and isinstance(other, tuple)
                self._report_pair(first, path, "is the same file as {!r}, and should not be", inherited=inherited)
        for file, names in self._is.items():
            first, *more = names.values()
            for path in more:
                what = "should be the same file as {!r}, and is another"
                self._report_pair(first, path, what, inherited=isinstance(file, tuple))

    def report_missing_targets(self, expected: ExpectedTree) -> None:
        """Report the hard-link entries of the tar whose target does not exist."""
        for name, target in expected.missing:
            self.differences.append(
                Difference(name, f"is a hard link to {os.fsdecode(target)!r}, which is not there", inherited=True)
            )

    def expected_xattrs(
        self, parent_xattrs: Mapping[bytes, bytes], found: Mapping[bytes, bytes]
    ) -> Mapping[bytes, bytes]:
        """Return the extended attributes that a copy of a parent's file should have.

        Args:
            parent_xattrs: those of the parent's file.
            found: those of the copy. Where copies may be lossy, an attribute that the copy lacks is not expected,
                except capabilities.
        """
        if not self._rights.lossy_copies:
            return parent_xattrs
        return {name: value for name, value in parent_xattrs.items() if name in found or name == _CAPABILITY}

    def _report_pair(self, one: bytes, other: bytes, what: str, *, inherited: bool) -> None:
        for path, partner in (one, other), (other, one):
            self.differences.append(Difference(path, what.format(os.fsdecode(b"/" + partner)), inherited))

    def _metadata_faults(
        self,
        name: bytes,
        status: os.stat_result,
        expected: ExpectedFile,
        parent_directory: ParentDirectory | None,
        parent_root: str,
    ) -> Iterator[str]:
        xattrs = self._comparable(read_xattrs(self._tree.handle(name or b".")))
        wanted = self._comparable(self._with_ids_of_the_host(expected.xattrs))
        if not expected.metas and expected.kind == stat.S_IFDIR:
            yield from self._implied_faults(status, parent_directory, xattrs)
            return
        metas = expected.metas
        if ACCESS in wanted:
            metas, wanted = _with_access_list(metas, wanted, xattrs.get(ACCESS), status)
        faults = [self._faults(status, meta) for meta in metas] or [[]] * (expected.linked is None)
        if expected.linked is not None:
            # The metadata is that of the parent's file, or of the entry: some unpackers do not change what they link
            # to.
            if _same_mode_and_owner(status, expected.linked) and status.st_mtime_ns == expected.linked.st_mtime_ns:
                faults.append([])
            elif not faults:
                faults.append(["has another owner, mode or time than the parent's file"])
            if parent_root:
                original = os.path.join(os.fsencode(parent_root), expected.linked_path)
                wanted = {**self.expected_xattrs(self._comparable(_xattrs_of(original)), xattrs), **wanted}
        yield from min(faults, key=len)
        yield from self._xattr_faults(expected.kind, xattrs, wanted)

    def _with_ids_of_the_host(self, xattrs: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """Return extended attributes of a tar with access lists as they are on disk."""
        try:
            return _with_access_lists(xattrs, lambda value: shift_ids(value, self._id_mapping, to_host=True))
        except ValueError:
            return xattrs

    def _comparable(self, xattrs: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """Return extended attributes without the IDs in access lists, where the layers may have others.

        They are other IDs if a user has unpacked the layers in a user namespace, and this process is not in it.
        """
        return _with_access_lists(xattrs, numbered) if self._rights.limited else xattrs

    def _implied_faults(
        self, status: os.stat_result, parent_directory: ParentDirectory | None, xattrs: Mapping[bytes, bytes]
    ) -> Iterator[str]:
        """Yield what is wrong with a directory that no entry describes.

        It should be like the parent's directory, or like a new one.
        """
        for name, value in xattrs.items():
            inherited = parent_directory is not None and self._comparable(parent_directory.xattrs).get(name) == value
            if not inherited and not self._may_be_added(name):
                yield f"has the extended attribute {os.fsdecode(name)!r}, which no entry of the layer's tar says"
        if parent_directory is not None and _same_mode_and_owner(status, parent_directory.status):
            return
        mode = stat.S_IMODE(status.st_mode) & ~stat.S_ISGID
        if mode not in _IMPLIED_MODES:
            yield f"has the mode {mode:04o}, which no entry of the layer's tar says"
        root = self._id_mapping.root_pair()
        if not self._rights.limited and (
            status.st_uid != root[0] or (status.st_gid != root[1] and not status.st_mode & stat.S_ISGID)
        ):
            yield f"belongs to {status.st_uid}:{status.st_gid}, which no entry of the layer's tar says"

    def _faults(self, status: os.stat_result, meta: EntryMetadata) -> list[str]:
        """Return what is wrong with a file's mode, owner and time, if an entry gave it `meta`."""
        faults = []
        mode = stat.S_IMODE(status.st_mode)
        is_link = stat.S_ISLNK(status.st_mode)
        # An ordinary user gets the right to read what he has unpacked.
        readable = meta.mode | (0o700 if stat.S_ISDIR(status.st_mode) else 0o400)
        if not is_link and mode != meta.mode and not (self._rights.limited and mode == readable):
            faults.append(f"has the mode {mode:04o}, and should have {meta.mode:04o}")
        if not self._rights.limited and not self._is_owned(status, meta):
            faults.append(f"belongs to {status.st_uid}:{status.st_gid}, and should to {meta.uid}:{meta.gid}")
        if not _same_time(status, meta.mtime_ns):
            faults.append(f"has the time {time_text(status.st_mtime_ns)}, and should have {time_text(meta.mtime_ns)}")
        return faults

    def _is_owned(self, status: os.stat_result, meta: EntryMetadata) -> bool:
        try:
            uid, gid = self._id_mapping.to_host(meta.uid, meta.gid)
        except ValueError:
            return True
        return uid in (status.st_uid, _NO_ID, -1) and gid in (status.st_gid, _NO_ID, -1)

    def _xattr_faults(self, kind: int, found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> Iterator[str]:
        for name in sorted(found.keys() | wanted.keys()):
            shown = os.fsdecode(name)
            if name.startswith(_OVERLAY) or found.get(name) == wanted.get(name):
                continue
            if name not in found:
                if not self._may_be_left_out(kind, name, wanted[name]):
                    yield f"lacks the extended attribute {shown!r}"
            elif name not in wanted:
                if not self._may_be_added(name):
                    yield f"has the extended attribute {shown!r}, and should not"
            elif not (self._rights.limited and name == _CAPABILITY):
                yield f"has another value of the extended attribute {shown!r}"

    def _may_be_left_out(self, kind: int, name: bytes, value: bytes) -> bool:
        """Return whether an attribute that the tar asks for may have been impossible to set."""
        if name.startswith(b"user."):
            return kind not in (stat.S_IFREG, stat.S_IFDIR)  # other types cannot have these on any file system
        if name in _ACCESS_LISTS:
            return self._rights.limited and any(named_ids(value))  # a user namespace has only some IDs
        if name.startswith(b"trusted.") or name == _CAPABILITY:
            return self._rights.limited
        return True  # an attribute of another system, or one that only the kernel sets

    def _may_be_added(self, name: bytes) -> bool:
        """Return whether a file may have an attribute that no entry asks for: from its directory, or from the host."""
        if name in _ACCESS_LISTS:
            return self._rights.inherited_lists
        return name.startswith(b"security.") and name != _CAPABILITY

    def _has_content(self, name: bytes, status: os.stat_result, expected: ExpectedFile, parent_root: str) -> bool:
        if expected.linked is None:
            return has_payload(self._tree, name, status, expected)
        original = os.path.join(os.fsencode(parent_root), expected.linked_path)
        return not parent_root or is_copy(self._tree, name, status, original)


def _same_mode_and_owner(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def _with_access_list(
    metas: tuple[EntryMetadata, ...], xattrs: Mapping[bytes, bytes], found: bytes | None, status: os.stat_result
) -> tuple[tuple[EntryMetadata, ...], Mapping[bytes, bytes]]:
    """Return the metadata and the attributes that a file should have if its entry has an access list.

    Setting an access list changes the mode, and setting the mode changes the access list. So both orders are allowed.
    """
    lists = dict(xattrs)
    value = lists.pop(ACCESS)
    access_list, bits = stored_form(value)
    if found == access_list:
        # The list was set after the mode.
        metas = tuple(meta._replace(mode=meta.mode & 0o7000 | bits) for meta in metas)
    else:
        # Or the mode was set later, for another hard link of the file.
        access_list, _ = stored_form(value, stat.S_IMODE(status.st_mode))
    return metas, lists if access_list is None else {**lists, ACCESS: access_list}


def _with_access_lists(xattrs: Mapping[bytes, bytes], change: Callable[[bytes], bytes]) -> Mapping[bytes, bytes]:
    changed = {name: change(xattrs[name]) for name in _ACCESS_LISTS if name in xattrs}
    return {**xattrs, **changed} if changed else xattrs


def _same_time(status: os.stat_result, mtime_ns: int) -> bool:
    """Return whether a file's time of modification is `mtime_ns`, or the nearest that its file system can store."""
    if status.st_mtime_ns == mtime_ns:
        return True
    # The time of change cannot be set. If it has no fraction, the file system probably stores whole seconds.
    if status.st_ctime_ns % _SECOND == 0 and status.st_mtime_ns == mtime_ns // _SECOND * _SECOND:
        return True
    # A time out of the file system's range is stored as the nearest in range.
    seconds, limit = mtime_ns // _SECOND, 1 << 31
    if seconds >= limit:
        return limit - 1 <= status.st_mtime_ns // _SECOND < seconds
    return seconds < -limit and -limit >= status.st_mtime_ns // _SECOND > seconds


def _xattrs_of(path: bytes) -> Mapping[bytes, bytes]:
    with inside.parent(path) as (above, name):
        return read_xattrs(f"/proc/self/fd/{above}/{name}")
