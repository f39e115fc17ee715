"""Creation of the file system objects that tar entries describe, with all their metadata.

Every object is made relative to a directory's descriptor, and its metadata is applied through its own descriptor, so
that no link can divert it. Where the process lacks the rights, owners, devices and privileged attributes are left out,
and one warning says so: the layer's bytes do not depend on them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from typing import Final

from layerstore_core.base.descriptors import Descriptor, open_fd
from layerstore_core.errors import InvalidLayer
from layerstore_core.log import logger
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tree.access_lists import DEFAULT, named_ids, remove_access_lists, shift_ids
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.root import Directory, Root
from layerstore_core.tree.xattrs import read_xattrs, set_xattr
from layerstore_core.unpack.make_files import NEW_FILE, HowToMake, write_all

#: Extended attributes that overlayfs keeps its own state in. A layer must not set them.
_OVERLAY_XATTRS: Final = (b"trusted.overlay.", b"user.overlay.")
_NAMESPACES: Final = (b"user.", b"trusted.", b"security.", b"system.posix_acl_")
_ACCESS_LISTS: Final = b"system.posix_acl_"
_ACL_VERSION: Final = (2).to_bytes(4, "little")
_CAPABILITY: Final = b"security.capability"
_NO_ID: Final = (1 << 32) - 1
#: The latest time that is passed to the kernel, in nanoseconds since 1970. File systems clamp times far below it.
_MAX_TIME: Final = (1 << 62) * 1_000_000_000
#: The most owners that are cached.
_MAX_OWNERS: Final = 1024

_NOTHING_LEFT_OUT: Final = None, None

#: How to make files, by permission bits, user and group in the layer.
HowByOwner = dict[tuple[int, int, int], HowToMake]


class Creator:
    """Creator of the file system objects of one layer.

    Args:
        tree: the directory tree to make them in.
        id_mapping: shifts the entries' user and group IDs.
        best_effort_xattrs: leave out attributes that the file system does not support.
    """

    def __init__(self, tree: Root, id_mapping: IDMapping, best_effort_xattrs: bool) -> None:
        self._tree = tree
        self._id_mapping = id_mapping
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._privileged = self._uid == 0
        self._user_ids, self._group_ids = NamespaceIDs("/proc/self/uid_map"), NamespaceIDs("/proc/self/gid_map")
        self._best_effort_xattrs = best_effort_xattrs or not self._privileged
        # A mode that the umask leaves alone need not be set again.
        self._umask = _read_umask()
        self._always_chown: bool | None = None
        #: By user and group of the layer: the owner to set, as `_owner` returns it, and the kind of owner left out, if
        #: any.
        self._owners: dict[tuple[int, int], tuple[tuple[int, int] | None, str | None]] = {}
        #: How to make files, and directories, by the two properties of their directory that matter: setgid,
        #: inherits_acl.
        self._known_how_to_make: dict[tuple[bool, bool], HowByOwner] = {}
        self._known_how_to_make_directories: dict[tuple[bool, bool], HowByOwner] = {}
        self._left_out: Counter[str] = Counter()
        #: Paths of devices that could not be made.
        self.skipped: set[bytes] = set()

    def file(self, entry: TarEntry, chunks: Iterator[memoryview], directory: Directory, base: bytes) -> None:
        """Make a regular file.

        Args:
            entry: the file's entry.
            chunks: its payload, exactly as in the tar.
            directory: the directory to make it in.
            base: its name there.

        Raises:
            FileExistsError: the name is taken; no chunk was read.
        """
        mode = self._mode(entry)
        fd = open_fd(base, NEW_FILE, mode, dir_fd=directory.fd)
        try:
            if entry.sparse is None:
                for chunk in chunks:
                    write_all(fd, chunk)
            else:
                _write_sparse(fd, entry, chunks)
            if self._always_chown is None:
                # A mount option (grpid) can give new files the group of their directory.
                self._always_chown = os.fstat(fd).st_gid != self._gid and not directory.setgid
            owner = self._owner_to_set(entry, directory)
            if owner is not None:
                os.chown(fd, *owner)
            if directory.inherits_acl:
                remove_access_lists(fd)
            if self._is_mode_to_be_set(mode, directory):
                os.chmod(fd, mode)
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            times = mtime_to_set(entry)
            os.utime(fd, ns=(times, times))
        finally:
            os.close(fd)

    def how_to_make(self, owner: tuple[int, int, int], directory: Directory) -> HowToMake | None:
        """Return how `file` would make a file without extended attributes and holes, so that a worker can make it.

        Args:
            owner: permission bits, user and group in the layer.
            directory: the directory of the file.

        Returns:
            How to make it. `None` until `file` has made a first one, which shows how the file system sets owners; and
            `None` where a new file inherits an access list that must be removed.

        Raises:
            InvalidLayer: no file can have this owner.
        """
        if self._always_chown is None or directory.inherits_acl:
            return None
        mode, uid, gid = owner
        entry = TarEntry(b"", EntryType.FILE, mode, uid, gid)
        mode = self._mode(entry)
        how = mode, self._owner_to_set(entry, directory), self._is_mode_to_be_set(mode, directory)
        self._remember(self.known_how_to_make(directory), owner, how)
        return how

    def known_how_to_make(self, directory: Directory) -> HowByOwner:
        """Return what `how_to_make` has returned for directories with the same properties, and would return again."""
        return self._known_how_to_make.setdefault((directory.setgid, directory.inherits_acl), {})

    def directory(self, entry: TarEntry, directory: Directory, base: bytes) -> Directory:
        """Make a directory, or apply the entry's metadata to the one that exists.

        Raises:
            FileExistsError: the name is taken by something other than a directory.
        """
        made = self.new_directory((entry.mode, entry.uid, entry.gid), mtime_to_set(entry), directory, base)
        if made is not None:
            self._set_xattrs_of_directory(made, entry)
            return made
        try:
            made = self._tree.child(directory, base)
        except (NotADirectoryError, OSError) as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(base)) from error
            raise
        self._drop_xattrs(made.fd, entry)
        self.apply_directory_metadata(entry, made)
        return made

    def new_directory(
        self, owner: tuple[int, int, int], mtime_ns: int, directory: Directory, base: bytes
    ) -> Directory | None:
        """Make a directory and open it.

        Args:
            owner: permission bits, user and group in the layer.
            mtime_ns: the time to set when it is closed, in ns.
            directory: the directory to make it in.
            base: its name there.

        Returns:
            The directory; `None`, and nothing was made, if the name is taken.

        Raises:
            InvalidLayer: no file can have this owner.
        """
        known = self._known_how_to_make_directories.setdefault((directory.setgid, directory.inherits_acl), {})
        mode, owner_to_set, set_mode = known.get(owner) or self._how_to_make_directory(owner, directory, known)
        try:
            os.mkdir(base, mode & 0o777, dir_fd=directory.fd)
        except FileExistsError:
            left_out = self._owners.get(owner[1:], _NOTHING_LEFT_OUT)[1]
            if left_out is not None:
                self._left_out[left_out] -= 1  # it is counted when the owner is applied to the existing directory
            return None
        made = self._tree.child(directory, base, made=True)
        if owner_to_set is not None:
            os.chown(made.fd, *owner_to_set)
        if set_mode:
            os.chmod(made.fd, mode)
        made.setgid = mode & stat.S_ISGID != 0
        made.restore = mtime_ns, mtime_ns
        return made

    def _how_to_make_directory(self, owner: tuple[int, int, int], directory: Directory, known: HowByOwner) -> HowToMake:
        mode, uid, gid = owner
        entry = TarEntry(b"", EntryType.DIR, mode, uid, gid)
        mode = self._mode(entry)
        # A new directory inherits the set-group-ID bit of its parent.
        set_mode = directory.setgid or self._is_mode_to_be_set(mode, directory)
        how = mode, self._owner_to_set(entry, directory), set_mode
        self._remember(known, owner, how)
        return how

    def _remember(self, known: HowByOwner, owner: tuple[int, int, int], how: HowToMake) -> None:
        """Cache how something is made, if it will be made in the same way again."""
        _, uid, gid = owner
        # Not where an owner is left out: that is counted for each entry.
        if self._owners[uid, gid][1] is None and self._always_chown is not None and len(known) < _MAX_OWNERS:
            known[owner] = how

    def apply_directory_metadata(self, entry: TarEntry, directory: Directory) -> None:
        """Apply the entry's metadata to an open directory. Its times are set when it is closed."""
        mode = self._mode(entry)
        owner = self._owner(entry)
        if owner:
            os.chown(directory.fd, *owner)
        os.chmod(directory.fd, mode)
        directory.setgid = mode & stat.S_ISGID != 0
        self._set_xattrs_of_directory(directory, entry)
        times = mtime_to_set(entry)
        directory.restore = (times, times)

    def apply_root_metadata(self, entry: TarEntry, root: Directory) -> None:
        """Apply the entry's metadata to the layer's root, which may have that of the parent layer's root."""
        self._drop_xattrs(root.fd, entry)
        self.apply_directory_metadata(entry, root)

    def _set_xattrs_of_directory(self, directory: Directory, entry: TarEntry) -> None:
        if entry.xattrs:
            self._set_xattrs(directory.fd, entry)
            directory.inherits_acl = directory.inherits_acl or DEFAULT in entry.xattrs

    def symlink(self, entry: TarEntry, directory: Directory, base: bytes) -> None:
        """Make a symbolic link. The target's bytes are used as they are."""
        if not entry.linkname:
            raise InvalidLayer("a symbolic link without a target")
        os.symlink(entry.linkname, base, dir_fd=directory.fd)
        owner = self._owner_to_set(entry, directory)
        if owner is not None:
            os.chown(base, *owner, dir_fd=directory.fd, follow_symlinks=False)
        if entry.xattrs:
            with _Handle(base, directory) as path:
                self._set_xattrs(path, entry)
        times = mtime_to_set(entry)
        os.utime(base, ns=(times, times), dir_fd=directory.fd, follow_symlinks=False)

    def special(self, entry: TarEntry, directory: Directory, base: bytes) -> None:
        """Make a device or a fifo. A device that the process may not make is left out, with a warning."""
        if entry.type is EntryType.FIFO:
            os.mkfifo(base, 0o600, dir_fd=directory.fd)
        else:
            kind = stat.S_IFCHR if entry.type is EntryType.CHAR else stat.S_IFBLK
            try:
                device = os.makedev(entry.devmajor, entry.devminor)
                os.mknod(base, kind | 0o600, device, dir_fd=directory.fd)
            except (OverflowError, ValueError) as error:
                raise InvalidLayer("no device can have these numbers") from error
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise InvalidLayer("no device can have these numbers") from error
                if error.errno != errno.EPERM:
                    raise
                self._left_out["devices"] += 1
                self.skipped.add(directory.path + b"/" + base if directory.path else base)
                return
        with _Handle(base, directory) as path:
            if directory.inherits_acl:
                remove_access_lists(path)
            self._apply_metadata(path, entry)

    def hard_link(
        self, entry: TarEntry, source: Directory, source_base: bytes, directory: Directory, base: bytes
    ) -> None:
        """Make another name for a file, and apply the entry's metadata to the file, as Docker does.

        Extended attributes that the file has and the entry lacks stay: GNU tar records them with a file's first name
        only. A symbolic link keeps the metadata that it has.

        Raises:
            FileExistsError: the name is taken.
            FileNotFoundError: the file to link to does not exist.
        """
        os.link(source_base, base, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        mode = os.stat(base, dir_fd=directory.fd, follow_symlinks=False).st_mode
        if not stat.S_ISLNK(mode):
            with _Handle(base, directory) as path:
                capability = _capability_of(path)
                self._apply_metadata(path, entry)
                if capability and _CAPABILITY not in entry.xattrs:
                    os.setxattr(path, _CAPABILITY, capability)  # changing the owner has removed it

    def report(self, where: str = "") -> None:
        """Log one warning about everything that was left out.

        Args:
            where: what it was left out of; empty for the layer in the tree.
        """
        left_out = +self._left_out
        if left_out:
            logger.warning(
                "{} (needs rights that this process lacks, or another file system): {}",
                f"left out of {where}" if where else f"{os.fsdecode(self._tree.path)}: left out of the layer",
                ", ".join(f"{what} (of {count} entries)" for what, count in sorted(left_out.items())),
            )

    def _apply_metadata(self, path: str, entry: TarEntry) -> None:
        """Apply the entry's metadata to a file other than a symbolic link."""
        owner = self._owner(entry)
        if owner:
            os.chown(path, *owner)
        os.chmod(path, self._mode(entry))
        if entry.xattrs:
            self._set_xattrs(path, entry)
        times = mtime_to_set(entry)
        os.utime(path, ns=(times, times))

    def _mode(self, entry: TarEntry) -> int:
        if self._privileged:
            return entry.mode
        # Without root's rights, a file that its owner may not read could not be exported again.
        return entry.mode | rights_to_read(entry.type is EntryType.DIR)

    def _is_mode_to_be_set(self, mode: int, directory: Directory) -> bool:
        """Return whether the mode of a new file in a directory has to be set after it was made."""
        # Writing and changing the owner clear set-ID bits. An inherited access list replaces the umask.
        return directory.inherits_acl or mode & (self._umask | 0o7000) != 0

    def _owner_to_set(self, entry: TarEntry, directory: Directory) -> tuple[int, int] | None:
        """Return the owner to set on a new file in a directory; `None` if it has that owner or owners cannot be set."""
        owner = self._owner(entry)
        if owner == (self._uid, self._gid) and not directory.setgid and self._always_chown is False:
            return None
        return owner

    def _owner(self, entry: TarEntry) -> tuple[int, int] | None:
        """Return the owner to set, as IDs of this host; `None` if owners cannot be set."""
        known = self._owners.get((entry.uid, entry.gid))
        if known is None:
            if len(self._owners) >= _MAX_OWNERS:
                self._owners.clear()
            known = self._owners[entry.uid, entry.gid] = self._find_owner(entry)
        owner, left_out = known
        if left_out is not None:
            self._left_out[left_out] += 1
        return owner

    def _find_owner(self, entry: TarEntry) -> tuple[tuple[int, int] | None, str | None]:
        """Return the owner to set, as `_owner` does, and the kind of owner that is left out, if any."""
        try:
            uid, gid = self._id_mapping.to_host(entry.uid, entry.gid)
        except ValueError as error:
            raise InvalidLayer(str(error)) from error
        # For chown(2), -1 means "leave unchanged". Tars contain it, signed or unsigned, and Docker passes it on.
        uid, gid = -1 if uid == _NO_ID else uid, -1 if gid == _NO_ID else gid
        if not (-1 <= uid < _NO_ID and -1 <= gid < _NO_ID):
            raise InvalidLayer(f"no file can belong to user {entry.uid} and group {entry.gid}")
        if self._privileged:
            unknown = uid not in self._user_ids and uid != -1, gid not in self._group_ids and gid != -1
            left_out = "owners that this user namespace does not have" if any(unknown) else None
            return (-1 if unknown[0] else uid, -1 if unknown[1] else gid), left_out
        return None, "owners" if (uid, gid) != (self._uid, self._gid) else None

    def _drop_xattrs(self, fd: int, entry: TarEntry) -> None:
        """Remove the attributes of a parent's directory that the entry lacks: an overlay would not show them either."""
        for name in read_xattrs(fd):
            if name not in entry.xattrs:
                try:
                    os.removexattr(fd, name)
                except PermissionError:
                    self._left_out[f"removal of extended attribute {os.fsdecode(name)}"] += 1

    def _set_xattrs(self, target: int | str, entry: TarEntry) -> None:
        """Set the entry's extended attributes; count those that are left out."""
        for name, value in entry.xattrs.items():
            if name.startswith(_OVERLAY_XATTRS):
                self._left_out["attributes of overlayfs"] += 1
                continue
            if name.startswith(_ACCESS_LISTS):
                value = self._access_list(value)
                if not value:
                    self._left_out["access lists with IDs that this user namespace does not have"] += 1
                    continue
            try:
                set_xattr(target, name, value)
            except OSError as error:
                shown = name.decode("utf-8", "backslashreplace")
                if error.errno in (errno.ERANGE, errno.E2BIG, errno.EINVAL):
                    raise InvalidLayer(f"its extended attribute {shown!r} cannot be set: {error.strerror}") from error
                if error.errno == errno.ENOTSUP and name.startswith(_ACCESS_LISTS) and value[:4] != _ACL_VERSION:
                    raise InvalidLayer(f"its extended attribute {shown!r} is no access list") from error
                if error.errno in (errno.EPERM, errno.EACCES) or (
                    # An attribute outside Linux's namespaces comes from another system; no file system here supports
                    # it.
                    error.errno == errno.ENOTSUP and (self._best_effort_xattrs or not name.startswith(_NAMESPACES))
                ):
                    self._left_out[f"extended attribute {shown}"] += 1
                    continue
                error.add_note(f"while setting the extended attribute {shown!r}")
                raise

    def _access_list(self, value: bytes) -> bytes:
        """Return the access list to set, with IDs of this host; empty if this user namespace lacks one of them."""
        try:
            value = shift_ids(value, self._id_mapping, to_host=True)
        except ValueError as error:
            raise InvalidLayer(f"its access list cannot be set: {error}") from error
        users, groups = named_ids(value)
        known = all(one in self._user_ids for one in users) and all(one in self._group_ids for one in groups)
        return value if known else b""


class NamespaceIDs:
    """User or group IDs that files can have in this user namespace (user_namespaces(7)).

    A namespace made by an ordinary user has few IDs: often only that of its own root user.
    """

    def __init__(self, path: str) -> None:
        self._ranges: list[range] = []
        try:
            with open(path, encoding="ascii") as lines:
                for line in lines:
                    first, _, count = map(int, line.split())
                    self._ranges.append(range(first, first + count))
        except (OSError, ValueError):
            self._ranges.append(range(_NO_ID))

    def __contains__(self, one: int) -> bool:
        return any(one in known for known in self._ranges)

    @property
    def complete(self) -> bool:
        """Whether the namespace has all IDs."""
        return self._ranges == [range(_NO_ID)]


def rights_to_read(is_directory: bool) -> int:
    """Return the permission bits that an ordinary user always sets on his files, to be able to read them again."""
    return 0o700 if is_directory else 0o400


class _Handle:
    """Path below /proc/self/fd that always means the same object, even if the object's name changes."""

    def __init__(self, base: bytes, directory: Directory) -> None:
        self._descriptor = Descriptor(os.open, base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._descriptor.number}"

    def __exit__(self, *exc: object) -> None:
        self._descriptor.close()


def _capability_of(path: str) -> bytes:
    try:
        return os.getxattr(path, _CAPABILITY)
    except OSError:
        return b""


def _write_sparse(fd: int, entry: TarEntry, chunks: Iterator[memoryview]) -> None:
    """Write the data regions of a sparse file at their offsets; the gaps between them stay holes."""
    os.truncate(fd, entry.size)
    chunk = memoryview(b"")
    for offset, length in entry.sparse or ():
        os.lseek(fd, offset, os.SEEK_SET)
        while length:
            if not chunk:
                chunk = next(chunks)
            piece = chunk[:length]
            write_all(fd, piece)
            chunk = chunk[len(piece) :]
            length -= len(piece)


def mtime_to_set(entry: TarEntry) -> int:
    """Return an entry's time in ns, limited to the range that the kernel accepts."""
    time = entry.mtime_ns
    return time if -_MAX_TIME <= time <= _MAX_TIME else max(-_MAX_TIME, min(_MAX_TIME, time))


def _read_umask() -> int:
    """Return this process's umask. Reading it with umask(2) would change it for all threads for a moment."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o7777
