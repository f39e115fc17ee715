"""Mutants with wrong changes or diffs."""

from __future__ import annotations

import io
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from layerstore_core import ChangeKind, IterStream, TreeFiles, compare_trees, copy_tree, hookimpl, pack_changes
from layerstore_core.sdk import read_xattrs
from tests.conformance.mutants.base import Mutant, unpack_into


class ForgetsWhiteouts(Mutant):
    """`diff` leaves out deletions."""

    caught_in = "diffs"

    @hookimpl
    def diff(self, layer_id, parent_id):
        lower = self.tree(parent_id) if parent_id else None
        changes = [one for one in compare_trees(self.tree(layer_id), lower) if one.kind is not ChangeKind.DELETE]
        return io.BufferedReader(IterStream(pack_changes(self.tree(layer_id), changes)))


class LeavesOutSocketsOnly(Mutant):
    """`diff` treats a socket as no change, so the file that the socket has replaced comes back."""

    caught_in = "diffs"

    @hookimpl
    def diff(self, layer_id, parent_id):
        changes = compare_trees(self.tree(layer_id), self.tree(parent_id) if parent_id else None)
        sockets = [one for one in changes if stat.S_ISSOCK(self._mode(layer_id, one))]
        kept = [one for one in changes if one not in sockets]
        return io.BufferedReader(IterStream(pack_changes(self.tree(layer_id), kept)))

    def _mode(self, layer_id, change):
        path = os.fsencode(self.tree(layer_id)) + change.path
        return os.lstat(path).st_mode if change.kind is not ChangeKind.DELETE else 0


class ComparesTimeAndSizeOnly(Mutant):
    """`changes` overlooks a change that keeps size and time."""

    caught_in = "diffs"

    @hookimpl
    def changes(self, layer_id, parent_id):
        lower = self.tree(parent_id) if parent_id else None
        return [
            one for one in compare_trees(self.tree(layer_id), lower) if not self._looks_same(one, layer_id, parent_id)
        ]

    def _looks_same(self, change, layer_id, parent_id):
        if change.kind is not ChangeKind.MODIFY or not parent_id:
            return False
        path = os.fsdecode(change.path[1:])
        one, other = os.lstat(self.tree(layer_id) / path), os.lstat(self.tree(parent_id) / path)
        return stat.S_ISREG(one.st_mode) and (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


class ReturnsUnsortedChanges(Mutant):
    """`changes` is not sorted by path."""

    caught_in = "diffs"

    @hookimpl
    def changes(self, layer_id, parent_id):
        return compare_trees(self.tree(layer_id), self.tree(parent_id) if parent_id else None)[::-1]


class ReportsTimesOfDirectories(Mutant):
    """`changes` names a directory in which a file was created and deleted."""

    caught_in = "diffs"

    @hookimpl
    def changes(self, layer_id, parent_id):
        lower = self.tree(parent_id) if parent_id else None
        found = {one.path: one for one in compare_trees(self.tree(layer_id), lower)}
        if lower is not None:
            from layerstore_core import Change

            for name in os.listdir(self.tree(layer_id)):
                upper, below = self.tree(layer_id) / name, lower / name
                if upper.is_dir() and below.is_dir() and upper.stat().st_mtime_ns != below.stat().st_mtime_ns:
                    path = b"/" + os.fsencode(name)
                    found.setdefault(path, Change(path, ChangeKind.MODIFY))
        return [found[path] for path in sorted(found)]


class IgnoresOpaqueDirectories(Mutant):
    """`.wh..wh..opq` in a tar hides nothing."""

    caught_in = "diffs"

    @hookimpl
    def apply_diff(self, layer_id, parent_id, diff):
        tree = self.tree(layer_id)
        size = unpack_into(self, layer_id, diff)
        if parent_id:
            for where, _, names in os.walk(self.tree(parent_id)):
                here = tree / Path(where).relative_to(self.tree(parent_id))
                for name in names:
                    if here.is_dir() and not here.is_symlink() and not os.path.lexists(here / name):
                        shutil.copy2(Path(where) / name, here / name, follow_symlinks=False)
        return size


class DiffsAgainstItsParentOnly(Mutant):
    """`diff` against a layer that is not the parent is the whole tree."""

    caught_in = "diffs"

    def copy(self, source, target):
        copy_tree(source, target)
        self.parents = {**getattr(self, "parents", {}), target.name: source.name}

    @hookimpl
    def diff(self, layer_id, parent_id):
        direct = getattr(self, "parents", {}).get(layer_id) == parent_id
        lower = self.tree(parent_id) if parent_id and direct else None
        changes = compare_trees(self.tree(layer_id), lower)
        return io.BufferedReader(IterStream(pack_changes(self.tree(layer_id), changes)))


class KeepsDiffsOpen(Mutant):
    """Closing a diff does not close what it reads."""

    caught_in = "diffs"

    @hookimpl
    def diff(self, layer_id, parent_id):
        self.kept = [*getattr(self, "kept", []), os.open(self.tree(layer_id), os.O_RDONLY)]
        changes = compare_trees(self.tree(layer_id), self.tree(parent_id) if parent_id else None)
        return io.BufferedReader(IterStream(pack_changes(self.tree(layer_id), changes)))


class FollowsNamesOutOfTheLayer(Mutant):
    """`diff_getter` opens any name relative to the layer's directory, even with `..`."""

    caught_in = "diffs"

    @hookimpl
    def diff_getter(self, layer_id):
        tree = os.fsencode(self.tree(layer_id))

        class Files:
            def open(self, name):
                path = os.path.normpath(os.path.join(tree, name))
                return open(path if os.path.exists(path) else os.devnull, "rb")

            def close(self):
                pass

        return Files()


class OverlooksTheOwnerOfTheRoot(Mutant):
    """`changes` does not look at the owner of `/`."""

    caught_in = "diffs"

    @hookimpl
    def changes(self, layer_id, parent_id):
        tree = self.tree(layer_id)
        found = compare_trees(tree, self.tree(parent_id) if parent_id else None)
        if parent_id:
            own, other = tree.stat(), self.tree(parent_id).stat()
            if own.st_mode == other.st_mode and read_xattrs(tree) == read_xattrs(self.tree(parent_id)):
                found = [change for change in found if change.path != b"/"]
        return found

    @hookimpl
    def diff(self, layer_id, parent_id):
        chunks = pack_changes(self.tree(layer_id), self.changes(layer_id, parent_id))
        return io.BufferedReader(IterStream(chunks))


class ClosesADescriptorTwice(Mutant):
    """A second `close` of a `diff_getter` closes the same number again, which may be another file by then."""

    caught_in = "diffs"

    @hookimpl
    def diff_getter(self, layer_id):
        files = TreeFiles(str(self.tree(layer_id)))
        root = os.open(self.tree(layer_id), os.O_PATH)

        class Getter:
            open = staticmethod(files.open)

            def close(self):
                files.close()
                with suppress(OSError):
                    os.close(root)

        return Getter()
