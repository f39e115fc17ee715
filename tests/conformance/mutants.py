"""Deliberately broken drivers: small changes over a correct one, each with the group that has to catch it.

The base copies each parent, as the minimal example does, but with `layer_ids`, so that leftovers are seen. Every
mutant's docstring says what is wrong with it.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import ClassVar

from layerstore_core import (
    Capabilities,
    ChangeKind,
    ConfigError,
    IterStream,
    compare_trees,
    copy_tree,
    hookimpl,
    pack_changes,
    remove_tree,
    unpack_layer,
)


class Correct:
    """A driver that is right: what all mutants are made from."""

    driver_name = "mutant"

    def __init__(self, context) -> None:
        self.context = context
        self.home: Path = context.home

    def tree(self, layer_id) -> Path:
        return self.home / layer_id

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        if storage_opt:
            raise ConfigError(f"unknown options {sorted(storage_opt)}")
        if parent_id:
            os.stat(self.tree(parent_id))
        self.home.mkdir(mode=0o710, parents=True, exist_ok=True)
        self.tree(layer_id).mkdir()
        self.tree(layer_id).chmod(0o755)
        if parent_id:
            self.copy(self.tree(parent_id), self.tree(layer_id))

    def copy(self, source: Path, target: Path) -> None:
        copy_tree(source, target)

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        self.create(layer_id, parent_id, storage_opt)

    @hookimpl
    def remove(self, layer_id):
        remove_tree(str(self.tree(layer_id)))

    @hookimpl
    def get(self, layer_id):
        os.stat(self.tree(layer_id))
        return str(self.tree(layer_id))

    @hookimpl
    def put(self, layer_id):
        pass

    @hookimpl
    def exists(self, layer_id):
        return self.tree(layer_id).is_dir()

    @hookimpl
    def layer_ids(self):
        return sorted(os.listdir(self.home)) if self.home.is_dir() else []


class Mutant(Correct):
    """The base of those that are wrong.

    Attributes:
        caught_in: the group in which an author would look for the fault.
    """

    caught_in: ClassVar[str] = ""


def _unpack(self, layer_id, diff) -> int:
    return unpack_layer(diff, str(self.tree(layer_id)), id_mapping=self.context.id_mapping)


# Lifecycle


class TakesAKnownId(Mutant):
    """`create` of a known ID replaces the layer."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        self.remove(layer_id)
        Correct.create(self, layer_id, parent_id, storage_opt)


class TakesAnUnknownParent(Mutant):
    """A parent that is not there is taken for none."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id if self.exists(parent_id) else "", storage_opt)


class LeavesAFailedCreate(Mutant):
    """`create` makes the directory before it looks for the parent, and leaves it."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        self.home.mkdir(parents=True, exist_ok=True)
        self.tree(layer_id).mkdir()
        if parent_id:
            os.stat(self.tree(parent_id))
        self.tree(layer_id).rmdir()
        Correct.create(self, layer_id, parent_id, storage_opt)


class TakesAnyOption(Mutant):
    """Storage options that it does not know are passed over."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, {})


class RemovesByPrefix(Mutant):
    """`remove` takes along the layers whose IDs begin the same."""

    caught_in = "lifecycle"

    @hookimpl
    def remove(self, layer_id):
        for path in self.home.glob(f"{layer_id}*"):
            remove_tree(str(path))


class RemovesNothing(Mutant):
    """`remove` only makes a note."""

    caught_in = "lifecycle"

    def __init__(self, context) -> None:
        super().__init__(context)
        self.removed: set[str] = set()

    @hookimpl
    def remove(self, layer_id):
        self.removed.add(layer_id)

    @hookimpl
    def exists(self, layer_id):
        return layer_id not in self.removed and self.tree(layer_id).is_dir()

    @hookimpl
    def layer_ids(self):
        return sorted(set(Correct.layer_ids(self)) - self.removed)


class FailsOnASecondRemove(Mutant):
    """`remove` of what is not there raises."""

    caught_in = "lifecycle"

    @hookimpl
    def remove(self, layer_id):
        shutil.rmtree(self.tree(layer_id))


class LeaksAMount(Mutant):
    """`get` mounts, and `put` forgets to unmount."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        tree = self.tree(layer_id)
        os.stat(tree)
        if not os.path.ismount(tree):
            subprocess.run(["mount", "--bind", tree, tree], check=True)
        return str(tree)

    @hookimpl
    def remove(self, layer_id):
        subprocess.run(["umount", self.tree(layer_id)], check=False, capture_output=True)
        remove_tree(str(self.tree(layer_id)))


class MountsAgain(Mutant):
    """`get` mounts over what is mounted already, and `put` takes one mount away."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        tree = self.tree(layer_id)
        os.stat(tree)
        subprocess.run(["mount", "--bind", tree, tree], check=True)
        return str(tree)

    @hookimpl
    def put(self, layer_id):
        if os.path.ismount(self.tree(layer_id)):
            subprocess.run(["umount", self.tree(layer_id)], check=True)

    @hookimpl
    def remove(self, layer_id):
        while os.path.ismount(self.tree(layer_id)):
            subprocess.run(["umount", self.tree(layer_id)], check=True)
        remove_tree(str(self.tree(layer_id)))


class LeaksADescriptor(Mutant):
    """`get` opens the tree, and `put` does not close it."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        self.last = open(self.tree(layer_id) / ".", "rb", opener=lambda path, _: os.open(path, os.O_PATH))  # noqa: SIM115
        return str(self.tree(layer_id))


class GivesARelativePath(Mutant):
    """`get` returns a path relative to the working directory."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        return os.path.relpath(Correct.get(self, layer_id))


class ObeysTheUmask(Mutant):
    """The mode of a base layer's root is what the umask leaves."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        umask = os.umask(0)
        os.umask(umask)
        self.tree(layer_id).chmod(0o777 & ~umask)


class WritesBesideItsHome(Mutant):
    """It keeps an index beside its home."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        (self.home.parent / "index").write_text(layer_id)


# Content


class _AfterUnpacking(Mutant):
    """Unpacks, and then does something to every file."""

    caught_in = "content"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        size = _unpack(self, layer_id, diff)
        for where, directories, names in os.walk(os.fsencode(self.tree(layer_id)), topdown=False):
            for name in (*names, *directories):
                self.spoil(os.path.join(where, name))
        return size

    def spoil(self, path: bytes) -> None:
        raise NotImplementedError


class LosesAttributes(_AfterUnpacking):
    """Extended attributes are lost."""

    def spoil(self, path):
        for name in os.listxattr(path, follow_symlinks=False):
            os.removexattr(path, name, follow_symlinks=False)


class LosesNanoseconds(_AfterUnpacking):
    """Times are kept to the second."""

    def spoil(self, path):
        status = os.lstat(path)
        second = status.st_mtime_ns // 1_000_000_000 * 1_000_000_000
        os.utime(path, ns=(status.st_atime_ns, second), follow_symlinks=False)


class LosesSetId(_AfterUnpacking):
    """The set-ID bits are lost, as by a chown after the chmod."""

    def spoil(self, path):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode):
            os.chmod(path, stat.S_IMODE(mode) & 0o1777)


class LosesOwners(_AfterUnpacking):
    """Everything belongs to root."""

    def spoil(self, path):
        status = os.lstat(path)
        os.chown(path, 0, 0, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(path, stat.S_IMODE(status.st_mode))


class SeparatesHardLinks(_AfterUnpacking):
    """Each name of a file becomes a file of its own."""

    def spoil(self, path):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            shutil.copy2(path, path + b"~")
            os.replace(path + b"~", path)


class LosesNamesThatAreNoText(_AfterUnpacking):
    """Files are lost whose names are not UTF-8."""

    def spoil(self, path):
        try:
            path.decode()
        except UnicodeDecodeError:
            if not os.path.isdir(path):
                os.unlink(path)


class TimesOfDirectoriesAreNow(_AfterUnpacking):
    """Directories have the time at which they were unpacked."""

    def spoil(self, path):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.utime(path)


# Snapshots


class SharesHardLinksWithTheParent(Mutant):
    """A child's files are hard links to the parent's: what is written shows in both."""

    caught_in = "snapshots"

    def copy(self, source, target):
        for where, directories, names in os.walk(source):
            here = target / Path(where).relative_to(source)
            for name in directories:
                if not (Path(where) / name).is_symlink():
                    (here / name).mkdir()
            for name in names:
                os.link(Path(where) / name, here / name, follow_symlinks=False)


class ChildrenAreTheParent(Mutant):
    """A child is its parent's own tree."""

    caught_in = "snapshots"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        if not parent_id:
            Correct.create(self, layer_id, parent_id, storage_opt)
            return
        os.stat(self.tree(parent_id))
        os.symlink(os.path.realpath(self.tree(parent_id)), self.tree(layer_id))


class ForgetsEmptyDirectories(Mutant):
    """A copy of a parent lacks its empty directories."""

    caught_in = "snapshots"

    def copy(self, source, target):
        copy_tree(source, target)
        for where, directories, names in os.walk(target, topdown=False):
            if not directories and not names and where != str(target):
                os.rmdir(where)


class RemovesTheParent(Mutant):
    """`remove` of a child takes its parent along."""

    caught_in = "snapshots"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        self.parents = {**getattr(self, "parents", {}), layer_id: parent_id}

    @hookimpl
    def remove(self, layer_id):
        remove_tree(str(self.tree(layer_id)))
        if parent := getattr(self, "parents", {}).get(layer_id):
            remove_tree(str(self.tree(parent)))


# Diffs


class ForgetsWhiteouts(Mutant):
    """`diff` leaves out what was deleted."""

    caught_in = "diffs"

    @hookimpl
    def diff(self, layer_id, parent_id):
        lower = self.tree(parent_id) if parent_id else None
        changes = [one for one in compare_trees(self.tree(layer_id), lower) if one.kind is not ChangeKind.DELETE]
        return io.BufferedReader(IterStream(pack_changes(self.tree(layer_id), changes)))


class ComparesTimeAndSizeOnly(Mutant):
    """A change that keeps size and time is overlooked."""

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


class ChangesAreUnsorted(Mutant):
    """`changes` is in another order than that of the paths."""

    caught_in = "diffs"

    @hookimpl
    def changes(self, layer_id, parent_id):
        return compare_trees(self.tree(layer_id), self.tree(parent_id) if parent_id else None)[::-1]


class ReportsTimesOfDirectories(Mutant):
    """A directory in which a file came and went counts as changed."""

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
        size = _unpack(self, layer_id, diff)
        if parent_id:
            for where, _, names in os.walk(self.tree(parent_id)):
                here = tree / Path(where).relative_to(self.tree(parent_id))
                for name in names:
                    if here.is_dir() and not here.is_symlink() and not os.path.lexists(here / name):
                        shutil.copy2(Path(where) / name, here / name, follow_symlinks=False)
        return size


class DiffsAgainstItsParentOnly(Mutant):
    """`diff` against any other layer is that against nothing."""

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
    """`diff_getter` opens any name below the layer's directory, `..` and all."""

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


# Sizes


class CountsTheTar(Mutant):
    """The size of a layer is that of its tar."""

    caught_in = "sizes"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        data = diff.read()
        self._apply(layer_id, data)
        return len(data)

    def _apply(self, layer_id, data):
        from layerstore_core.conformance.bench import stream_of

        return _unpack(self, layer_id, stream_of(data))


class CountsHardLinksTwice(Mutant):
    """`diff_size` counts each name of a file."""

    caught_in = "sizes"

    @hookimpl
    def diff_size(self, layer_id, parent_id):
        total = 0
        for change in compare_trees(self.tree(layer_id), self.tree(parent_id) if parent_id else None):
            path = os.fsencode(self.tree(layer_id)) + change.path
            if change.kind is not ChangeKind.DELETE and os.path.isfile(path) and not os.path.islink(path):
                total += os.path.getsize(path)
        return total


class CountsTheWholeTree(Mutant):
    """The size of a layer counts its parents' files, too."""

    caught_in = "sizes"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        _unpack(self, layer_id, diff)
        files = (path for path in self.tree(layer_id).rglob("*") if path.is_file() and not path.is_symlink())
        return sum({path.stat().st_ino: path.stat().st_size for path in files}.values())


# Streams


class ReturnsBeforeDataIsThere(Mutant):
    """`apply_diff` unpacks in a thread, and does not wait for it."""

    caught_in = "streams"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        from layerstore_core.conformance.bench import stream_of

        data = diff.read()

        def unpack():
            try:
                _unpack(self, layer_id, stream_of(data))
            except Exception:
                pass  # the layer was removed meanwhile

        threading.Timer(0.05, unpack).start()
        stream = stream_of(data)
        return sum(entry.size for entry in stream.entries() if entry.type.value == "file")


class SwallowsErrors(Mutant):
    """A tar that is damaged is unpacked as far as it goes."""

    caught_in = "streams"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        try:
            return _unpack(self, layer_id, diff)
        except Exception:
            return 0


class ReadsShort(Mutant):
    """It takes one read for all there is."""

    caught_in = "streams"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        from layerstore_core.conformance.bench import stream_of

        size = _unpack(self, layer_id, stream_of(diff.read(4096).ljust(10240, b"\0")))
        diff.drain()
        return size


class SpoilsFilesLater(Mutant):
    """A file's content changes after it was unpacked: exports are not exact."""

    caught_in = "streams"

    @hookimpl
    def diff_getter(self, layer_id):
        for path in self.tree(layer_id).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size:
                with open(path, "r+b") as stream:
                    stream.write(b"\xff")
                break


# Restart


class BreaksOnReopen(Mutant):
    """It empties its home when it starts."""

    caught_in = "restart"

    def __init__(self, context) -> None:
        super().__init__(context)
        remove_tree(str(self.home))


class RemembersInMemory(Mutant):
    """Which layers there are is known to one instance alone."""

    caught_in = "restart"

    def __init__(self, context) -> None:
        super().__init__(context)
        self.known: set[str] = set()

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        self.known.add(layer_id)

    @hookimpl
    def remove(self, layer_id):
        Correct.remove(self, layer_id)
        self.known.discard(layer_id)

    @hookimpl
    def exists(self, layer_id):
        return layer_id in self.known


class UnmountsItsOwnOnly(Mutant):
    """`put` unmounts what this instance has mounted, and nothing else."""

    caught_in = "restart"

    def __init__(self, context) -> None:
        super().__init__(context)
        self.mounted: set[str] = set()

    @hookimpl
    def get(self, layer_id):
        tree = self.tree(layer_id)
        os.stat(tree)
        if not os.path.ismount(tree):
            subprocess.run(["mount", "--bind", tree, tree], check=True)
            self.mounted.add(layer_id)
        return str(tree)

    @hookimpl
    def put(self, layer_id):
        if layer_id in self.mounted:
            self.mounted.discard(layer_id)
            subprocess.run(["umount", self.tree(layer_id)], check=True)

    @hookimpl
    def remove(self, layer_id):
        while os.path.ismount(self.tree(layer_id)):
            subprocess.run(["umount", self.tree(layer_id)], check=True)
        remove_tree(str(self.tree(layer_id)))


# Concurrency


class UnpacksInOnePlace(Mutant):
    """Layers are unpacked in one scratch directory, which is then renamed."""

    caught_in = "concurrency"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        from layerstore_core.conformance.bench import stream_of

        data = diff.read()
        scratch = self.context.home.parent / "layerstore" / "scratch"
        if scratch.exists():
            remove_tree(str(scratch))
        copy = scratch
        copy.mkdir()
        copy_tree(self.tree(layer_id), copy)
        size = unpack_layer(stream_of(data), str(copy))
        remove_tree(str(self.tree(layer_id)))
        os.rename(copy, self.tree(layer_id))
        return size


class ShowsOneLayerAtATime(Mutant):
    """`get` gives every layer the same path, a link that is bent to the layer which was asked for last."""

    caught_in = "concurrency"

    @hookimpl
    def get(self, layer_id):
        used = self.home.parent / "layerstore" / "in-use"
        while used.is_symlink():
            used.unlink(missing_ok=True)
        os.stat(self.tree(layer_id))
        used.symlink_to(self.tree(layer_id))
        return str(used)


# Faults


class LeavesALog(Mutant):
    """`create` writes a log beside the layer, which `remove` leaves, and which counts as a layer."""

    caught_in = "faults"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        (self.home / f"{layer_id}-log").write_text("made")

    @hookimpl
    def exists(self, layer_id):
        return self.tree(layer_id).is_dir()

    @hookimpl
    def remove(self, layer_id):
        remove_tree(str(self.tree(layer_id)))


class ForgetsWhatWasMadeLast(Mutant):
    """A layer is written down only with the next one: a crash loses it."""

    caught_in = "faults"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        journal = self.home.parent / "layerstore" / "last"
        self.last = layer_id
        journal.parent.mkdir(exist_ok=True)
        journal.write_text(layer_id)

    def __init__(self, context) -> None:
        super().__init__(context)
        journal = self.home.parent / "layerstore" / "last"
        if journal.exists():
            remove_tree(str(self.tree(journal.read_text())))
            journal.unlink()


# Limits


class ForgetsDeepParents(Mutant):
    """A chain of more than 50 layers loses files of its base."""

    caught_in = "limits"

    def copy(self, source, target):
        copy_tree(source, target)
        depth = (
            int((self.home.parent / "layerstore" / f"depth-{source.name}").read_text()) if self._depth(source) else 0
        )
        self._note(target, depth + 1)
        if depth > 50:
            (target / "of-the-base").unlink(missing_ok=True)

    def _depth(self, tree):
        return (self.home.parent / "layerstore" / f"depth-{tree.name}").exists()

    def _note(self, tree, depth):
        (self.home.parent / "layerstore" / f"depth-{tree.name}").write_text(str(depth))


class ManglesLongNames(Mutant):
    """Names are cut off after 200 bytes when a parent is copied."""

    caught_in = "limits"

    def copy(self, source, target):
        copy_tree(source, target)
        for where, _, names in os.walk(target):
            for name in names:
                if len(os.fsencode(name)) > 200:
                    os.rename(os.path.join(where, name), os.path.join(where, name[:200]))


# Capabilities


class LiesAboutExactDiffs(Mutant):
    """It declares `reproduces_exact_diffs`, and packs its files."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(reproduces_exact_diffs=True)


class LiesAboutParallelApply(Mutant):
    """It declares `parallel_apply`, and copies the parent when the child is made."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(parallel_apply=True)


class LiesAboutQuota(Mutant):
    """It declares `quota`, and takes a size without effect."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(quota=True)

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        self.create(layer_id, parent_id, {})


class ChangesItsMind(Mutant):
    """It declares something else each time."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        self.asked = getattr(self, "asked", 0) + 1
        return Capabilities(max_depth=100 + self.asked)


# The model


class LosesOneOfTwo(Mutant):
    """A child loses the file b of a parent that has a file a, too."""

    caught_in = "model"

    def copy(self, source, target):
        copy_tree(source, target)
        if os.path.lexists(target / "a") and (target / "b").is_file():
            (target / "b").unlink()


MUTANTS: dict[str, type[Mutant]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, Mutant) and value is not Mutant and not name.startswith("_")
}
