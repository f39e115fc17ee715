"""Unpacking: a layer's tar becomes files, in a tree that has its parent's files.

The rules are Docker's (moby's `UnpackLayer`). An entry replaces the file of its name, except that a directory does not
replace a directory. A whiteout deletes. An opaque whiteout hides everything in its directory that does not come from
this layer, wherever in the tar it is. The times of directories are set last. Nothing is ever written outside the root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from itertools import chain
from typing import Final, NoReturn

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.plain_entries import PlainEntry, entry_of
from layerstore_core.tar.whiteouts import AUFS_LINKS, NameKind, classify, whiteout_target
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.remove import remove_tree
from layerstore_core.tree.root import Directory, Root
from layerstore_core.unpack.batches import FileFailed, FileWriters, PlannedFile
from layerstore_core.unpack.break_links import LinkBreaker
from layerstore_core.unpack.create import Creator, HowByOwner, mtime_to_set
from layerstore_core.unpack.replace import Replacer, join, names_in
from layerstore_core.unpack.resolve import PathResolver
from layerstore_core.unpack.whiteout_style import WhiteoutStyle

# Enum members, looked up once, because they are used for each file.
_FILE: Final = EntryType.FILE
_PLAIN: Final = NameKind.PLAIN
_MAKES_NOTHING: Final = (EntryType.GLOBAL, EntryType.VOLUME)
#: Errors of the file system that are caused by the layer's content, not by the machine, and the reasons to report.
_LAYER_FAULTS: Final = {
    errno.ENOTDIR: "something on its path is no directory",
    errno.EISDIR: "it would replace a directory",
    errno.ELOOP: "the symbolic links on its path form a loop",
    errno.ENAMETOOLONG: "a component of its name is too long",
    errno.EFBIG: "the file system cannot hold a file so large",
    errno.EILSEQ: "the file system does not allow its name",
}


def unpack_layer(
    diff: LayerStream,
    root: str,
    *,
    id_mapping: IDMapping | None = None,
    best_effort_xattrs: bool = False,
    whiteouts: WhiteoutStyle | None = None,
    break_links: bool = False,
) -> int:
    """Apply a layer's tar to the directory tree `root`.

    Args:
        diff: the tar.
        root: a directory with the parent's files, or an empty one.
        id_mapping: shifts the tar's user and group IDs.
        best_effort_xattrs: leave out, with a warning, attributes that the file system cannot store.
        whiteouts: how to hide the parents' files that are not in `root`; `None` if all of them are.
        break_links: files in `root` may be hard links to files elsewhere, such as the parent's. A file that the tar
            links to gets an inode of its own before its metadata changes. Content is never changed in place.

    Returns:
        The layer's own size in bytes: the lengths of the regular files and symbolic links that it leaves.

    Raises:
        InvalidLayer: the tar is malformed, or an entry leaves the root or cannot be made.
        OSError: the file system refuses; the error names the path.
    """
    mapping = id_mapping or IDMapping()
    with Root(root, keep_times=True, owner_of_made=None if os.geteuid() else mapping.root_pair()) as tree:
        creator = Creator(tree, mapping, best_effort_xattrs)
        breaker = LinkBreaker(tree) if break_links else None
        unpacker = _Unpacker(diff, tree, creator, whiteouts or WhiteoutStyle(), breaker)
        try:
            unpacker.run()
        finally:
            unpacker.close()
        return unpacker.size


class _Unpacker:
    """Unpacking of one layer: decides what each entry does, and in which order.

    Small files are pending in `_writers` until a batch is made. An operation that depends on them, such as a whiteout
    or a hard link to one of them, flushes them first. `_touched` has the paths that this layer has made, and, with a
    slash at the end, the directories below which it has made something: everything else in the tree is the parent's.
    """

    def __init__(
        self, diff: LayerStream, tree: Root, creator: Creator, whiteouts: WhiteoutStyle, breaker: LinkBreaker | None
    ) -> None:
        self._diff = diff
        self._tree = tree
        self._creator = creator
        self._style = whiteouts
        self._breaker = breaker
        self._touched = diff.touched
        self._writers = FileWriters(self._files_made, self._name_taken)
        tree.flush_pending = self._writers.flush
        #: Path and directory that the last entry went into: the next one mostly goes there, too.
        self._last_parent: bytes | None = None
        self._last_directory: Directory | None = None
        #: Name of the directory that aufs's hard-linked files are kept in, once there is one.
        self._aufs_links: bytes | None = None
        self._has_root_entry = False
        self._replacer = Replacer(tree, diff)
        self._resolver = PathResolver(tree, diff, whiteouts, self._replacer)
        #: Bytes of everything that was made, including what was replaced later.
        self._made_size = 0

    @property
    def size(self) -> int:
        """The layer's own size, in bytes."""
        return self._made_size - self._replacer.freed

    def run(self) -> None:
        """Apply all entries. If several fail, raise the error of the first in the tar."""
        try:
            for entry in self._diff.entries_and_batches():
                if isinstance(entry, list):
                    self._extract_batch(entry)
                    continue
                try:
                    self._apply(entry)
                except (InvalidLayer, OSError) as error:
                    self._fail(error, entry)
            self._writers.flush()
        except FileFailed as failure:
            self._fail(failure.error, failure.entry)
        except Exception:
            try:
                self._writers.flush()
            except FileFailed as earlier:  # it comes first in the tar
                self._fail(earlier.error, earlier.entry)
            raise
        finally:
            self._writers.stop()
        root = [] if self._has_root_entry else [b""]
        self._style.implied(chain(root, (path for path in self._tree.made() if path not in self._touched)))

    def _fail(self, error: BaseException, entry: TarEntry) -> NoReturn:
        """Raise the error that an entry has met, with the entry's name."""
        if isinstance(error, InvalidLayer) and (error.offset is None or error.entry is None):
            raise InvalidLayer(error.reason, offset=entry.offset, entry=entry.name) from error
        if isinstance(error, OSError):
            reason = _LAYER_FAULTS.get(error.errno or 0)
            if reason is not None:
                raise InvalidLayer(reason, offset=entry.offset, entry=entry.name) from error
            error.add_note(f"while unpacking {os.fsdecode(entry.name)!r} into {os.fsdecode(self._tree.path)}")
        raise error

    def close(self) -> None:
        """Remove aufs's directory of hard links, if there was one, and log what was left out."""
        if self._aufs_links is not None:
            directory, self._aufs_links = self._aufs_links, None
            aside = self._tree.enter(directory)
            for name in names_in(aside):
                status = os.stat(name, dir_fd=aside.fd, follow_symlinks=False)
                self._replacer.freed += self._replacer.size_of(status, join(aside, name))
            self._tree.forget(directory)
            remove_tree(directory, dir_fd=self._tree.enter(b"").fd)
        self._creator.report()

    def _apply(self, entry: TarEntry) -> None:
        """Apply one entry: make a file, delete files, or do nothing."""
        if entry.type in _MAKES_NOTHING:
            return
        name = entry.path
        if leaves_root(name):
            raise InvalidLayer("its name leaves the layer's root")
        kind = classify(name)
        if kind is _PLAIN and not entry.is_whiteout_device:
            self._extract(entry, name)
            return
        self._writers.flush()  # what is deleted may still be pending
        if kind is _PLAIN:
            if name:
                self._whiteout(name)
        elif kind is NameKind.WHITEOUT:
            self._whiteout(whiteout_target(name))
        elif kind is NameKind.OPAQUE:
            self._hide_all(name.rpartition(b"/")[0])
        elif kind is NameKind.AUFS_LINK and entry.type is EntryType.FILE:
            self._keep_aufs_link(entry, name)

    def _extract(self, entry: TarEntry, name: bytes) -> None:
        """Make what an entry describes: a small file in a batch, anything else at once."""
        content = self._diff.whole_payload()
        if content is None:
            self._create_entry(entry, name, self._diff.payload())
        elif not self._add_to_batch(entry, name, content):
            self._create_entry(entry, name, iter((content,)))

    def _add_to_batch(self, entry: TarEntry, name: bytes, content: memoryview) -> bool:
        """Add a file to the writers if it is plain and no pending file has its name; return whether it was added."""
        if entry.type is not _FILE or entry.sparse is not None or entry.xattrs or not name:
            return False
        parent, _, base = name.rpartition(b"/")
        directory = self._last_directory
        if parent != self._last_parent or directory is None or directory.fd < 0:
            directory, _ = self._parent_of(name)
        if directory.path != parent or base in directory.pending:
            return False
        how = self._creator.how_to_make((entry.mode, entry.uid, entry.gid), directory)
        if how is None:
            return False
        self._made_size += entry.size
        self._writers.add(directory, [(base, how, mtime_to_set(entry), content, entry, name)])
        return True

    def _extract_batch(self, entries: list[PlainEntry]) -> None:
        """Make plain directories, and add plain files to the writers.

        Entries whose names may be taken go the general way.
        """
        batch: list[PlannedFile] = []  # all in one directory
        directory: Directory | None = None
        parent: bytes | None = None
        known: HowByOwner = {}
        for plain in entries:
            _, _, path, owner, mtime_ns, content, _ = plain
            above, _, base = path.rpartition(b"/")
            if batch and (above != parent or content is None):
                assert directory is not None
                self._writers.add(directory, batch)
                batch = []
            try:
                if above != parent or directory is None or directory.fd < 0:
                    parent, directory = above, self._parent_of(path)[0]
                    known = self._creator.known_how_to_make(directory)
                if content is None:
                    made = self._extract_directory(plain, directory, base)
                    if made is not None:
                        parent, directory = path, made
                        known = self._creator.known_how_to_make(made)
                        continue
                how = known.get(owner) or self._creator.how_to_make(owner, directory)
                if how is None or content is None or directory.path != above or base in directory.pending:
                    if batch:
                        self._writers.add(directory, batch)
                        batch = []
                    self._create_entry(entry_of(plain), path, iter((content,) if content else ()))
                    parent = None  # the set of open directories may have changed
                    continue
            except (InvalidLayer, OSError) as error:
                if batch:
                    assert directory is not None
                    self._writers.add(directory, batch)  # these files come first in the tar
                self._fail(error, entry_of(plain))
            directory.pending.add(base)
            self._made_size += len(content)
            batch.append((base, how, mtime_ns, content, plain, path))
        if batch:
            assert directory is not None
            self._writers.add(directory, batch)

    def _extract_directory(self, plain: PlainEntry, directory: Directory, base: bytes) -> Directory | None:
        """Make a plain directory and open it; return `None`, and make nothing, if its name is or may be taken."""
        _, _, path, owner, mtime_ns, _, _ = plain
        if base in directory.pending or join(directory, base) != path:
            return None
        made = self._creator.new_directory(owner, mtime_ns, directory, base)
        if made is not None:
            self._touched.add(path)
            self._touched.add(path + b"/")  # most directories are not empty
            self._last_parent, self._last_directory = path, made
        return made

    def _files_made(self, files: list[PlannedFile]) -> None:
        """Note that files are this layer's own."""
        self._touched.update([path for *_, path in files])

    def _name_taken(self, file: PlannedFile) -> None:
        """Replace the file whose name has kept the writers from making another."""
        *_, content, source, path = file
        self._made_size -= len(content)
        self._create_entry(source if isinstance(source, TarEntry) else entry_of(source), path, iter((content,)))

    def _create_entry(self, entry: TarEntry, name: bytes, content: Iterator[memoryview]) -> None:
        """Make what an entry describes, and replace the file of its name."""
        if not name:
            if entry.type is not EntryType.DIR:
                return  # nothing can replace the root; Docker, too, skips an entry without a name
            self._writers.flush()
            self._creator.apply_root_metadata(entry, self._tree.enter(b""))
            self._has_root_entry = True
            return
        directory, base = self._parent_without_pending(name)
        if entry.type is EntryType.DIR:
            known = self._tree.opened(join(directory, base))
            if known is not None and known.pending:
                self._writers.flush()  # pending files are made by the metadata that the directory has had so far
                directory, base = self._parent_without_pending(name)
        try:
            self._make(entry, content, directory, base)
        except FileExistsError:
            self._writers.flush()  # clearing closes directories
            directory, base = self._parent_of(name)
            with self._tree.pinned(directory):
                self._replacer.clear(directory, base)
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
        real = join(directory, base)
        if real != name:
            self._touched.add(real)

    def _make(self, entry: TarEntry, content: Iterator[memoryview], directory: Directory, base: bytes) -> None:
        """Make what an entry describes.

        Raises:
            FileExistsError: the name is taken.
        """
        directory.pins += 1  # as `Root.pinned` does, but faster
        try:
            if entry.type is EntryType.FILE:
                self._creator.file(entry, content, directory, base)
                self._made_size += entry.size
            elif entry.type is EntryType.DIR:
                self._creator.directory(entry, directory, base)
            elif entry.type is EntryType.SYMLINK:
                self._creator.symlink(entry, directory, base)
                self._made_size += len(entry.linkname)
            elif entry.type is EntryType.HARDLINK:
                self._link(entry, directory, base)
            else:
                self._creator.special(entry, directory, base)
        finally:
            directory.pins -= 1

    def _parent_without_pending(self, name: bytes) -> tuple[Directory, bytes]:
        """Do what `_parent_of` does, and flush pending files if one has the name."""
        directory, base = self._parent_of(name)
        if base in directory.pending:
            self._writers.flush()
            directory, base = self._parent_of(name)
        return directory, base

    def _parent_of(self, name: bytes) -> tuple[Directory, bytes]:
        """Return the directory that an entry goes into, made if it is missing, and the entry's name in it."""
        parent, _, base = name.rpartition(b"/")
        directory = self._resolver.enter(parent)
        self._last_directory = directory
        if parent != self._last_parent:
            self._last_parent = parent
            self._touch_below(parent)
            if directory.path != parent:
                self._touch_below(directory.path)
        return directory, base

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
                self._creator.skipped.add(join(directory, base))
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
        if source_base in source.pending:
            self._writers.flush()
            source = self._tree.enter(parent)
        status = os.stat(source_base, dir_fd=source.fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            raise InvalidLayer("a hard link to a directory")
        if self._style.is_whiteout(status):
            raise InvalidLayer(f"a hard link to {os.fsdecode(entry.linkname)!r}, which the layer has deleted")
        if join(source, source_base) not in self._touched:
            if self._breaker is not None:
                self._writers.flush()  # the breaker looks for names in the whole tree
                source = self._tree.enter(parent)
                with self._tree.pinned(source):
                    status = self._breaker.separate(source, source_base)
            self._replacer.foreign.add(status.st_ino)
        if (source.path, source_base) == (directory.path, base):
            return  # the link is to itself, and exists already; GNU tar accepts this
        self._creator.hard_link(entry, source, source_base, directory, base)

    def _whiteout(self, target: bytes) -> None:
        """Delete a file or directory, and hide the parents' one if it is not in the tree."""
        directory, base = self._parent_of(target)
        with self._tree.pinned(directory):
            try:
                self._replacer.clear(directory, base)
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
                for name in names_in(here):
                    path = join(here, name)
                    is_directory = stat.S_ISDIR(os.stat(name, dir_fd=here.fd, follow_symlinks=False).st_mode)
                    if is_directory and (path + b"/" in self._touched or path in self._touched):
                        pending.append(path)
                    elif path not in self._touched:
                        self._replacer.clear(here, name)
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
            self._replacer.freed += self._replacer.size_of(status, join(aside, base))
            os.unlink(base, dir_fd=aside.fd)
        self._creator.file(entry, self._diff.payload(), aside, base)
        self._touched.add(join(aside, base))
        self._made_size += entry.size
