"""Resolution of an entry's path to a directory: which links are followed, and what is replaced by a directory.

A link that leads to a directory is followed, whichever layer it comes from: so it is on systems that have merged
`/lib` into `/usr/lib`. Anything else on the path that comes from a parent layer is replaced by a directory, as in
Docker's overlay2 and umoci: a file of any type, or a link that leads to no directory. A file that this layer itself has
made stays, and an entry below it is refused. An entry is refused, too, if a link on its path leads to a file that is no
directory.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tree.root import MAX_LINKS, Directory, PathBlockedError, Root
from layerstore_core.unpack.replace import Replacer
from layerstore_core.unpack.whiteout_style import WhiteoutStyle

#: Docker's mode for directories that the tar needs but does not contain.
_IMPLIED_MODE: Final = 0o755
#: The size of a tar header in bytes, and the length from which a name needs a header of its own.
_HEADER: Final = 512
_SHORT: Final = 100


class PathResolver:
    """Resolver of the paths of one layer's entries.

    Args:
        tree: the tree that the layer is unpacked into.
        diff: the layer.
        style: finds the parent layers' files that are not in the tree.
        replacer: removes what a directory replaces.
    """

    def __init__(self, tree: Root, diff: LayerStream, style: WhiteoutStyle, replacer: Replacer) -> None:
        self._tree = tree
        self._diff = diff
        self._touched = diff.touched
        self._style = style
        self._replacer = replacer
        tree.below = self._below
        tree.on_make = self._count
        tree.on_follow = lambda path: diff.touched.add(path + b"\0")
        tree.may_follow = lambda path: path in self._touched or self.resolve(path) is not None

    def enter(self, path: bytes) -> Directory:
        """Return the directory at `path`, and make it if it is missing.

        Raises:
            NotADirectoryError: something on the path is no directory, and may not be replaced.
        """
        while True:
            try:
                return self._tree.enter(path, create_mode=_IMPLIED_MODE)
            except PathBlockedError as error:
                self._clear(error)

    def resolve(self, path: bytes) -> bytes | None:
        """Return the path, with links resolved, of the directory that `path` leads to; `None` if it leads to none.

        The directory may be in the tree or in a parent layer.
        """
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
        """Look a path up in the tree, or else in the parent layers, and return what `Root.below` would.

        All parents of `path` must be directories, not links.
        """
        above, _, base = path.rpartition(b"/")
        try:
            directory = self._tree.enter(above)
            mode = os.stat(base, dir_fd=directory.fd, follow_symlinks=False).st_mode
            return os.readlink(base, dir_fd=directory.fd) if stat.S_ISLNK(mode) else stat.S_ISDIR(mode)
        except FileNotFoundError:
            return self._style.below(self._tree, path)

    def _count(self, path: bytes) -> None:
        """Count a directory against the limit of the layer, as if it had an entry of its own."""
        size = _HEADER if len(path) < _SHORT else 3 * _HEADER + len(path)  # a longer name has a header of its own
        self._diff.count_implied(size)

    def _below(self, path: bytes) -> bytes | bool | None:
        """Look a path up in the parent layers, for `Root.below`."""
        found = self._style.below(self._tree, path)
        if isinstance(found, bytes):
            self._diff.displaced = True  # under the entry's name its file is not found in the layer's own directory
        return found

    def _clear(self, error: PathBlockedError) -> None:
        """Replace what is in the way by a directory; raise the error if it may not be replaced."""
        above, _, base = error.where.rpartition(b"/")
        directory = self._tree.enter(above)
        try:
            status = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:  # a link leads to a file of a parent layer, which is not in the tree
            raise error from None
        if not self._style.is_whiteout(status) and (error.by_link or error.where in self._touched):
            raise error
        with self._tree.pinned(directory):
            self._replacer.clear(directory, base)
        made = self._tree.enter(error.where, create_mode=_IMPLIED_MODE)
        # What was there has hidden the parents' files below this path. The new directory must hide them too.
        self._style.opaque(made)
        self._touched.add(error.where)  # it is the layer's own now, and no longer the parent's
