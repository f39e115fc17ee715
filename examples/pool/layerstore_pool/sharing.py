"""The two ways in which the files of a layer are shared with the pool: by hard links, or by reflinks.

A file of the pool is used only if its content is that of the layer's file, byte for byte: a power cut may have cut it
off, a disk may have changed it, somebody may have written to it through a layer. Then the next number is used.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import layerstore_core
from layerstore_core.sdk import Descriptor, TreeWalk, inside, may_have_holes, read_xattrs, same_content
from layerstore_pool.extents import clone

if TYPE_CHECKING:
    from loguru import Logger

    from layerstore_core.sdk import MadeFile

#: In a name in the pool: this file may have any metadata.
ANY: Final = "any"
#: How files of the pool are opened. A fifo that somebody has put there must not be waited for.
READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Errors of one file of the pool. Another one can be used: EMLINK, for example, says that it has all names it can have.
_OF_THIS_FILE: Final = {errno.EMLINK, errno.ELOOP, errno.EACCES, errno.EINVAL, errno.EIO}


class Facts(NamedTuple):
    """What all names of a file share. Files with equal facts and the same content can be one file."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    xattrs: dict[bytes, bytes]


def facts_of(fd: int) -> Facts:
    """Return the facts of an open file."""
    status = os.fstat(fd)
    return Facts(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_size, read_xattrs(fd))


def key_of(digest: str, facts: Facts) -> str:
    """Return the beginning of the names that files with this content and these facts have in the pool."""
    return f"{digest}.{hashlib.sha256(repr(tuple(facts)).encode()).hexdigest()}"


def files_of(tree: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the path, relative to the root, and the inode of each regular file in a tree, of any depth."""
    with TreeWalk(tree) as walk:
        waiting = [b""]
        while waiting:
            with os.scandir(walk.enter(waiting.pop())) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(walk.join(entry.name))
                    elif entry.is_file(follow_symlinks=False):
                        yield walk.join(entry.name), entry.inode()


class Sharing:
    """Sharing of the files of one new layer with the pool. A context manager.

    Args:
        pool: the directory of the pool.
        layer: the directory of the layer.
        tree: the directory of its files.
        logger: gets a warning for each file of the pool that is not what it should be.
    """

    def __init__(self, pool: Path, layer: Path, tree: Path, logger: Logger) -> None:
        self._layer = layer
        self._tree = tree
        self._logger = logger
        self._directory = inside.open_directory(pool)
        self._pool = self._directory.number
        #: The first number to try, by key: files with those before it cannot be used for this layer.
        self._numbers: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._directory.close()

    def share(self, file: MadeFile) -> None:
        """Replace a new file by the pool's file with the same content; if there is none, add it to the pool.

        An empty file has nothing to share. One that is sparse in the tar has no digest, and may be of any length.
        """
        if not file.size or file.digest is None:
            return
        with Descriptor(file.open) as made:
            facts = facts_of(made)
            key = self.key(file.digest, facts)
            for number in count(self._numbers.get(key, 0)):
                self._numbers[key] = number + 1
                if self._share_as(f"{key}.{number}", file, made, facts):
                    return

    def _share_as(self, name: str, file: MadeFile, made: int, facts: Facts) -> bool:
        """Share a file by the pool's file of this name, which may be missing; return whether that was done."""
        while True:
            try:
                os.link(file.base, name, src_dir_fd=file.directory, dst_dir_fd=self._pool, follow_symlinks=False)
                return True
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno == errno.EMLINK:
                    return True  # the layer itself has as many names for this file as there can be
                raise
            try:
                with Descriptor(os.open, name, READ, dir_fd=self._pool) as kept:
                    return self._take(name, kept, file, made, facts)
            except FileNotFoundError:
                continue  # garbage collection has just removed it
            except OSError as error:
                if error.errno not in _OF_THIS_FILE:
                    raise
                return False

    def _take(self, name: str, kept: int, file: MadeFile, made: int, facts: Facts) -> bool:
        status = os.fstat(kept)
        if self.is_in_tree(status.st_ino):
            return False
        sparse = may_have_holes(status) or may_have_holes(file.status)
        if not self.are_alike(facts_of(kept), facts) or not same_content(kept, made, file.size, sparse):
            self._logger.warning(f"{name} in the pool is damaged; `layerstore check` shows which layers have it")
            return False
        self.replace(file, name, kept)
        return True

    def key(self, digest: str, facts: Facts) -> str:
        """Return the beginning of the names that files have in the pool if this one can share with them."""
        raise NotImplementedError

    def is_in_tree(self, inode: int) -> bool:
        """Return whether a file of the pool cannot be used because this tree has it already."""
        raise NotImplementedError

    def are_alike(self, kept: Facts, made: Facts) -> bool:
        """Return whether two files can share if their content is the same."""
        raise NotImplementedError

    def replace(self, file: MadeFile, name: str, kept: int) -> None:
        """Replace a new file: let it share with an open file of the pool."""
        raise NotImplementedError


class Links(Sharing):
    """Sharing by hard links: content and metadata are the same.

    Two files of one tree never become one: in a writable copy of the tree, who changes one of them would change both.
    """

    _inodes: set[int] | None = None

    def key(self, digest: str, facts: Facts) -> str:
        return key_of(digest, facts)

    def is_in_tree(self, inode: int) -> bool:
        if self._inodes is None:
            self._inodes = {inode for _, inode in files_of(self._tree)}
        if inode in self._inodes:
            return True
        self._inodes.add(inode)
        return False

    def are_alike(self, kept: Facts, made: Facts) -> bool:
        return kept == made

    def replace(self, file: MadeFile, name: str, kept: int) -> None:
        file.replace(name, src_dir_fd=self._pool)


class Reflinks(Sharing):
    """Sharing by reflinks: the content is the same, and each file has metadata of its own.

    The first file with a content has its name in the pool as a hard link. The others are clones of it.
    """

    def key(self, digest: str, facts: Facts) -> str:
        return f"{digest}.{ANY}"

    def is_in_tree(self, inode: int) -> bool:
        return False

    def are_alike(self, kept: Facts, made: Facts) -> bool:
        return kept.size == made.size

    def replace(self, file: MadeFile, name: str, kept: int) -> None:
        path = self._layer / "clone"
        inside.unlink(path, missing_ok=True)
        with inside.parent(path) as (layer, base):
            try:
                with Descriptor(os.open, base, _NEW, 0o600, dir_fd=layer) as target:
                    clone(kept, target)
                layerstore_core.copy_metadata(b"/proc/self/fd/%d/%b" % (file.directory, file.base), str(path))
                file.replace(base, src_dir_fd=layer)
            finally:
                inside.unlink(path, missing_ok=True)
