"""Mounting overlays, by system calls of this process alone.

The newer calls (fsopen, fsconfig, fsmount, move_mount) take every lower layer by itself, from Linux 6.8
on. Older kernels get mount(2), whose options must fit into one page. Every directory is opened without following
links, see `layerstore_core.base.inside`, and the kernel is given the descriptors. Source: Linux, `Documentation/filesystems/overlayfs.rst` and `mount_api.rst`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

from layerstore_core.sdk import inside
from layerstore_overlay import syscalls

#: The longest data that mount(2) takes, without its final NUL.
MAX_MOUNT_DATA: Final = os.sysconf("SC_PAGE_SIZE") - 1
#: Of a file system with fewer blocks or inodes left it is said that it is full.
_ROOM: Final = 8


class MountMethod(Enum):
    """How to mount."""

    #: As `FSOPEN` where the kernel can, otherwise as `CLASSIC`.
    AUTO = "auto"
    FSOPEN = "fsopen"
    CLASSIC = "mount"


@dataclass(frozen=True, slots=True)
class OverlaySpec:
    """What to mount; all paths are relative to the home that the mounter was made for.

    Attributes:
        lower: the lower directories, the nearest first.
        upper: where changes go; `None` mounts the lower directories read-only.
        work: overlayfs's own working directory beside `upper`.
        options: further options, the value `None` for a flag.
        read_only: refuse changes although there is an upper directory.
    """

    lower: Sequence[str]
    upper: str | None = None
    work: str | None = None
    options: Sequence[tuple[str, str | None]] = ()
    read_only: bool = False

    def directories(self) -> Iterator[tuple[str, str]]:
        """The options that are directories, in the order in which the kernel wants them."""
        yield from (("lowerdir+", lower) for lower in self.lower)
        if self.upper is not None and self.work is not None:
            yield "upperdir", self.upper
            yield "workdir", self.work


class Mounter:
    """Mounts overlays of directories below `home`.

    Args:
        home: an absolute path.
        method: tests choose the older way to see that it works.
    """

    def __init__(self, home: str, method: MountMethod = MountMethod.AUTO) -> None:
        self._home = os.fsencode(home)
        self._method = method

    @property
    def takes_single_lowers(self) -> bool:
        """Whether lower layers are passed one by one, so that their number is the kernel's affair alone.

        Certain from the first successful mount on.
        """
        return self._method is not MountMethod.CLASSIC

    def mount(self, spec: OverlaySpec, target: str) -> None:
        """Mount at `target`, a directory relative to home.

        Raises:
            OSError: with what the kernel has said of the reason, where it has.
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
        """Mount where nobody else sees it; the mount goes when the returned directory descriptor is closed.

        Args:
            spec: what to mount.
            target: a directory that the older way needs for a moment.
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
        """Make the mount, attached to nothing yet."""
        mount_fd = self._make_as_it_comes(spec, target)
        if spec.upper is not None and not spec.read_only:
            try:
                self._refuse_read_only(mount_fd, target)
            except BaseException:
                os.close(mount_fd)
                raise
        return mount_fd

    def _make_as_it_comes(self, spec: OverlaySpec, target: bytes) -> int:
        fs_fd = -1
        try:
            try:
                fs_fd = syscalls.fsopen(b"overlay")
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    raise _Unsupported(error.errno, error.strerror) from error
                raise
            if _takes_anything(fs_fd):
                raise _Unsupported(errno.EINVAL, "this kernel's overlayfs takes lower directories only all at once")
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
        """Where overlayfs cannot make its working directory, it mounts read-only, and tells the kernel's log alone why."""
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
    """The kernel has no such call, or no `lowerdir+`."""


def _takes_anything(fs_fd: int) -> bool:
    """Whether overlayfs still gets its options as mount(2) hands them over, unread until the end.

    Then an option that nobody knows is taken, and so would `lowerdir+` be, to fail without a reason.
    """
    try:
        syscalls.fsconfig_set(fs_fd, b"layerstore-no-such-option", None)
    except OSError:
        syscalls.read_log(fs_fd)
        return False
    return True


def _explain(error: OSError, fs_fd: int) -> str:
    """The error in words, the kernel's own if it has left any with the file system context."""
    said = syscalls.read_log(fs_fd)
    words = error.strerror or os.strerror(error.errno or 0)
    return f"{words}: {'; '.join(said)}" if said else words


@contextmanager
def _explained(fs_fd: int, key: str, value: str | None) -> Iterator[None]:
    """Add to an error what the kernel has said, and the option."""
    try:
        yield
    except OSError as error:
        said = _explain(error, fs_fd)
        if key == "lowerdir+" and error.errno == errno.EINVAL:
            raise _Unsupported(error.errno, said) from error
        shown = key if value is None else f"{key}={value}"
        raise OSError(error.errno, f"{said} (mount option {shown})") from error
