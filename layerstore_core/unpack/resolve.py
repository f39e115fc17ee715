"""The way to where an entry goes: which links are followed, and what gives way to a directory.

A link that leads to a directory is a way through, whichever layer has brought it: so it is on systems that have merged
`/lib` into `/usr/lib`. Whatever else a parent layer has there is replaced by a directory, as with Docker's overlay2 and
umoci: a file of any type, or a link that leads to no directory. What this layer has brought itself stays, and what is
below it is refused; so is what a link leads to and is no directory.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tree.root import MAX_LINKS, Directory, NoWayError, Root
from layerstore_core.unpack.replace import Replacer
from layerstore_core.unpack.whiteout_style import WhiteoutStyle

#: Directories that the tar does not mention but needs: Docker's mode for them.
_IMPLIED_MODE: Final = 0o755
#: What an entry of a tar takes, in bytes, and how long its name may be.
_HEADER: Final = 512
_SHORT: Final = 100


class PathResolver:
    """The ways of one layer.

    Args:
        tree: what it is unpacked into.
        diff: the layer.
        style: what shows from below.
        replacer: removes what is in the way.
    """

    def __init__(self, tree: Root, diff: LayerStream, style: WhiteoutStyle, replacer: Replacer) -> None:
        self._tree = tree
        self._diff = diff
        self._touched = diff.touched
        self._style = style
        self._replacer = replacer
        tree.below = self._below
        tree.on_make = self._count
        tree.may_follow = lambda path: path in self._touched or self.resolve(path) is not None

    def enter(self, path: bytes) -> Directory:
        """The directory at `path`, made where it is missing.

        Raises:
            NotADirectoryError: something that does not give way is no directory.
        """
        while True:
            try:
                return self._tree.enter(path, create_mode=_IMPLIED_MODE)
            except NoWayError as error:
                self._clear(error)

    def resolve(self, path: bytes) -> bytes | None:
        """The path, without links, of the directory that `path` leads to, here or below; `None` where there is none."""
        done: list[bytes] = []
        todo = path.split(b"/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":
                done = done[:-1]
            elif part not in (b"", b"."):
                found = self._look(b"/".join([*done, part]))
                if found is True:
                    done.append(part)
                elif not found or links == MAX_LINKS:
                    return None
                else:
                    links += 1
                    done = [] if found.startswith(b"/") else done
                    todo += found.split(b"/")[::-1]
        return b"/".join(done)

    def _look(self, path: bytes) -> bytes | bool | None:
        """As `Root.below`, for what is in the tree as well; on the way to it are directories alone."""
        above, _, base = path.rpartition(b"/")
        try:
            directory = self._tree.enter(above)
            if base in directory.pending:
                return False
            mode = os.stat(base, dir_fd=directory.fd, follow_symlinks=False).st_mode
            return os.readlink(base, dir_fd=directory.fd) if stat.S_ISLNK(mode) else stat.S_ISDIR(mode)
        except FileNotFoundError:
            return self._style.below(self._tree, path)

    def _count(self, path: bytes) -> None:
        """Count a directory against the limit of the layer, as an entry of its own would count."""
        size = _HEADER if len(path) < _SHORT else 3 * _HEADER + len(path)  # a longer name takes a header of its own
        self._diff.count_implied(size)

    def _below(self, path: bytes) -> bytes | bool | None:
        found = self._style.below(self._tree, path)
        if isinstance(found, bytes):
            self._diff.displaced = True  # by the entry's name its file is not found among the layer's own
        return found

    def _clear(self, error: NoWayError) -> None:
        """Put a directory in the place of what is in the way, or pass the error on."""
        above, _, base = error.where.rpartition(b"/")
        directory = self._tree.enter(above)
        status = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        if not self._style.is_whiteout(status) and (error.by_link or error.where in self._touched):
            raise error
        if self._tree.flush_pending is not None:
            self._tree.flush_pending()  # clearing closes directories
            directory = self._tree.enter(above)
        with self._tree.pinned(directory):
            self._replacer.clear(directory, base)
        made = self._tree.enter(error.where, create_mode=_IMPLIED_MODE)
        # What stood there has hidden what is below; a directory alone would show it again.
        self._style.opaque(made)
        self._touched.add(error.where)  # the layer's own now, and not what is below
