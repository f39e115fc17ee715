"""Output files: regular files that are replaced as a whole, and devices, pipes and open descriptors of this process."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from layerstore_core.base.descriptors import Descriptor

_OWN: Final = r"(?:/dev/fd|/proc/(?:self|thread-self|([0-9]+))/fd)/([0-9]{1,9})"
_STANDARD: Final = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
#: Links followed for one name: the kernel's limit.
_MAX_LINKS: Final = 40
_CHUNK: Final = 1 << 20


class OutputFile:
    """A file that is written from start to end. Its errors have the file name that the user gave.

    Args:
        name: the name that the user gave.
        opened: the open file. This object closes it.
        may_block: whether a write may wait for another program, without a time limit.

    Attributes:
        position: the number of bytes that have been written.
    """

    def __init__(self, name: str, opened: Descriptor, *, may_block: bool) -> None:
        self.may_block = may_block
        self.position = 0
        self._name = name
        self._file = opened

    @classmethod
    def new(cls, name: str, path: str) -> Self:
        """Make a new regular file.

        Args:
            name: the name that the user gave, for errors.
            path: the path of the new file. Nothing may exist there.

        Raises:
            OSError: the file cannot be made.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with naming(name):
            return cls(name, Descriptor(os.open, path, flags, 0o644), may_block=False)

    @classmethod
    def unnamed(cls, name: str, directory: str) -> Self | None:
        """Make a new regular file without a name, of which a process that is killed leaves nothing.

        Args:
            name: the name that the user gave, for errors.
            directory: the directory where it will get a name.

        Returns:
            The file; `None` where the file system cannot do that, or refuses.
        """
        try:
            return cls(
                name, Descriptor(os.open, directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o644), may_block=False
            )
        except OSError:
            return None

    def give_name(self, path: str, partial: str) -> bool:
        """Give a file that was made by `unnamed` a name in its directory: `path`, or `partial` if that is taken.

        Returns:
            Whether the name is `path`. Otherwise rename `partial`: a link never replaces a file.

        Raises:
            OSError: it cannot get a name.
        """
        with naming(self._name):
            for target in (path, partial):
                directory, base = os.path.split(target)
                with Descriptor(os.open, directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) as parent:
                    try:
                        # With `dst_dir_fd` it is linkat(2), which follows the link in /proc: see open(2), O_TMPFILE.
                        os.link(f"/proc/self/fd/{self._file.number}", base, dst_dir_fd=parent, follow_symlinks=True)
                    except FileExistsError:
                        continue
                    except OSError:  # no /proc, or a file system that cannot do it
                        break
                return target == path
        with OutputFile.new(self._name, partial) as copy:
            while chunk := os.pread(self._file.number, _CHUNK, copy.position):
                copy.write(chunk)
            copy.sync()
        return False

    def write(self, data: bytes | memoryview, /) -> None:
        """Write all of `data`.

        Raises:
            OSError: the data cannot be written.
        """
        left = memoryview(data)
        with naming(self._name):
            while left:
                count = os.write(self._file.number, left)
                left = left[count:]
                self.position += count

    def truncate(self, position: int) -> None:
        """Truncate the file to a position, and continue there; not for a file that `may_block`."""
        with naming(self._name):
            os.ftruncate(self._file.number, position)
            os.lseek(self._file.number, position, os.SEEK_SET)
        self.position = position

    def sync(self) -> None:
        """Flush the file to disk: fsync(2)."""
        with naming(self._name):
            os.fsync(self._file.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with naming(self._name):
            self._file.close()


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Set the file name of each `OSError` to the name that the user gave, in place of a temporary file's."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = name, None
        raise


def is_stream(path: str) -> bool:
    """Return whether `path` is written directly: it is a device, a pipe, a socket or an open file of this process."""
    if own_descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def own_descriptor(path: str) -> int | None:
    """Return the descriptor of this process that `path` refers to, like `/dev/stdout`; `None` for any other path."""
    for _ in range(_MAX_LINKS):
        if path in _STANDARD:
            return _STANDARD[path]
        if (match := re.fullmatch(_OWN, path)) and match[1] in (None, str(os.getpid())):
            return int(match[2])
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return None
    return None


@contextmanager
def replacing(file: str) -> Iterator[OutputFile]:
    """Replace a file at the end of a `with` block. If the block raises, the file is unchanged.

    A device, a pipe or a socket is written directly, since to replace `/dev/null` by a file would do harm. So is an
    open file of this process, such as `/dev/stdout`. A symbolic link stays: its target is replaced.

    The file has no name until it is complete, where the file system can do that: a process that is killed leaves
    nothing. To replace a file that exists, it gets a temporary name for the last moment.

    Yields:
        The file to write to.

    Raises:
        OSError: the file cannot be written. The error has the name `file`.
    """
    if is_stream(file):
        number = own_descriptor(file)
        with naming(file):
            opened = (
                Descriptor(os.open, file, os.O_WRONLY | os.O_CLOEXEC) if number is None else Descriptor(os.dup, number)
            )
        with OutputFile(file, opened, may_block=True) as target:
            yield target
        return
    import secrets

    path = os.path.realpath(file)
    partial = os.path.join(os.path.dirname(path), f".layerstore-{secrets.token_hex(8)}.part")
    try:
        unnamed = OutputFile.unnamed(file, os.path.dirname(path))
        with unnamed or OutputFile.new(file, partial) as target:
            yield target
            target.sync()
            if unnamed is not None and unnamed.give_name(path, partial):
                return
        with naming(file):
            os.replace(partial, path)
    except BaseException:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise
