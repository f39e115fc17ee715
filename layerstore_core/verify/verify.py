"""Comparing the files of a layer with what its tar and its parent make of them.

Whatever a user of the mounted layer can see counts: names, types, permission bits, owners, times, extended attributes,
targets, device numbers, contents, and which names are one file. What could not be made where the layer was unpacked, for
want of rights, is not missed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from layerstore_core.base import inside
from layerstore_core.tree.access_lists import ACCESS, DEFAULT, stored_form
from layerstore_core.tree.equal import same_content
from layerstore_core.tree.extents import may_have_holes, next_data
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import read_xattrs
from layerstore_core.verify.expected import Brought, Expected, Found, Meta, Node

_CHUNK: Final = 1 << 18
_SECOND: Final = 1_000_000_000
_NO_ID: Final = (1 << 32) - 1
#: Modes of directories that a tar implies: ours and Docker's, and what Docker's vfs gave them once.
_IMPLIED_MODES: Final = (0o755, 0o600)
_ACCESS_LISTS: Final = (ACCESS, DEFAULT)
_CAPABILITY: Final = b"security.capability"
_OVERLAY: Final = (b"trusted.overlay.", b"user.overlay.")
#: Rights without which something is left out when a layer is unpacked: CAP_CHOWN, CAP_SYS_ADMIN, CAP_MKNOD, CAP_SETFCAP.
_RIGHTS: Final = sum(1 << number for number in (0, 21, 27, 31))
_NAMES: Final = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


class Difference(NamedTuple):
    """Something in a layer's files that is not as it should be.

    Attributes:
        path: in the layer, relative; the root is empty.
        what: what is wrong, for a sentence that begins with the path.
        inherited: the parent's tree, and not the layer's tar, says so.
        source: where in the parent's tree that is, if at another path.
    """

    path: bytes
    what: str
    inherited: bool = False
    source: bytes = b""

    def __str__(self) -> str:
        return f"{os.fsdecode(b'/' + self.path)!r} {self.what}"


class Below(NamedTuple):
    """A directory that the parent has at the path of one of the layer.

    Attributes:
        status: its status.
        xattrs: its extended attributes.
    """

    status: os.stat_result
    xattrs: Mapping[bytes, bytes]


class Rights:
    """What could be set when a store's layers were unpacked.

    Args:
        home: the driver's directory; if an ordinary user made it, he made its layers.
        lossy_copies: what layers inherit may be copies of Docker's, which keep of extended attributes only capabilities.

    Attributes:
        limited: not all that a tar asks for could be set.
        inherited_lists: new files get access lists that no tar says, from the directory that they are made in.

    Raises:
        BadRecord, OSError: the directory cannot be opened.
    """

    def __init__(self, home: str | Path, *, lossy_copies: bool = False) -> None:
        self.lossy_copies = lossy_copies
        with inside.open_directory(home) as fd:
            self.limited = os.fstat(fd).st_uid != 0 or not _has_all_rights()
            self.inherited_lists = DEFAULT in read_xattrs(fd)


def check_tree(
    upper: str, lower: str | None, entries: Iterable[Brought], *, rights: Rights, id_mapping: IDMapping
) -> list[Difference]:
    """Compare the whole tree of a layer with its parent's and its tar.

    Nothing of what is inherited is taken for unchanged by its time: all is read.

    Args:
        upper: the layer's tree.
        lower: its parent's, which is taken for right; `None` for a base layer.
        entries: its tar.
        rights: what could be set.
        id_mapping: how IDs in the tar correspond to those on disk.

    Raises:
        OSError: something cannot be read.
    """
    with TreeWalk(upper) as tree:
        if lower is None:
            return _Trees(tree, None, Expected(entries, None), rights, id_mapping).differences()
        with TreeWalk(lower) as below:
            return _Trees(tree, below, Expected(entries, _Tree(below, tree)), rights, id_mapping).differences()


class _Tree:
    """A parent's tree, looked up in a directory at a time."""

    def __init__(self, tree: TreeWalk, upper: TreeWalk) -> None:
        self._tree = tree
        self._upper = os.fsencode(upper.root)

    def find(self, path: bytes) -> Found | None:
        directory, _, base = path.rpartition(b"/")
        try:
            status = os.stat(base, dir_fd=self._tree.enter(directory), follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return Found(status)
            # Not all unpackers go through a link that is in the way, or through the same ones.
            if is_directory(os.path.join(self._upper, path)):
                return None
            return Found(status, os.readlink(base, dir_fd=self._tree.fd))
        except (FileNotFoundError, NotADirectoryError):
            return None


class Judge:
    """Compares files with nodes, and keeps what differs.

    Args:
        tree: the tree that they are in, standing in the directory of the file in question.
        rights: what could be set.
        id_mapping: how IDs in the tar correspond to those on disk.

    Attributes:
        found: what differs.
    """

    def __init__(self, tree: TreeWalk, rights: Rights, id_mapping: IDMapping) -> None:
        self.found: list[Difference] = []
        self._tree = tree
        self._rights = rights
        self._id_mapping = id_mapping
        #: By file on disk: what its names should be, and one of them; and the other way round.
        self._should_be: dict[tuple[int, int], dict[object, bytes]] = defaultdict(dict)
        self._is: dict[object, dict[tuple[int, int], bytes]] = defaultdict(dict)

    def tell(self, name: bytes, what: str, *, inherited: bool = False, source: bytes = b"") -> None:
        """Note a difference of something in the directory."""
        self.found.append(Difference(self._tree.join(name) if name else self._tree.path, what, inherited, source))

    def may_lack(self, node: Node) -> bool:
        """Whether a file may be missing: a device that nobody was allowed to make."""
        return self._rights.limited and node.kind in (stat.S_IFCHR, stat.S_IFBLK)

    def judge(self, name: bytes, status: os.stat_result, node: Node, below: Below | None, lower: str = "") -> bool:
        """Compare a file with what the layer brings.

        Args:
            name: in the directory; empty for the directory itself.
            status: the file's.
            node: what it should be.
            below: what the parent has at its path, if that is a directory.
            lower: the parent's tree, for a file that is another name of one there.

        Returns:
            Whether it is of the right type.
        """
        tell = partial(
            self.tell,
            name,
            inherited=node.linked is not None or (below is not None and not node.metas),
            source=node.linked_path,
        )
        kind = stat.S_IFMT(status.st_mode)
        if kind != node.kind:
            tell(f"is {_NAMES.get(kind)}, and should be {_NAMES.get(node.kind)}")
            return False
        for what in self._metadata(name, status, node, below, lower):
            tell(what)
        if kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=self._tree.fd)
            if target != node.target:
                tell(f"leads to {os.fsdecode(target)!r}, and should to {os.fsdecode(node.target)!r}")
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            wanted = node.linked.st_rdev if node.linked else node.device
            if status.st_rdev != wanted:
                tell(f"has the device numbers {_device(status.st_rdev)}, and should have {_device(wanted)}")
        elif kind == stat.S_IFREG and not self._has_content(name, status, node, lower):
            tell("has another content than in the layer's tar")
        if kind != stat.S_IFDIR and (status.st_nlink > 1 or node.names > 1):
            self.note_link(name, status, (node.linked.st_dev, node.linked.st_ino) if node.linked else node)
        return True

    def note_link(self, name: bytes, status: os.stat_result, file: object) -> None:
        """Note which file a name should be of."""
        path, inode = self._tree.join(name), (status.st_dev, status.st_ino)
        self._should_be[inode].setdefault(file, path)
        self._is[file].setdefault(inode, path)

    def judge_links(self) -> None:
        """Compare which names are one file, when all have been noted."""
        for files in self._should_be.values():
            (one, first), *others = files.items()
            for other, path in others:
                # The parent's tree says so where both are its files.
                inherited = isinstance(one, tuple) and isinstance(other, tuple)
                self._tell_pair(first, path, "is the same file as {!r}, and should not be", inherited=inherited)
        for file, names in self._is.items():
            first, *more = names.values()
            for path in more:
                what = "should be the same file as {!r}, and is another"
                self._tell_pair(first, path, what, inherited=isinstance(file, tuple))

    def _tell_pair(self, one: bytes, other: bytes, what: str, *, inherited: bool) -> None:
        for name, partner in (one, other), (other, one):
            self.found.append(Difference(name, what.format(os.fsdecode(b"/" + partner)), inherited))

    def _metadata(
        self, name: bytes, status: os.stat_result, node: Node, below: Below | None, lower: str
    ) -> Iterator[str]:
        xattrs, wanted = read_xattrs(self._tree.handle(name or b".")), node.xattrs
        if not node.metas and node.kind == stat.S_IFDIR:
            yield from self._implied(status, below, xattrs)
            return
        metas = node.metas
        if ACCESS in wanted:
            metas, wanted = _with_access_list(metas, wanted, xattrs.get(ACCESS), status)
        faults = [self._faults(status, meta) for meta in metas] or [[]] * (node.linked is None)
        if node.linked is not None:
            # Of the parent's file, or of the entry: some unpackers change nothing of what they link to.
            if self._like(status, node.linked) and status.st_mtime_ns == node.linked.st_mtime_ns:
                faults.append([])
            elif not faults:
                faults.append(["has another owner, mode or time than the parent's file"])
            if lower:
                wanted = {
                    **self.wanted(_xattrs_of(os.path.join(os.fsencode(lower), node.linked_path)), xattrs),
                    **wanted,
                }
        yield from min(faults, key=len)
        yield from self._xattr_faults(node.kind, xattrs, wanted)

    def wanted(self, below: Mapping[bytes, bytes], found: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """The extended attributes that a copy of a parent's file should have."""
        if not self._rights.lossy_copies:
            return below
        return {name: value for name, value in below.items() if name in found or name == _CAPABILITY}

    def _implied(self, status: os.stat_result, below: Below | None, xattrs: Mapping[bytes, bytes]) -> Iterator[str]:
        """A directory that no entry describes is as below, or as any new one."""
        for name, value in xattrs.items():
            if (below is None or below.xattrs.get(name) != value) and not self._may_be_given(name):
                yield f"has the extended attribute {os.fsdecode(name)!r}, which no entry of the layer's tar says"
        if below is not None and self._like(status, below.status):
            return
        mode = stat.S_IMODE(status.st_mode) & ~stat.S_ISGID
        if mode not in _IMPLIED_MODES:
            yield f"has the mode {mode:04o}, which no entry of the layer's tar says"
        root = self._id_mapping.root_pair()
        if not self._rights.limited and (
            status.st_uid != root[0] or (status.st_gid != root[1] and not status.st_mode & stat.S_ISGID)
        ):
            yield f"belongs to {status.st_uid}:{status.st_gid}, which no entry of the layer's tar says"

    def _like(self, status: os.stat_result, other: os.stat_result) -> bool:
        return (status.st_mode, status.st_uid, status.st_gid) == (other.st_mode, other.st_uid, other.st_gid)

    def _faults(self, status: os.stat_result, meta: Meta) -> list[str]:
        faults = []
        mode = stat.S_IMODE(status.st_mode)
        is_link = stat.S_ISLNK(status.st_mode)
        readable = meta.mode | (0o700 if stat.S_ISDIR(status.st_mode) else 0o400)
        if not is_link and mode != meta.mode and not (self._rights.limited and mode == readable):
            faults.append(f"has the mode {mode:04o}, and should have {meta.mode:04o}")
        if not self._rights.limited and not self._is_owned(status, meta):
            faults.append(f"belongs to {status.st_uid}:{status.st_gid}, and should to {meta.uid}:{meta.gid}")
        if not _same_time(status, meta.mtime_ns):
            faults.append(f"has the time {_time(status.st_mtime_ns)}, and should have {_time(meta.mtime_ns)}")
        return faults

    def _is_owned(self, status: os.stat_result, meta: Meta) -> bool:
        try:
            uid, gid = self._id_mapping.to_host(meta.uid, meta.gid)
        except ValueError:
            return True
        # Minus one means to chown(2): as it is.
        return uid in (status.st_uid, _NO_ID, -1) and gid in (status.st_gid, _NO_ID, -1)

    def _xattr_faults(self, kind: int, found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> Iterator[str]:
        for name in sorted(found.keys() | wanted.keys()):
            shown = os.fsdecode(name)
            if name.startswith(_OVERLAY) or found.get(name) == wanted.get(name):
                continue
            if name not in found:
                if not self._may_be_left_out(kind, name):
                    yield f"lacks the extended attribute {shown!r}"
            elif name not in wanted:
                if not self._may_be_given(name):
                    yield f"has the extended attribute {shown!r}, and should not"
            elif not (self._rights.limited and name == _CAPABILITY):
                yield f"has another value of the extended attribute {shown!r}"

    def _may_be_left_out(self, kind: int, name: bytes) -> bool:
        if name.startswith(b"user."):
            return kind not in (stat.S_IFREG, stat.S_IFDIR)  # no file system has these
        if name in _ACCESS_LISTS:
            return False
        if name.startswith(b"trusted.") or name == _CAPABILITY:
            return self._rights.limited
        return True  # of other systems, or for the kernel alone to set

    def _may_be_given(self, name: bytes) -> bool:
        """Whether a file can have got an attribute without an entry that says so: from its directory, or the host."""
        if name in _ACCESS_LISTS:
            return self._rights.inherited_lists
        return name.startswith(b"security.") and name != _CAPABILITY

    def _has_content(self, name: bytes, status: os.stat_result, node: Node, lower: str) -> bool:
        if node.linked is not None:
            return not lower or self._is_copy(name, status, os.path.join(os.fsencode(lower), node.linked_path))
        if status.st_size != node.size:
            return False
        fd = self._tree.open_file(name)
        try:
            return _digest(fd, node) == node.digest
        finally:
            os.close(fd)

    def _is_copy(self, name: bytes, status: os.stat_result, original: bytes) -> bool:
        first = self._tree.open_file(name)
        try:
            with inside.open_file(original) as second:
                size = os.fstat(second).st_size
                return size == status.st_size and same_content(first, second, size, may_have_holes(status))
        finally:
            os.close(first)


def _with_access_list(
    metas: tuple[Meta, ...], xattrs: Mapping[bytes, bytes], found: bytes | None, status: os.stat_result
) -> tuple[tuple[Meta, ...], Mapping[bytes, bytes]]:
    """What a file should have whose entry has an access list, as far as the list and the mode change each other."""
    lists = dict(xattrs)
    value = lists.pop(ACCESS)
    access_list, bits = stored_form(value)
    if found == access_list:
        # The list came after the mode.
        metas = tuple(meta._replace(mode=meta.mode & 0o7000 | bits) for meta in metas)
    else:
        # Or before that of another name.
        access_list, _ = stored_form(value, stat.S_IMODE(status.st_mode))
    return metas, lists if access_list is None else {**lists, ACCESS: access_list}


class _Trees:
    """One comparison of whole trees."""

    def __init__(
        self, upper: TreeWalk, lower: TreeWalk | None, expected: Expected, rights: Rights, id_mapping: IDMapping
    ) -> None:
        self._upper = upper
        self._lower = lower
        self._expected = expected
        self._rights = rights
        self._judge = Judge(upper, rights, id_mapping)

    def differences(self) -> list[Difference]:
        judge, root, lower = self._judge, self._expected.root, self._lower
        if lower is not None:
            lower.enter(b"")
        below = Below(os.fstat(lower.fd), read_xattrs(lower.fd)) if lower is not None else None
        judge.judge(b"", os.fstat(self._upper.fd), root, below)
        pending = [self._visit(root, both=lower is not None and root.merged)]
        while pending:
            if pending[-1]:
                name, node, both = pending[-1].pop()
                self._upper.down(name)
                if both and lower is not None:
                    lower.enter(self._upper.path)
                pending.append(self._visit(node, both=both))
                continue
            pending.pop()
            if pending:
                self._upper.up()
        judge.judge_links()
        for name, target in self._expected.missing:
            judge.found.append(
                Difference(name, f"is a hard link to {os.fsdecode(target)!r}, which is not there", inherited=True)
            )
        return judge.found

    def _visit(self, node: Node | None, *, both: bool) -> list[tuple[bytes, Node | None, bool]]:
        """Compare what is in a directory; returns the directories to go into: name, node, whether the parent has it."""
        children = node.children if node is not None else {}
        here, lower = _statuses(self._upper), _statuses(self._lower) if both and self._lower is not None else {}
        directories: list[tuple[bytes, Node | None, bool]] = []
        for name in sorted(here.keys() | children.keys() | lower.keys()):
            status, below = here.get(name), lower.get(name)
            if name in children:
                child = children[name]
                if child is not None and status is not None:
                    shared = child.merged and below is not None and stat.S_ISDIR(below.st_mode)
                    if shared and below is not None and not child.metas:  # the layer only writes in it
                        right = self._is_inherited(name, status, below, times=False)
                    else:
                        right = self._judge.judge(name, status, child, None, self._lower_path)
                    if right and child.kind == stat.S_IFDIR:
                        directories.append((name, child, shared))
                elif child is not None:
                    if not self._judge.may_lack(child):
                        self._judge.tell(name, f"is missing ({_NAMES.get(child.kind)})")
                elif status is not None:
                    self._judge.tell(name, "is there, and the layer deletes it")
            elif below is None:
                self._judge.tell(name, "is there, and neither the layer's tar nor its parent has it", inherited=True)
            elif status is None:
                self._judge.tell(name, "is missing; the parent has it", inherited=True)
            elif self._is_inherited(name, status, below) and stat.S_ISDIR(status.st_mode):
                directories.append((name, None, True))
        return directories

    @property
    def _lower_path(self) -> str:
        return os.fsdecode(self._lower.root) if self._lower is not None else ""

    def _is_inherited(self, name: bytes, status: os.stat_result, below: os.stat_result, *, times: bool = True) -> bool:
        """Compare something with the parent's, as which it should be; returns whether the types are the same."""
        linked = self._expected.linked.get((below.st_dev, below.st_ino))
        if linked is not None:
            return self._judge.judge(name, status, linked, None, self._lower_path)
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFMT(below.st_mode):
            was = _NAMES.get(stat.S_IFMT(below.st_mode))
            self._judge.tell(name, f"is {_NAMES.get(kind)}, and its parent has {was}", inherited=True)
            return False
        for what in self._changes(name, status, below, times):
            self._judge.tell(name, f"has another {what} than in the parent", inherited=True)
        if kind != stat.S_IFDIR and (status.st_nlink > 1 or below.st_nlink > 1):
            self._judge.note_link(name, status, (below.st_dev, below.st_ino))
        return True

    def _changes(self, name: bytes, status: os.stat_result, below: os.stat_result, times: bool) -> Iterator[str]:
        if os.path.samestat(status, below):
            return
        assert self._lower is not None
        if status.st_mode != below.st_mode:
            yield f"mode ({stat.S_IMODE(status.st_mode):04o})"
        if (status.st_uid, status.st_gid) != (below.st_uid, below.st_gid):
            yield f"owner ({status.st_uid}:{status.st_gid})"
        if times and status.st_mtime_ns != below.st_mtime_ns:
            yield f"time ({_time(status.st_mtime_ns)})"
        if status.st_rdev != below.st_rdev:
            yield f"device number ({_device(status.st_rdev)})"
        found, wanted = read_xattrs(self._upper.handle(name)), read_xattrs(self._lower.handle(name))
        if found != self._judge.wanted(wanted, found):
            yield "set of extended attributes"
        if stat.S_ISLNK(status.st_mode):
            if os.readlink(name, dir_fd=self._upper.fd) != os.readlink(name, dir_fd=self._lower.fd):
                yield "target"
        elif stat.S_ISREG(status.st_mode) and not self._same_content(name, status, below):
            yield "content"

    def _same_content(self, name: bytes, status: os.stat_result, below: os.stat_result) -> bool:
        if status.st_size != below.st_size:
            return False
        assert self._lower is not None
        first = self._upper.open_file(name)
        try:
            second = self._lower.open_file(name)
            try:
                sparse = may_have_holes(status) or may_have_holes(below)
                return same_content(first, second, status.st_size, sparse)
            finally:
                os.close(second)
        finally:
            os.close(first)


def _xattrs_of(path: bytes) -> Mapping[bytes, bytes]:
    with inside.parent(path) as (above, name):
        return read_xattrs(f"/proc/self/fd/{above}/{name}")


def is_directory(path: bytes) -> bool:
    """Whether there is a directory, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _statuses(tree: TreeWalk) -> dict[bytes, os.stat_result]:
    os.lseek(tree.fd, 0, os.SEEK_SET)
    with os.scandir(tree.fd) as entries:
        return {os.fsencode(entry.name): entry.stat(follow_symlinks=False) for entry in entries}


def _digest(fd: int, node: Node) -> bytes:
    """The sha256 of an open file's content, as a tar stores it; empty where holes of it are none."""
    sha256 = hashlib.sha256()
    if node.sparse is None:
        while chunk := os.read(fd, _CHUNK):
            sha256.update(chunk)
        return sha256.digest()
    end = 0
    for offset, length in [*node.sparse, (node.size, 0)]:
        if not _is_empty(fd, end, offset):
            return b""
        end = offset + length
        while offset < end:
            chunk = os.pread(fd, min(_CHUNK, end - offset), offset)
            if not chunk:
                return b""
            sha256.update(chunk)
            offset += len(chunk)
    return sha256.digest()


def _is_empty(fd: int, offset: int, end: int) -> bool:
    """Whether a file holds zeros alone between two places."""
    while (offset := next_data(fd, offset, end) if offset < end else end) < end:
        chunk = os.pread(fd, min(_CHUNK, end - offset), offset)
        if not chunk or chunk.strip(b"\0"):
            return False
        offset += len(chunk)
    return True


def _same_time(status: os.stat_result, mtime_ns: int) -> bool:
    if status.st_mtime_ns == mtime_ns:
        return True
    # A file system that keeps no parts of seconds shows it by a time that nobody can set.
    if status.st_ctime_ns % _SECOND == 0 and status.st_mtime_ns == mtime_ns // _SECOND * _SECOND:
        return True
    # What it cannot hold is the nearest that it can.
    seconds, limit = mtime_ns // _SECOND, 1 << 31
    if seconds >= limit:
        return limit - 1 <= status.st_mtime_ns // _SECOND < seconds
    return seconds < -limit and -limit >= status.st_mtime_ns // _SECOND > seconds


def _has_all_rights() -> bool:
    """Whether this process could set all that a tar asks for."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            first, _, count = map(int, file.readline().split())
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    except (OSError, ValueError, StopIteration):
        return os.geteuid() == 0
    return first == 0 and count >= _NO_ID and effective & _RIGHTS == _RIGHTS


def _device(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"


def _time(ns: int) -> str:
    return f"{ns // _SECOND}.{ns % _SECOND:09d}"


def shown(differences: Sequence[Difference], most: int = 20) -> str:
    """Differences as one sentence."""
    listed = "; ".join(map(str, differences[:most]))
    more = len(differences) - most
    return f"{listed}; and {more} more" if more > 0 else listed
