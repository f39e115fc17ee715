"""What overlayfs can do in one directory, found out by trying: never by the kernel's version."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from layerstore_core import remove_tree
from layerstore_core.errors import DriverNotSupported
from layerstore_core.sdk import Descriptor, inside, open_fd
from layerstore_overlay.layout import TEMPORARY
from layerstore_overlay.lowers import TRUSTED, USER, OverlayXattrs, is_whiteout
from layerstore_overlay.mount import Mounter, MountMethod, OverlaySpec
from layerstore_overlay.mounts import holding_mount

_DT_UNKNOWN: Final = 0
#: Offset of `d_type` in `struct linux_dirent64`, and of `d_reclen`.
_D_TYPE: Final = 18
_D_RECLEN: Final = 16


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a mounted overlay does with the upper directory when files change.

    Attributes:
        redirect_dir: a directory that is renamed stays where it is, and a note leads there.
        metacopy: a file whose metadata change is not copied.
        copies_opaque: a directory copied up inherits the mark of a lower one (a fault of old kernels).
    """

    redirect_dir: bool
    metacopy: bool
    copies_opaque: bool


class Features:
    """What works in `directory`; each thing is tried when it is first asked for.

    Args:
        directory: an absolute path; temporary directories are made in it, and removed.
        method: how to mount.
    """

    def __init__(self, directory: str, method: MountMethod = MountMethod.AUTO) -> None:
        self._directory = directory
        self._method = method
        self._single_lowers = False
        self._trial_options: tuple[tuple[str, str | None], ...] = ()

    @cached_property
    def backing_file_system(self) -> str:
        """The type of the file system that the directory is on, as Docker names it."""
        mount = holding_mount(self._directory)
        kind = mount.file_system if mount else "unknown"
        return "extfs" if kind in ("ext2", "ext3", "ext4") else kind

    @cached_property
    def xattrs(self) -> OverlayXattrs:
        """The attributes to use: those in `trusted`, or in a user namespace, which may not set them, in `user`.

        Raises:
            DriverNotSupported: neither can be set.
        """
        with self._laboratory() as (_, place):
            for flavour in (TRUSTED, USER):
                try:
                    os.setxattr(place, flavour.opaque, b"n")
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.ENOTSUP):
                        raise
                else:
                    return flavour
        raise DriverNotSupported(
            f"{self._where} holds neither extended attributes in `trusted.` nor in `user.`, which overlayfs needs "
            f"(tmpfs has the latter from Linux 6.6 on); {_ELSEWHERE}"
        )

    @property
    def xattrs_to_read(self) -> OverlayXattrs:
        """The same where nothing can be made here, as on a read-only file system: what this user would have set."""
        try:
            return self.xattrs
        except (DriverNotSupported, OSError):
            return USER if os.geteuid() else TRUSTED

    @property
    def userxattr(self) -> bool:
        """Whether overlays are mounted with `userxattr`."""
        return self.xattrs is USER

    @cached_property
    def base_options(self) -> tuple[tuple[str, str | None], ...]:
        """The options that every overlay here is mounted with: `index=off` where it is known, `userxattr` if need be.

        Raises:
            DriverNotSupported: no overlay can be mounted.
        """
        flavour: tuple[tuple[str, str | None], ...] = (("userxattr", None),) if self.userxattr else ()
        index: tuple[tuple[str, str | None], ...] = (("index", "off"),)
        # Otherwise the end of every trial mount waits until the whole file system is written out.
        volatile: tuple[tuple[str, str | None], ...] = (("volatile", None),)
        failure = OSError()
        for known, trial in (index, volatile), (index, ()), ((), ()):
            try:
                self._try_mount((*known, *flavour, *trial))
            except OSError as error:
                # EINVAL: an option that is not known, or not compiled in.
                if error.errno != errno.EINVAL:
                    raise self._unsupported(error) from error
                failure = error
            else:
                self._trial_options = trial
                return (*known, *flavour)
        raise self._unsupported(failure) from failure

    @property
    def index(self) -> bool:
        """Whether the kernel knows the option `index`, which is then switched off."""
        return ("index", "off") in self.base_options

    @property
    def takes_single_lowers(self) -> bool:
        """Whether lower layers are passed to the kernel one by one."""
        self.base_options  # noqa: B018 - mounts, if nothing has been mounted yet
        return self._single_lowers

    @cached_property
    def d_type(self) -> bool:
        """Whether directory listings tell the type of each entry, as overlayfs needs."""
        with self._laboratory() as (_, place):
            os.mkdir("entry", dir_fd=place)
            return _tells_types(place)

    @cached_property
    def whiteouts(self) -> bool:
        """Whether the character device 0:0 can be made, which marks a deleted file."""
        with self._laboratory() as (_, place):
            try:
                os.mknod("whiteout", stat.S_IFCHR, 0, dir_fd=place)
            except PermissionError:
                return False
            return is_whiteout(os.stat("whiteout", dir_fd=place, follow_symlinks=False))

    @cached_property
    def behaviour(self) -> Behaviour:
        """What the mounted overlay does when files change, by the kernel's own settings."""
        with self._laboratory() as (path, place):
            for name in ("l1", "l1/renamed", "l1/opaque", "l2", "l2/opaque", "upper", "work", "merged"):
                os.mkdir(name, dir_fd=place)
            _touch("l1/file", dir_fd=place)
            with Descriptor(os.open, "l1/opaque", os.O_RDONLY | os.O_CLOEXEC, dir_fd=place) as opaque:
                os.setxattr(opaque, self.xattrs.opaque, b"y")
            fd = self._mount(path, ("l1", "l2"), (*self.base_options, *self._trial_options))
            upper = os.path.join(os.fsencode(path), b"upper")
            try:
                os.chmod("file", 0o640, dir_fd=fd)
                _touch("opaque/new", dir_fd=fd)
                try:
                    os.rename("renamed", "moved", src_dir_fd=fd, dst_dir_fd=fd)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    redirect_dir = False
                else:
                    redirect_dir = self.xattrs.is_moved(os.path.join(upper, b"moved"))
            finally:
                os.close(fd)
            return Behaviour(
                redirect_dir=redirect_dir,
                metacopy=self.xattrs.is_moved(os.path.join(upper, b"file")),
                copies_opaque=self.xattrs.is_opaque(os.path.join(upper, b"opaque")),
            )

    @property
    def native_diff(self) -> bool:
        """Whether the upper directory alone tells what has changed."""
        behaviour = self.behaviour
        return not (behaviour.redirect_dir or behaviour.metacopy or behaviour.copies_opaque)

    def require(self) -> None:
        """See that the driver can work here.

        Raises:
            DriverNotSupported: it cannot; with the reason, and what to do.
        """
        try:
            self.base_options  # noqa: B018
            if not self.d_type:
                raise DriverNotSupported(
                    f"{self._where} does not tell the types of directory entries (d_type), which overlayfs needs; "
                    f"xfs does it if made with `mkfs.xfs -n ftype=1`; otherwise {_ELSEWHERE}"
                )
            if not self.whiteouts:
                raise DriverNotSupported(
                    "the character device 0:0, which marks a deleted file, cannot be made in "
                    f"{self._where}: {_PRIVILEGES}"
                )
        except OSError as error:
            raise self._unsupported(error) from error

    @property
    def _where(self) -> str:
        return f"{self._directory} ({self.backing_file_system})"

    def _try_mount(self, options: tuple[tuple[str, str | None], ...]) -> None:
        with self._laboratory() as (path, place):
            for name in ("l1", "l2", "upper", "work", "merged"):
                os.mkdir(name, dir_fd=place)
            fd = self._mount(path, ("l1", "l2"), options)
            try:
                # Some kernels mount, read-only, on what they cannot write to.
                _touch("new", dir_fd=fd)
            finally:
                os.close(fd)

    def _mount(self, place: str, lower: tuple[str, ...], options: tuple[tuple[str, str | None], ...]) -> int:
        mounter = Mounter(place, self._method)
        fd = mounter.open_detached(OverlaySpec(lower, "upper", "work", options), "merged")
        self._single_lowers = mounter.takes_single_lowers
        return fd

    @contextmanager
    def _laboratory(self) -> Iterator[tuple[str, int]]:
        """A temporary directory, its path and a descriptor, locked for as long as it is in use."""
        while True:
            path = os.path.join(self._directory, TEMPORARY + secrets.token_hex(8))
            try:
                with inside.parent(path) as (above, name):
                    os.mkdir(name, 0o700, dir_fd=above)
                place = _lock(path)
                if place is None:
                    continue
                with place as fd:
                    try:
                        yield path, fd
                    finally:
                        # Before the lock is released: two at once may not remove it.
                        remove_tree(path)
                return
            except BaseException:
                with suppress(FileNotFoundError):
                    remove_tree(path)
                raise

    def _unsupported(self, error: OSError) -> DriverNotSupported:
        if error.errno in (errno.EPERM, errno.EACCES):
            return DriverNotSupported(
                f"user {os.geteuid()} may not mount an overlay in {self._where} ({error.strerror}): {_PRIVILEGES}"
            )
        if error.errno == errno.ENODEV:
            return DriverNotSupported("the running kernel has no overlayfs; load it with `modprobe overlay`")
        if error.errno == errno.EROFS:
            return DriverNotSupported(f"{self._where} is read-only, or overlayfs cannot write to it; {_ELSEWHERE}")
        return DriverNotSupported(f"no overlay can be mounted in {self._where}: {error.strerror}; {_ELSEWHERE}")


_ELSEWHERE: Final = "keep the root on ext4, xfs, btrfs or tmpfs, or choose another driver, as vfs"
_PRIVILEGES: Final = (
    "run as root, or in a user namespace with mounts of its own, which `unshare -Urm COMMAND` and "
    "`podman unshare COMMAND` make for an ordinary user"
)


def _lock(path: str) -> Descriptor | None:
    """Lock a new directory; `None` where somebody has taken it for a stale one before it was locked, and removed it."""
    try:
        place = inside.open_directory(path)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(place.number, fcntl.LOCK_EX)
        if inside.exists(path):
            return place
    except BaseException:
        place.close()
        raise
    place.close()
    return None


def remove_stale_laboratories(directory: str) -> None:
    """Remove temporary directories that a crash has left: those that no process has locked."""
    for name in inside.directory_names(directory):
        path = os.path.join(directory, name)
        if not name.startswith(TEMPORARY):
            continue
        with suppress(FileNotFoundError, BlockingIOError), inside.open_directory(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path)


def _touch(path: str, *, dir_fd: int | None = None) -> None:
    os.close(open_fd(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=dir_fd))


def _tells_types(directory: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "getdents64"):
        return True  # an overlay was mounted, and the kernel sees to it itself
    libc.getdents64.restype = ctypes.c_ssize_t
    buffer = ctypes.create_string_buffer(1024)
    os.lseek(directory, 0, os.SEEK_SET)
    length = libc.getdents64(directory, buffer, ctypes.c_size_t(len(buffer)))
    data = buffer.raw[: max(length, 0)]
    types = []
    while data:
        types.append(data[_D_TYPE])
        data = data[int.from_bytes(data[_D_RECLEN : _D_RECLEN + 2], "little") :]
    return bool(types) and _DT_UNKNOWN not in types
