"""Access to the directories below one root, through descriptors. No path leads outside, whatever links it contains.

Paths are walked one component at a time. Each component is opened relative to its parent's descriptor, and never
through a symbolic link. If a component is a link, the link is read and its target is walked instead. In it, `..` stops
at the root, and `/` means the root, as in the kernel after chroot(2). If another process replaces something meanwhile,
the walk may reach another place inside the root, but no place outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, Self

from layerstore_core.base import inside
from layerstore_core.base.descriptors import Descriptor, open_fd
from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.tree.access_lists import DEFAULT, remove_access_lists

#: The number of directories that are kept open.
_MAX_OPEN: Final = 64
#: The number of links in one path from which it counts as a loop: the kernel's limit.
MAX_LINKS: Final = 40
#: The bits of a mode that contain the file type.
_TYPE: Final = stat.S_IFMT(0xFFFF)
#: Last components of paths that are not clean.
_DOTS: Final = (b"", b".", b"..")
_OPEN_DIR: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: if the file was replaced by a fifo meanwhile, opening it must not wait for a writer.
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PathBlockedError(NotADirectoryError):
    """Error of a path on which something is neither a directory nor a link to one.

    Args:
        path: the path in the error message.
        where: the path of the obstacle below the root.
        by_link: whether a link has led to it.
    """

    def __init__(self, path: str, where: bytes, *, by_link: bool) -> None:
        super().__init__(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self.where = where
        self.by_link = by_link


class Directory:
    """Open directory, with the times that it gets when it is closed.

    Attributes:
        fd: its descriptor; -1 once it is closed.
        path: its path below the root, with links resolved; the root is the empty path.
        restore: `(atime_ns, mtime_ns)` to set when it is closed; `None` to leave the times alone.
        setgid: new files in it get its group.
        inherits_acl: new files in it inherit an access list, which replaces the umask.
        pins: the number of users that need it open; `Root.pinned` counts them.
    """

    __slots__ = ("_descriptor", "fd", "inherits_acl", "made", "path", "pins", "restore", "setgid")

    def __init__(self, descriptor: Descriptor, path: bytes) -> None:
        self._descriptor = descriptor
        self.fd = descriptor.number
        self.path = path
        self.restore: tuple[int, int] | None = None
        self.setgid = False
        self.inherits_acl = False
        self.pins = 0
        #: Its number among the directories that its `Root` has made; -1 if it has no known number.
        self.made = -1

    def join(self, base: bytes) -> bytes:
        """Return the path of a name in it, relative to the root."""
        return self.path + b"/" + base if self.path else base

    def names(self) -> list[bytes]:
        """Return the names that are in it now.

        On btrfs a descriptor lists only the names that were there when it was opened, or was last set to the start.
        """
        os.lseek(self.fd, 0, os.SEEK_SET)
        return [os.fsencode(name) for name in os.listdir(self.fd)]

    def close(self) -> None:
        """Set the times, and close the descriptor."""
        # The descriptor's number may soon belong to another file, so it must not be used for this directory any more.
        fd, self.fd = self.fd, -1
        try:
            if self.restore is not None and fd >= 0:
                os.utime(fd, ns=self.restore)
        finally:
            self._descriptor.close()


class Root:
    """Root of a tree, and access to the directories below it.

    Args:
        path: a directory, or a descriptor of it; see `layerstore_core.base.inside`.
        keep_times: restore the times of directories that were opened with `enter` when they are closed.
        owner_of_made: user and group, on this host, of directories that `enter` makes; `None`: this process's.
    """

    def __init__(
        self, path: str | bytes | int, *, keep_times: bool = False, owner_of_made: tuple[int, int] | None = None
    ) -> None:
        self.path = b"" if isinstance(path, int) else os.fsencode(path)
        #: The directories that `enter` has made: the parent of each, as an index of this list or as a path, and its
        #: name. Whole paths of deep directories would take many times as much memory.
        self._made: list[tuple[int | bytes, bytes]] = []
        #: Called with each path at which `enter` is about to make a directory. What it raises is passed on.
        self.on_make: Callable[[bytes], None] = lambda _: None
        #: Called with the path of each symbolic link that is followed.
        self.on_follow: Callable[[bytes], object] = lambda _: None
        #: Called before a link is followed or a file is found to be in the way. Returns whether it has changed anything
        #: in the tree: then the walk begins again.
        self.settle: Callable[[], bool] = lambda: False
        #: Called for a path at which the tree has nothing, to look it up elsewhere. It returns the target of a link;
        #: for anything else whether it is a directory; `None` for nothing. By default there is nothing elsewhere.
        self.below: Callable[[bytes], bytes | bool | None] = lambda _: None
        #: Called with the path of a directory that is opened. Returns `(atime_ns, mtime_ns)` if other code has it open,
        #: and will set these; `None`: it keeps the times that it has.
        self.times_of: Callable[[bytes], tuple[int, int] | None] = lambda _: None
        #: Called with the path of a link. Returns whether the link may be followed to make a missing directory.
        self.may_follow: Callable[[bytes], bool] = lambda _: True
        self._keep_times = keep_times
        self._owner_of_made = owner_of_made
        self._open: OrderedDict[bytes, Directory] = OrderedDict()
        self._root = Directory(inside.open_directory(path), b"")
        self._remember_metadata(self._root)
        # The directory in which `open_file` has found the last file directly, and its name then. The next file is
        # mostly in the same directory.
        self._files_in: bytes | None = None
        self._files_of = self._root

    @property
    def fd(self) -> int:
        """The root's descriptor."""
        return self._root.fd

    def enter(self, path: bytes, *, create_mode: int | None = None) -> Directory:
        """Open the directory `path`; if it is open, return it.

        Args:
            path: relative and clean; links in it are followed inside the root.
            create_mode: make missing directories with this mode; `None`: make none.

        Returns:
            The directory. It stays open for at least `_MAX_OPEN` further calls.

        Raises:
            FileNotFoundError: the directory is missing, and no mode was given to make it.
            PathBlockedError: something on the path is no directory, or is a link that may not be followed.
            OSError: with `ELOOP` for a loop of links.
        """
        if not path:
            return self._root
        found = self._open.get(path)
        if found is None:
            return self._walk(path, create_mode)
        self._open.move_to_end(path)
        return found

    def made(self) -> Iterator[bytes]:
        """Yield the paths of the directories that `enter` has made, parents first."""
        for above, base in self._made:
            parts = [base]
            while isinstance(above, int):
                above, base = self._made[above]
                parts.append(base)
            yield b"/".join([*([above] if above else []), *reversed(parts)])

    def opened(self, path: bytes) -> Directory | None:
        """Return the directory `path` if it is open."""
        return self._open.get(path) if path else self._root

    def child(self, directory: Directory, base: bytes, *, made: bool = False) -> Directory:
        """Open the directory `base` in an open one. It must be a directory itself, and no link.

        Args:
            directory: the open directory.
            base: the name in it.
            made: whether the caller has just made it, and applies its metadata.

        Raises:
            OSError: with `ENOTDIR` or `ELOOP` if it is something else.
        """
        path = directory.join(base)
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            return found
        child = self._opened(Descriptor(os.open, base, _OPEN_DIR, dir_fd=directory.fd), path, made=made)
        if made and directory.inherits_acl:
            remove_access_lists(child.fd)
        return child

    def forget(self, path: bytes) -> None:
        """Close the open directories at and below `path`, which is about to be removed."""
        below = path + b"/"
        for known in [known for known in self._open if known == path or known.startswith(below)]:
            directory = self._open.pop(known)
            directory.restore = None
            directory.close()

    def open_file(self, name: bytes) -> int:
        """Open a regular file for reading.

        Args:
            name: exactly as in a tar. It is cleaned first, as in unpacking; links on the way and at its end are
                followed inside the root.

        Returns:
            A descriptor, which the caller has to close.

        Raises:
            FileNotFoundError: there is no such file, or it is no regular file.
            NotADirectoryError: something on the way is no directory.
        """
        above, _, last = name.rpartition(b"/")
        if above == self._files_in and self._files_of.fd >= 0 and last not in _DOTS:
            known: Directory | None = self._files_of
        else:
            clean = clean_name(name)
            clean_above, _, last = clean.rpartition(b"/")
            known = self._open.get(clean_above)
            if known is not None and name in (clean, b"./" + clean):
                self._files_in, self._files_of = above, known
        if known is not None and last:  # the usual case, as in `_walk`
            try:
                # The type is checked before the file is opened: opening a device can have side effects.
                if os.stat(last, dir_fd=known.fd, follow_symlinks=False).st_mode & _TYPE == stat.S_IFREG:
                    return open_fd(last, _OPEN_FILE, dir_fd=known.fd)
            except OSError as error:
                error.filename = self._absolute(name)
                raise
        clean = clean_name(name)
        # A name that leaves the root was never unpacked.
        parts = clean.split(b"/") if clean and not leaves_root(clean) else []
        for _ in range(MAX_LINKS):
            if not parts or parts[-1] == b"..":
                raise FileNotFoundError(errno.ENOENT, "not a regular file", self._absolute(name))
            directory = self.enter(b"/".join(parts[:-1]))
            try:
                mode = os.stat(parts[-1], dir_fd=directory.fd, follow_symlinks=False).st_mode
                if stat.S_ISREG(mode):
                    return open_fd(parts[-1], _OPEN_FILE, dir_fd=directory.fd)
                if not stat.S_ISLNK(mode):
                    raise FileNotFoundError(errno.ENOENT, "not a regular file", self._absolute(name))
                target = os.readlink(parts[-1], dir_fd=directory.fd)
            except OSError as error:
                error.filename = self._absolute(name)
                raise
            base = [] if target.startswith(b"/") else directory.path.split(b"/")
            parts = [part for part in [*base, *target.split(b"/")] if part not in (b"", b".")]
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._absolute(name))

    @contextmanager
    def pinned(self, directory: Directory) -> Iterator[None]:
        """Keep a directory open for the length of a `with` block, even if many others are opened in it."""
        directory.pins += 1
        try:
            yield
        finally:
            directory.pins -= 1

    def close(self) -> None:
        """Close all directories, the last opened first, so that each gets its times after its content has."""
        with ExitStack() as closing:  # if the times of one cannot be set, the others are closed all the same
            if self._root.fd >= 0:
                closing.callback(self._root.close)
            while self._open:
                closing.callback(self._open.popitem(last=False)[1].close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _walk(self, path: bytes, create_mode: int | None) -> Directory:
        """Open the directory `path`, which is not open, as `enter` does."""
        above, _, last = path.rpartition(b"/")
        parent = self._open.get(above)
        if parent is not None and last != b"..":  # the usual case: the parent is open
            try:
                return self._opened(Descriptor(os.open, last, _OPEN_DIR, dir_fd=parent.fd), path)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                    error.filename = self._absolute(path)
                    raise
        # `done` is the path walked so far; `todo` has the components still to walk, the next one last.
        done: list[bytes] = []
        todo = path.split(b"/")[::-1]
        links = of_links = 0
        here = self._root
        while todo:
            part = todo.pop()
            by_link = of_links > 0
            of_links -= by_link
            if part in (b"", b"."):
                continue
            if part == b"..":
                # Not the kernel's `..`: if a directory is moved meanwhile, its parent could be anywhere.
                if done:
                    done.pop()
                    here = self.enter(b"/".join(done))
                continue
            done.append(part)
            where = b"/".join(done)
            known = self._open.get(where)
            if known is not None:
                self._open.move_to_end(where)
                here = known
                continue
            try:
                here = self._opened(Descriptor(os.open, part, _OPEN_DIR, dir_fd=here.fd), where)
                continue
            except FileNotFoundError:
                target = self.below(where)
                if isinstance(target, bytes) and self.settle():
                    return self.enter(path, create_mode=create_mode)
                hides = isinstance(target, bytes) and not self._may_follow(where, here, create_mode)
                if by_link and (hides or target is False):
                    raise PathBlockedError(self._absolute(where), where, by_link=True) from None
                target = None if hides else target
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    error.filename = self._absolute(where)
                    raise
                if self.settle():
                    return self.enter(path, create_mode=create_mode)
                target = self._read_link(part, here)
                if target is None or not self._may_follow(where, here, create_mode):
                    raise PathBlockedError(self._absolute(where), where, by_link=by_link) from None
            if isinstance(target, bytes):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._absolute(path)) from None
                self.on_follow(where)
                done.pop()
                parts = target.split(b"/")[::-1]
                of_links += len(parts)
                todo += parts
                if target.startswith(b"/"):
                    done.clear()
                    here = self._root
            else:
                if create_mode is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._absolute(path)) from None
                self.on_make(where)
                os.mkdir(part, create_mode, dir_fd=here.fd)
                self._made.append((here.made if here.made >= 0 else here.path, part))
                inherits_acl = here.inherits_acl
                here = self._opened(Descriptor(os.open, part, _OPEN_DIR, dir_fd=here.fd), where, made=True)
                if inherits_acl:
                    remove_access_lists(here.fd)
                here.made = len(self._made) - 1
                if self._owner_of_made is not None:
                    os.fchown(here.fd, *self._owner_of_made)
                os.fchmod(here.fd, create_mode)
        return here

    def _may_follow(self, path: bytes, directory: Directory, create_mode: int | None) -> bool:
        """Return whether the link at `path`, in an open directory, may be followed."""
        with self.pinned(directory):
            return create_mode is None or self.may_follow(path)

    def _read_link(self, name: bytes, directory: Directory) -> bytes | None:
        """Return the target of a symbolic link; `None` for any other file."""
        try:
            return os.readlink(name, dir_fd=directory.fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def _opened(self, descriptor: Descriptor, path: bytes, *, made: bool = False) -> Directory:
        """Add a directory to the open ones, and close the oldest that is not pinned if they are too many."""
        directory = Directory(descriptor, path)
        if not made:
            self._remember_metadata(directory)
        self._open[path] = directory
        if len(self._open) > _MAX_OPEN:
            oldest = next((known for known, one in self._open.items() if not one.pins), None)
            if oldest is not None and oldest != path:
                self._open.pop(oldest).close()
        return directory

    def _remember_metadata(self, directory: Directory) -> None:
        """Read the metadata of a directory that affects new files in it, and the times to restore."""
        if self._keep_times:
            status = os.fstat(directory.fd)
            directory.restore = self.times_of(directory.path) or (status.st_atime_ns, status.st_mtime_ns)
            directory.setgid = bool(status.st_mode & stat.S_ISGID)
            directory.inherits_acl = _has_default_acl(directory.fd)

    def _absolute(self, path: bytes) -> str:
        return os.fsdecode(os.path.join(self.path, path.lstrip(b"/")))


def _has_default_acl(fd: int) -> bool:
    try:
        os.getxattr(fd, DEFAULT)
    except OSError:
        return False
    return True
