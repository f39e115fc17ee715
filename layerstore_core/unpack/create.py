"""Creation of the file system objects that tar entries describe, with all their metadata.

Every object is made relative to a directory's descriptor, and its metadata is applied through its own descriptor, so
that no link can divert it. Where the process lacks the rights, owners, devices and privileged attributes are left out,
and one warning says so: the layer's bytes do not depend on them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

from layerstore_core.base.descriptors import Descriptor, open_fd, write_all
from layerstore_core.errors import InvalidLayer
from layerstore_core.log import logger
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tree.access_lists import DEFAULT, named_ids, remove_access_lists, shift_ids
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.root import Directory, Root
from layerstore_core.tree.xattrs import read_xattrs, set_xattr
from layerstore_core.unpack.owners import Owner, Owners

#: Extended attributes that overlayfs keeps its own state in. A layer must not set them.
_OVERLAY_XATTRS: Final = (b"trusted.overlay.", b"user.overlay.")
_NAMESPACES: Final = (b"user.", b"trusted.", b"security.", b"system.posix_acl_")
_ACCESS_LISTS: Final = b"system.posix_acl_"
_ACL_VERSION: Final = (2).to_bytes(4, "little")
_CAPABILITY: Final = b"security.capability"
#: The latest time that is passed to the kernel, in nanoseconds since 1970. File systems clamp times far below it.
_MAX_TIME: Final = (1 << 62) * 1_000_000_000
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
        self.owners = Owners(id_mapping)
        self._best_effort_xattrs = best_effort_xattrs or not self.owners.privileged
        # A mode that the umask leaves alone need not be set again.
        self._umask = _read_umask()
        #: Whether new files do not get this process's group; `None` until the first file was made.
        self.always_chown: bool | None = None
        self._left_out = self.owners.left_out
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
        fd = open_fd(base, _NEW_FILE, mode, dir_fd=directory.fd)
        try:
            if entry.sparse is None:
                for chunk in chunks:
                    write_all(fd, chunk)
            else:
                _write_sparse(fd, entry, chunks)
            if self.always_chown is None:
                # A mount option (grpid) can give new files the group of their directory.
                self.always_chown = os.fstat(fd).st_gid != self.owners.own[1] and not directory.setgid
            owner = self._owner_to_set(entry, directory)
            if owner is not None:
                os.chown(fd, *owner)
            if directory.inherits_acl:
                remove_access_lists(fd)
            if self.is_mode_to_be_set(mode, directory.inherits_acl):
                os.chmod(fd, mode)
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            times = mtime_to_set(entry)
            os.utime(fd, ns=(times, times))
        finally:
            os.close(fd)

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
        mode, uid, gid = owner
        mode = self.mode(mode, is_directory=True)
        self.owners.find(uid, gid)
        try:
            os.mkdir(base, mode & 0o777, dir_fd=directory.fd)
        except FileExistsError:
            return None  # the owner is counted when it is applied to the existing directory
        owner_to_set = self.owners.of(uid, gid)
        made = self._tree.child(directory, base, made=True)
        if owner_to_set is not None and self.is_owner_to_be_set(owner_to_set, directory.setgid):
            os.chown(made.fd, *owner_to_set)
        # A new directory inherits the set-group-ID bit of its parent.
        if directory.setgid or self.is_mode_to_be_set(mode, directory.inherits_acl):
            os.chmod(made.fd, mode)
        made.setgid = mode & stat.S_ISGID != 0
        made.restore = mtime_ns, mtime_ns
        return made

    def apply_directory_metadata(self, entry: TarEntry, directory: Directory) -> None:
        """Apply the entry's metadata to an open directory. Its times are set when it is closed."""
        mode = self._mode(entry)
        owner = self.owners.of(entry.uid, entry.gid)
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
                self.skipped.add(directory.join(base))
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
        owner = self.owners.of(entry.uid, entry.gid)
        if owner:
            os.chown(path, *owner)
        os.chmod(path, self._mode(entry))
        if entry.xattrs:
            self._set_xattrs(path, entry)
        times = mtime_to_set(entry)
        os.utime(path, ns=(times, times))

    def _mode(self, entry: TarEntry) -> int:
        return self.mode(entry.mode, is_directory=entry.type is EntryType.DIR)

    def mode(self, mode: int, *, is_directory: bool = False) -> int:
        """Return the permission bits that a file gets for those in its layer."""
        if self.owners.privileged:
            return mode
        # Without root's rights, a file that its owner may not read could not be exported again.
        return mode | rights_to_read(is_directory)

    def is_mode_to_be_set(self, mode: int, inherits_acl: bool) -> bool:
        """Return whether the mode of a new file in a directory has to be set after it was made."""
        # Writing and changing the owner clear set-ID bits. An inherited access list replaces the umask.
        return inherits_acl or mode & (self._umask | 0o7000) != 0

    def _owner_to_set(self, entry: TarEntry, directory: Directory) -> Owner:
        """Return the owner to set on a new file in a directory; `None` if it has that owner or owners cannot be set."""
        owner = self.owners.of(entry.uid, entry.gid)
        return owner if self.is_owner_to_be_set(owner, directory.setgid) else None

    def is_owner_to_be_set(self, owner: Owner, setgid: bool) -> bool:
        """Return whether a new file in a directory has to be given an owner, because it has another one or may have."""
        return owner != self.owners.own or setgid or self.always_chown is not False

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
        known = all(one in self.owners.user_ids for one in users) and all(
            one in self.owners.group_ids for one in groups
        )
        return value if known else b""


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
