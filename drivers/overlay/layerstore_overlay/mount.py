"""Mounting overlays by system calls of this process.

The newer calls (fsopen, fsconfig, fsmount, move_mount) take the lower layers one by one, from Linux 6.8 on. On older
kernels mount(2) is called, whose options must fit into one page. Every directory is opened without following links, see
`layerstore_core.sdk.inside`, and the kernel gets the descriptors. Source: Linux,
`Documentation/filesystems/overlayfs.rst` and `mount_api.rst`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Final, NamedTuple

from layerstore_core.sdk import inside
from layerstore_overlay import syscalls

#: The longest data that mount(2) takes, without its final NUL.
MAX_MOUNT_DATA: Final = os.sysconf("SC_PAGE_SIZE") - 1
#: A file system with fewer blocks or inodes left than this is reported as full.
_ROOM: Final = 8


class MountMethod(Enum):
    """How to mount."""

    #: Like `FSOPEN` if the kernel can do that, otherwise like `CLASSIC`.
    AUTO = "auto"
    FSOPEN = "fsopen"
    CLASSIC = "mount"


class OverlaySpec(NamedTuple):
    """What to mount. All paths are relative to the mounter's home.

    Attributes:
        lower: the lower directories, the uppermost first.
        upper: the directory that changes go to; `None` mounts the lower directories read-only.
        work: overlayfs's working directory, on the file system of `upper`.
        options: further options; a flag has the value `None`.
        read_only: mount read-only, although there is an upper directory.
    """

    lower: Sequence[str]
    upper: str | None = None
    work: str | None = None
    options: Sequence[tuple[str, str | None]] = ()
    read_only: bool = False

    def directories(self) -> Iterator[tuple[str, str]]:
        """Yield the options that are directories, in the order that the kernel requires."""
        yield from (("lowerdir+", lower) for lower in self.lower)
        if self.upper is not None and self.work is not None:
            yield "upperdir", self.upper
            yield "workdir", self.work


class Mounter:
    """Mounts overlays of directories in `home`.

    Args:
        home: an absolute path.
        method: how to mount; tests choose the older way.
    """

    def __init__(self, home: str, method: MountMethod = MountMethod.AUTO) -> None:
        self._home = os.fsencode(home)
        self._method = method

    @property
    def takes_single_lowers(self) -> bool:
        """Whether lower layers are passed one by one, so that only the kernel limits their number.

        This is certain after the first successful mount.
        """
        return self._method is not MountMethod.CLASSIC

    def mount(self, spec: OverlaySpec, target: str) -> None:
        """Mount at `target`, a directory relative to home.

        Raises:
            OSError: the mount failed; the message has the reason that the kernel reports, if it reports one.
        """
        path = os.path.join(self._home, os.fsencode(target))
        if self._method is not MountMethod.CLASSIC:
            try:
                mount_fd = self._make(spec, path)
            except _Unsupported:
                if self._method is MountMethod.FSOPEN:
                    raise
                self._method = MountMethod.CLASSIC
            else:
                try:
                    with inside.open_directory(path) as place:
                        syscalls.move_mount(mount_fd, place)
                finally:
                    os.close(mount_fd)
                return
        self._mount_classic(spec, target)

    def open_detached(self, spec: OverlaySpec, target: str) -> int:
        """Mount without a mount point, unseen by other processes; return a descriptor of the root directory.

        The mount ends when the descriptor is closed.

        Args:
            spec: what to mount.
            target: a directory on which the older way mounts for a moment.
        """
        if self._method is not MountMethod.CLASSIC:
            try:
                return self._make(spec, os.path.join(self._home, os.fsencode(target)))
            except _Unsupported:
                if self._method is MountMethod.FSOPEN:
                    raise
                self._method = MountMethod.CLASSIC
        self._mount_classic(spec, target)
        path = os.path.join(self._home, os.fsencode(target))
        try:
            return inside.open_directory(path).detach()
        finally:
            syscalls.unmount(os.fsdecode(path), lazy=True)

    def _make(self, spec: OverlaySpec, target: bytes) -> int:
        """Make the mount without a mount point; return its descriptor."""
        mount_fd = self._make_unchecked(spec, target)
        if spec.upper is not None and not spec.read_only:
            try:
                self._refuse_read_only(mount_fd, target)
            except BaseException:
                os.close(mount_fd)
                raise
        return mount_fd

    def _make_unchecked(self, spec: OverlaySpec, target: bytes) -> int:
        fs_fd = -1
        try:
            try:
                fs_fd = syscalls.fsopen(b"overlay")
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    raise _Unsupported(error.errno, error.strerror) from error
                raise
            if _accepts_unknown_options(fs_fd):
                raise _Unsupported(
                    errno.EINVAL, "this kernel's overlayfs takes all lower directories in one option only"
                )
            for key, value in [("source", "overlay"), *spec.options]:
                with _explained(fs_fd, key, value):
                    syscalls.fsconfig_set(fs_fd, os.fsencode(key), None if value is None else os.fsencode(value))
            for key, directory in spec.directories():
                path = os.path.join(self._home, os.fsencode(directory))
                with inside.open_directory(path) as fd, _explained(fs_fd, key, os.fsdecode(path)):
                    syscalls.fsconfig_set_directory(fs_fd, os.fsencode(key), fd)
            try:
                syscalls.fsconfig_create(fs_fd)
                return syscalls.fsmount(fs_fd, read_only=spec.read_only or spec.upper is None)
            except OSError as error:
                raise OSError(error.errno, _explain(error, fs_fd)) from error
        except OSError as error:
            error.filename = os.fsdecode(target)
            error.add_note("while mounting an overlay")
            raise
        finally:
            if fs_fd >= 0:
                os.close(fs_fd)

    def _refuse_read_only(self, mount_fd: int, path: bytes) -> None:
        """Raise an error if overlayfs has mounted read-only because it could not make its working directory.

        It writes the reason to the kernel's log only.
        """
        home = os.statvfs(self._home)
        if not os.fstatvfs(mount_fd).f_flag & os.ST_RDONLY or home.f_flag & os.ST_RDONLY:
            return
        full = home.f_bavail < _ROOM or (home.f_files and home.f_favail < _ROOM)
        code = errno.ENOSPC if full else errno.EROFS
        error = OSError(code, f"{os.strerror(code)}: overlayfs could not make its working directory", os.fsdecode(path))
        error.add_note("while mounting an overlay")
        raise error

    def _mount_classic(self, spec: OverlaySpec, target: str) -> None:
        path = os.path.join(os.fsdecode(self._home), target)
        with ExitStack() as opened:

            def handle(directory: str) -> str:
                fd = opened.enter_context(inside.open_directory(os.path.join(os.fsdecode(self._home), directory)))
                return f"/proc/self/fd/{fd}"

            parts = [key if value is None else f'{key}="{value}"' if "," in value else f"{key}={value}"
                     for key, value in spec.options]  # fmt: skip
            parts.append("lowerdir=" + ":".join(map(handle, spec.lower)))
            if spec.upper is not None and spec.work is not None:
                parts += [f"upperdir={handle(spec.upper)}", f"workdir={handle(spec.work)}"]
            data = os.fsencode(",".join(parts))
            if len(data) > MAX_MOUNT_DATA:
                raise OSError(
                    errno.E2BIG,
                    f"{len(spec.lower)} lower layers do not fit into the {MAX_MOUNT_DATA} bytes that mount(2) takes; "
                    "Linux 6.8 and later have no such limit",
                    path,
                )
            try:
                syscalls.mount(os.fsencode(handle(target)), data, read_only=spec.read_only or spec.upper is None)
            except OSError as error:
                error.filename = path
                error.add_note(
                    f"while mounting an overlay of {', '.join(spec.lower)} with the options {os.fsdecode(data)}"
                )
                raise


class _Unsupported(OSError):
    """The kernel has no such system call, or overlayfs has no option `lowerdir+`."""


def _accepts_unknown_options(fs_fd: int) -> bool:
    """Return whether this kernel's overlayfs accepts unknown options.

    Some kernels read the options only at the end, as for mount(2). They would accept `lowerdir+`, too, and fail later
    without a reason.
    """
    try:
        syscalls.fsconfig_set(fs_fd, b"layerstore-no-such-option", None)
    except OSError:
        syscalls.read_log(fs_fd)
        return False
    return True


def _explain(error: OSError, fs_fd: int) -> str:
    """Return the error's message, with the kernel's messages about the file system context, if any."""
    reason = syscalls.read_log(fs_fd)
    words = error.strerror or os.strerror(error.errno or 0)
    return f"{words}: {'; '.join(reason)}" if reason else words


@contextmanager
def _explained(fs_fd: int, key: str, value: str | None) -> Iterator[None]:
    """Add the kernel's messages and the mount option to an error inside a `with` block."""
    try:
        yield
    except OSError as error:
        reason = _explain(error, fs_fd)
        if key == "lowerdir+" and error.errno == errno.EINVAL:
            raise _Unsupported(error.errno, reason) from error
        shown = key if value is None else f"{key}={value}"
        raise OSError(error.errno, f"{reason} (mount option {shown})") from error
