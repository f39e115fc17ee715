"""Unpacking: a layer's tar becomes files, in a tree that has its parent's files.

The rules are Docker's (moby's `UnpackLayer`). An entry replaces the file of its name, except that a directory does not
replace a directory. A whiteout deletes. An opaque whiteout hides everything in its directory that does not come from
this layer, wherever in the tar it is. The times of directories are set last. Nothing is ever written outside the root.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Final, NoReturn

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.root import Root
from layerstore_core.unpack.apply import Applier
from layerstore_core.unpack.create import Creator
from layerstore_core.unpack.runs import EntryFailed, RunMaker
from layerstore_core.unpack.whiteout_style import WhiteoutStyle

if TYPE_CHECKING:
    from layerstore_core.unpack.break_links import LinkBreaker
    from layerstore_core.unpack.made_files import MadeFile, MadeFiles

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
    on_file: Callable[[MadeFile], object] | None = None,
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
        on_file: called for each regular file that the layer has made (a `layerstore_core.sdk.MadeFile`: path, digest,
            status, directory), so that a driver need not read it again. It is called when all entries are applied and
            all files have their metadata, in this thread, for one file after the other: once for each inode, with all
            of its names. It is not called for what a later entry has replaced or deleted, for a parent's file that the
            tar only links to, nor at all if the layer cannot be unpacked. It may replace the file (`MadeFile.replace`).
            What it raises ends the unpacking. It takes some 250 bytes of memory for each file.

    Returns:
        The layer's own size in bytes: the lengths of the regular files and symbolic links that it leaves.

    Raises:
        InvalidLayer: the tar is malformed, or an entry leaves the root or cannot be made.
        OSError: the file system refuses; the error names the path.
    """
    mapping = id_mapping or IDMapping()
    style = whiteouts or WhiteoutStyle()
    with Root(root, keep_times=True, owner_of_made=None if os.geteuid() else mapping.root_pair()) as tree:
        creator = Creator(tree, mapping, best_effort_xattrs)
        # Few drivers ask for either, and most layers are small.
        made: MadeFiles | None = None
        breaker: LinkBreaker | None = None
        if on_file:
            from layerstore_core.unpack.made_files import MadeFiles

            made = MadeFiles(tree, on_file)
        if break_links:
            from layerstore_core.unpack.break_links import LinkBreaker

            breaker = LinkBreaker(tree)
        applier = Applier(diff, tree, creator, style, breaker, made=made)
        try:
            _apply_entries(diff, tree, applier, creator)
            root_itself = [] if applier.has_root_entry else [b""]
            style.implied(chain(root_itself, (path for path in tree.made() if path not in diff.touched)))
        finally:
            applier.close()
            creator.report()
        if made is not None:
            made.report()
        return applier.size


def _apply_entries(diff: LayerStream, tree: Root, applier: Applier, creator: Creator) -> None:
    """Apply all entries. If several fail, raise the error of the first in the tar."""
    runs = RunMaker(tree, applier, creator, diff.touched)
    try:
        try:
            for entry in diff.entries_and_runs():
                if not isinstance(entry, TarEntry):
                    runs.add(entry)
                    continue
                runs.settle()
                try:
                    applier.apply(entry)
                except (InvalidLayer, OSError) as error:
                    raise EntryFailed(error, entry) from error
            runs.settle()
        except EntryFailed:
            raise
        except Exception:
            runs.settle()  # an error of what is still planned comes first in the tar
            raise
    except EntryFailed as failure:
        _fail(failure.error, failure.entry, tree)
    finally:
        runs.close()


def _fail(error: BaseException, entry: TarEntry, tree: Root) -> NoReturn:
    """Raise the error that an entry has met, with the entry's name."""
    if isinstance(error, InvalidLayer) and (error.offset is None or error.entry is None):
        raise InvalidLayer(error.reason, offset=entry.offset, entry=entry.name) from error
    if isinstance(error, OSError):
        reason = _LAYER_FAULTS.get(error.errno or 0)
        if reason is not None:
            raise InvalidLayer(reason, offset=entry.offset, entry=entry.name) from error
        error.add_note(f"while unpacking {os.fsdecode(entry.name)!r} into {os.fsdecode(tree.path)}")
    raise error
