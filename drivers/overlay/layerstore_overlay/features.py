"""The features of overlayfs in one directory. They are found by trial, never by the kernel's version."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Final, NamedTuple

from layerstore_core import remove_tree
from layerstore_core.errors import DriverNotSupported
from layerstore_core.sdk import Descriptor, inside, open_fd
from layerstore_overlay.layout import TEMPORARY
from layerstore_overlay.lowers import TRUSTED, USER, OverlayXattrs, is_whiteout
from layerstore_overlay.mount import Mounter, MountMethod, OverlaySpec
from layerstore_overlay.mounts import mount_of

_DT_UNKNOWN: Final = 0
#: Offset of `d_type` in `struct linux_dirent64`, and of `d_reclen`.
_D_TYPE: Final = 18
_D_RECLEN: Final = 16


class Behaviour(NamedTuple):
    """How a mounted overlay changes the upper directory when files change.

    Attributes:
        redirect_dir: a renamed directory is not copied; an attribute names its former place.
        metacopy: if only a file's metadata change, its content is not copied.
        copies_opaque: a directory that is copied up inherits the opaque mark of the lower one (a bug of old kernels).
    """

    redirect_dir: bool
    metacopy: bool
    copies_opaque: bool


class Features:
    """The features of overlayfs in `directory`. Each is tried when it is first asked for.

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
        """The type of the directory's file system, by the name that Docker gives it."""
        mount = mount_of(self._directory)
        kind = mount.file_system if mount else "unknown"
        return "extfs" if kind in ("ext2", "ext3", "ext4") else kind

    @cached_property
    def xattrs(self) -> OverlayXattrs:
        """The extended attributes to use: `trusted.overlay.*`, or `user.overlay.*` where `trusted` cannot be set.

        A process in a user namespace may not set `trusted` attributes.

        Raises:
            DriverNotSupported: neither can be set.
        """
        with self._trial_directory() as (_, place):
            for kind in (TRUSTED, USER):
                try:
                    os.setxattr(place, kind.opaque, b"n")
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.ENOTSUP):
                        raise
                else:
                    return kind
        raise DriverNotSupported(
            f"{self._where} has extended attributes neither in `trusted.` nor in `user.`, which overlayfs needs "
            f"(tmpfs has the latter from Linux 6.6 on); {_ELSEWHERE}"
        )

    @property
    def xattrs_to_read(self) -> OverlayXattrs:
        """The extended attributes to read: `xattrs`, or where none can be set, those of this user's kind.

        None can be set on a read-only file system, for example.
        """
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
        """The options of every mount here: `index=off` if the kernel knows it, and `userxattr` if needed.

        Raises:
            DriverNotSupported: no overlay can be mounted.
        """
        userxattr: tuple[tuple[str, str | None], ...] = (("userxattr", None),) if self.userxattr else ()
        index: tuple[tuple[str, str | None], ...] = (("index", "off"),)
        # Without it, the end of every trial mount waits until the whole file system is written to disk.
        volatile: tuple[tuple[str, str | None], ...] = (("volatile", None),)
        failure = OSError()
        for known, trial in (index, volatile), (index, ()), ((), ()):
            try:
                self._try_mount((*known, *userxattr, *trial))
            except OSError as error:
                # EINVAL: an option is unknown to the kernel, or was not compiled in.
                if error.errno != errno.EINVAL:
                    raise self._unsupported(error) from error
                failure = error
            else:
                self._trial_options = trial
                return (*known, *userxattr)
        raise self._unsupported(failure) from failure

    @property
    def index(self) -> bool:
        """Whether the kernel knows the option `index`; then it is switched off."""
        return ("index", "off") in self.base_options

    @property
    def takes_single_lowers(self) -> bool:
        """Whether lower layers are passed to the kernel one by one."""
        self.base_options  # noqa: B018 - makes a trial mount if none was made yet
        return self._single_lowers

    @cached_property
    def d_type(self) -> bool:
        """Whether directory listings have the type of each entry, which overlayfs needs."""
        with self._trial_directory() as (_, place):
            os.mkdir("entry", dir_fd=place)
            return _has_types(place)

    @cached_property
    def whiteouts(self) -> bool:
        """Whether whiteouts can be made: a character device 0:0 marks a deleted file."""
        with self._trial_directory() as (_, place):
            try:
                os.mknod("whiteout", stat.S_IFCHR, 0, dir_fd=place)
            except PermissionError:
                return False
            return is_whiteout(os.stat("whiteout", dir_fd=place, follow_symlinks=False))

    @cached_property
    def behaviour(self) -> Behaviour:
        """How a mounted overlay behaves with the kernel's own settings."""
        with self._trial_directory() as (path, place):
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
        """Whether the upper directory alone shows what has changed."""
        behaviour = self.behaviour
        return not (behaviour.redirect_dir or behaviour.metacopy or behaviour.copies_opaque)

    def require(self) -> None:
        """Check that the driver can work here.

        Raises:
            DriverNotSupported: it cannot; the message has the reason, and what to do.
        """
        try:
            self.base_options  # noqa: B018
            if not self.d_type:
                raise DriverNotSupported(
                    f"{self._where} does not store the types of directory entries (d_type), which overlayfs "
                    f"needs; xfs does if it was made with `mkfs.xfs -n ftype=1`; otherwise {_ELSEWHERE}"
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
        with self._trial_directory() as (path, place):
            for name in ("l1", "l2", "upper", "work", "merged"):
                os.mkdir(name, dir_fd=place)
            fd = self._mount(path, ("l1", "l2"), options)
            try:
                # Some kernels mount an overlay on a file system that they cannot write to, but read-only.
                _touch("new", dir_fd=fd)
            finally:
                os.close(fd)

    def _mount(self, place: str, lower: tuple[str, ...], options: tuple[tuple[str, str | None], ...]) -> int:
        mounter = Mounter(place, self._method)
        fd = mounter.open_detached(OverlaySpec(lower, "upper", "work", options), "merged")
        self._single_lowers = mounter.takes_single_lowers
        return fd

    @contextmanager
    def _trial_directory(self) -> Iterator[tuple[str, int]]:
        """Make a temporary directory, locked for the length of a `with` block; yields its path and a descriptor."""
        while True:
            path = os.path.join(self._directory, TEMPORARY + os.urandom(8).hex())
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
                        # While it is locked: two processes must not remove it at the same time.
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


_ELSEWHERE: Final = "keep the root on ext4, xfs, btrfs or tmpfs, or choose another driver, for example vfs"
_PRIVILEGES: Final = (
    "run as root, or in a user namespace with mounts of its own: `layerstore unshare COMMAND`, or in a program "
    "`layerstore_core.enter_user_namespace()`"
)


def _lock(path: str) -> Descriptor | None:
    """Lock a new directory. `None` if another process took it for a stale one before it was locked, and removed it."""
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


def remove_stale_trial_directories(directory: str) -> None:
    """Remove the trial directories of processes that have crashed: those that no process has locked."""
    for name in inside.directory_names(directory):
        path = os.path.join(directory, name)
        if not name.startswith(TEMPORARY):
            continue
        with suppress(FileNotFoundError, BlockingIOError), inside.open_directory(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path)


def _touch(path: str, *, dir_fd: int | None = None) -> None:
    os.close(open_fd(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=dir_fd))


def _has_types(directory: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "getdents64"):
        return True  # an overlay was mounted, and the kernel checks this itself
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
