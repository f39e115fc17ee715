"""Application of one entry at a time to the tree: what each entry does there, and what it replaces or deletes.

This is the reference for `unpack.runs`, which makes many entries at once.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.whiteouts import AUFS_LINKS, NameKind, classify, whiteout_target
from layerstore_core.tree.remove import remove_tree
from layerstore_core.tree.root import Directory, Root
from layerstore_core.unpack.create import Creator
from layerstore_core.unpack.replace import Replacer
from layerstore_core.unpack.resolve import PathResolver
from layerstore_core.unpack.whiteout_style import WhiteoutStyle

if TYPE_CHECKING:
    from layerstore_core.unpack.break_links import LinkBreaker
    from layerstore_core.unpack.made_files import MadeFiles

_PLAIN: Final = NameKind.PLAIN
_MAKES_NOTHING: Final = (EntryType.GLOBAL, EntryType.VOLUME)


class Applier:
    """Applier of one layer's entries to a tree, in the order of the tar.

    `touched` of the layer has the paths that this layer has made; with a slash at the end, the directories below which
    it has made something; and with a NUL at the end, the links that were followed. Everything else in the tree is the
    parent's.

    Args:
        diff: the layer.
        tree: the tree.
        creator: makes the files.
        style: hides the parents' files that are not in the tree.
        breaker: separates files of the tree from other trees before they are changed; `None`: there is no need to.
        made: records the regular files; `None`: nobody asks for them.

    Attributes:
        made: the same.
        has_root_entry: whether the layer has an entry for its root.
        replacer: removes what is replaced.
        made_size: bytes of everything that was made, including what was replaced later.
    """

    def __init__(
        self,
        diff: LayerStream,
        tree: Root,
        creator: Creator,
        style: WhiteoutStyle,
        breaker: LinkBreaker | None,
        *,
        made: MadeFiles | None = None,
    ) -> None:
        self._diff = diff
        self._tree = tree
        self._creator = creator
        self._style = style
        self._breaker = breaker
        self.made = made
        self._touched = diff.touched
        #: The path of the parent of the last entry: the next one mostly goes there, too.
        self._last_parent: bytes | None = None
        #: Name of the directory that aufs's hard-linked files are kept in, once there is one.
        self._aufs_links: bytes | None = None
        self.has_root_entry = False
        self.replacer = Replacer(tree, diff)
        self._resolver = PathResolver(tree, diff, style, self.replacer)
        self.made_size = 0

    @property
    def size(self) -> int:
        """The layer's own size, in bytes."""
        return self.made_size - self.replacer.freed

    @property
    def breaks_links(self) -> bool:
        """Whether files of the tree may be names of files in other trees."""
        return self._breaker is not None

    def close(self) -> None:
        """Remove aufs's directory of hard links, if there was one."""
        if self._aufs_links is not None:
            directory, self._aufs_links = self._aufs_links, None
            aside = self._tree.enter(directory)
            for name in aside.names():
                status = os.stat(name, dir_fd=aside.fd, follow_symlinks=False)
                self.replacer.freed += self.replacer.size_of(status, aside.join(name))
            self._tree.forget(directory)
            remove_tree(directory, dir_fd=self._tree.enter(b"").fd)

    def apply(self, entry: TarEntry) -> None:
        """Apply the current entry of the layer: make a file, delete files, or do nothing."""
        if entry.type in _MAKES_NOTHING:
            return
        name = entry.path
        if leaves_root(name):
            raise InvalidLayer("its name leaves the layer's root")
        kind = classify(name)
        if kind is _PLAIN and not entry.is_whiteout_device:
            self.create(entry, name, self._diff.payload())
        elif kind is _PLAIN:
            if name:
                self._whiteout(name)
        elif kind is NameKind.WHITEOUT:
            self._whiteout(whiteout_target(name))
        elif kind is NameKind.OPAQUE:
            self._hide_all(name.rpartition(b"/")[0])
        elif kind is NameKind.AUFS_LINK and entry.type is EntryType.FILE:
            self._keep_aufs_link(entry, name)

    def create(self, entry: TarEntry, name: bytes, content: Iterator[memoryview], *, is_new: bool = False) -> None:
        """Make what an entry describes, and replace the file of its name.

        Args:
            entry: the entry.
            name: its path.
            content: its payload.
            is_new: `touched` has its path for this entry alone: nothing of this layer had the name before.
        """
        if not name:
            if entry.type is not EntryType.DIR:
                return  # nothing can replace the root; Docker, too, skips an entry without a name
            self._creator.apply_root_metadata(entry, self._tree.enter(b""))
            self.has_root_entry = True
            return
        directory, base = self._parent_of(name)
        with self._tree.pinned(directory):
            try:
                self._make(entry, content, directory, base)
            except FileExistsError:
                self.replacer.clear(directory, base, is_parents=is_new)
                try:
                    self._make(entry, content, directory, base)
                except FileExistsError as error:
                    # Copying the link's target from a parent layer has made this a directory again.
                    raise InvalidLayer(
                        f"a hard link to {os.fsdecode(entry.linkname)!r}, which is below what it replaces"
                    ) from error
                if entry.type is EntryType.DIR:
                    # What was there has hidden the parents' files below it. The new directory must hide them too.
                    self._style.opaque(self._tree.child(directory, base))
        self._touched.add(name)
        real = directory.join(base)
        if real != name:
            self._touched.add(real)
            if entry.type is EntryType.FILE:
                self.replacer.made_elsewhere(directory, base)

    def _make(self, entry: TarEntry, content: Iterator[memoryview], directory: Directory, base: bytes) -> None:
        """Make what an entry describes, in a pinned directory.

        Raises:
            FileExistsError: the name is taken.
        """
        if entry.type is EntryType.FILE:
            self._make_file(entry, content, directory, base)
        elif entry.type is EntryType.DIR:
            self._creator.directory(entry, directory, base)
        elif entry.type is EntryType.SYMLINK:
            self._creator.symlink(entry, directory, base)
            self.made_size += len(entry.linkname)
        elif entry.type is EntryType.HARDLINK:
            self._link(entry, directory, base)
        else:
            self._creator.special(entry, directory, base)

    def _make_file(self, entry: TarEntry, content: Iterator[memoryview], directory: Directory, base: bytes) -> None:
        if self.made is None:
            self._creator.file(entry, content, directory, base)
        else:
            from layerstore_core.unpack.made_files import hashed  # lazy: few drivers ask for digests

            digest = hashlib.sha256()
            self._creator.file(entry, hashed(content, digest), directory, base)
            self.made.add(directory.join(base), digest.digest() if entry.sparse is None else None)
        self.made_size += entry.size

    def _parent_of(self, name: bytes) -> tuple[Directory, bytes]:
        """Return the directory that an entry goes into, made if it is missing, and the entry's name in it."""
        parent, _, base = name.rpartition(b"/")
        return self.enter(parent), base

    def enter(self, parent: bytes) -> Directory:
        """Return the directory that entries go into, made if it is missing, and note that something is below it."""
        directory = self._resolver.enter(parent)
        if parent != self._last_parent:
            self._last_parent = parent
            self._touch_below(parent)
            if directory.path != parent:
                self._touch_below(directory.path)
        return directory

    def _touch_below(self, directory: bytes) -> None:
        """Note that this layer has written below a directory: as its name with a slash at the end."""
        while directory and self._touched.add(directory + b"/"):
            directory = directory.rpartition(b"/")[0]

    def _link(self, entry: TarEntry, directory: Directory, base: bytes) -> None:
        """Make a hard link; if its target is a parent layer's file outside the tree, copy it into the tree first."""
        target = clean_name(entry.linkname)
        if not target or leaves_root(target):
            raise InvalidLayer(f"a hard link to {os.fsdecode(entry.linkname)!r}, which is not in the layer")
        parent, _, source_base = target.rpartition(b"/")
        if target.startswith(AUFS_LINKS + b"/"):
            parent = self._aufs_links or parent
        try:
            self._link_to(entry, parent, source_base, directory, base)
        except FileNotFoundError as error:
            if target in self._creator.skipped:
                self._creator.skipped.add(directory.join(base))
                return
            above = self._resolver.resolve(parent)
            if above is None or not self._style.bring_up(
                self._tree, above + b"/" + source_base if above else source_base
            ):
                raise InvalidLayer(f"a hard link to {os.fsdecode(entry.linkname)!r}, which does not exist") from error
            self._link_to(entry, parent, source_base, directory, base)

    def _link_to(self, entry: TarEntry, parent: bytes, source_base: bytes, directory: Directory, base: bytes) -> None:
        """Make a hard link to a file in the tree.

        Raises:
            FileNotFoundError: there is no such file.
        """
        source = self._tree.enter(parent)
        status = os.stat(source_base, dir_fd=source.fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            raise InvalidLayer("a hard link to a directory")
        if self._style.is_whiteout(status):
            raise InvalidLayer(f"a hard link to {os.fsdecode(entry.linkname)!r}, which the layer has deleted")
        if source.join(source_base) not in self._touched:
            if self._breaker is not None:
                with self._tree.pinned(source):
                    status = self._breaker.separate(source, source_base)
            self.replacer.foreign.add(status.st_ino)
        if (source.path, source_base) == (directory.path, base):
            return  # the link is to itself, and exists already; GNU tar accepts this
        self._creator.hard_link(entry, source, source_base, directory, base)
        if self.made is not None:
            self.made.add_link(directory.join(base), source.join(source_base))

    def _whiteout(self, target: bytes) -> None:
        """Delete a file or directory, and hide the parents' one if it is not in the tree."""
        directory, base = self._parent_of(target)
        with self._tree.pinned(directory):
            try:
                self.replacer.clear(directory, base)
            except FileNotFoundError:
                pass  # a parent layer has deleted it already, or it never existed
            self._style.whiteout(directory, base)

    def _hide_all(self, directory: bytes) -> None:
        """Delete everything in a directory that does not come from this layer."""
        try:
            top = self._resolver.enter(directory).path
        except NotADirectoryError:
            return  # this layer has a file there, which hides the parents' files below it; Docker accepts this
        pending = [top]
        while pending:
            here = self._tree.enter(pending.pop())
            with self._tree.pinned(here):
                for name in here.names():
                    path = here.join(name)
                    is_directory = stat.S_ISDIR(os.stat(name, dir_fd=here.fd, follow_symlinks=False).st_mode)
                    if is_directory and (path + b"/" in self._touched or path in self._touched):
                        pending.append(path)
                    elif path not in self._touched:
                        self.replacer.clear(here, name)
        self._style.opaque(self._tree.enter(top))

    def _keep_aufs_link(self, entry: TarEntry, name: bytes) -> None:
        """Keep a file of aufs's directory of hard links in a directory of its own until the layer is complete."""
        root = self._tree.enter(b"")
        if self._aufs_links is None:
            self._aufs_links = b".wh..wh.layerstore-" + os.urandom(8).hex().encode()
            os.mkdir(self._aufs_links, 0o700, dir_fd=root.fd)
            self._touched.add(self._aufs_links)
        aside = self._tree.enter(self._aufs_links)
        base = name.rpartition(b"/")[2]
        try:
            status = os.stat(base, dir_fd=aside.fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            self.replacer.freed += self.replacer.size_of(status, aside.join(base))
            os.unlink(base, dir_fd=aside.fd)
        self._make_file(entry, self._diff.payload(), aside, base)
        self._touched.add(aside.join(base))
