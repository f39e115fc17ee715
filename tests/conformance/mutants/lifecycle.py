"""Mutants that create, mount or remove layers wrongly."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from typing import ClassVar

from layerstore_core import hookimpl, remove_tree
from tests.conformance.mutants.base import Correct, Mounting, Mutant
from tests.conformance.mutants.watching import WatchedTree


class AcceptsAKnownId(Mutant):
    """`create` of a known ID replaces the layer."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        self.remove(layer_id)
        Correct.create(self, layer_id, parent_id, storage_opt)


class AcceptsAnUnknownParent(Mutant):
    """`create` with an unknown parent creates a base layer."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id if self.exists(parent_id) else "", storage_opt)


class LeavesAFailedCreate(Mutant):
    """`create` makes the directory before it looks for the parent, and leaves the directory behind."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        self.home.mkdir(parents=True, exist_ok=True)
        self.tree(layer_id).mkdir()
        if parent_id:
            os.stat(self.tree(parent_id))
        self.tree(layer_id).rmdir()
        Correct.create(self, layer_id, parent_id, storage_opt)


class AcceptsAnyOption(Mutant):
    """`create` ignores unknown storage options."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, {})


class RemovesByPrefix(Mutant):
    """`remove` also removes layers whose IDs begin with the given ID."""

    caught_in = "lifecycle"

    @hookimpl
    def remove(self, layer_id):
        for path in self.home.glob(f"{layer_id}*"):
            remove_tree(str(path))


class RemovesNothing(Mutant):
    """`remove` only notes the ID in memory."""

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
    """`remove` of a missing layer raises."""

    caught_in = "lifecycle"

    @hookimpl
    def remove(self, layer_id):
        shutil.rmtree(self.tree(layer_id))


class LeaksAMount(Mounting):
    """`get` mounts, but `put` does not unmount."""

    caught_in = "lifecycle"

    @hookimpl
    def remove(self, layer_id):
        subprocess.run(["umount", self.tree(layer_id)], check=False, capture_output=True)
        remove_tree(str(self.tree(layer_id)))


class MountsAgain(Mounting):
    """`get` mounts over an existing mount, and `put` removes one mount only."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        tree = self.tree(layer_id)
        os.stat(tree)
        self.mount(layer_id)
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


class ReturnsARelativePath(Mutant):
    """`get` returns a path relative to the working directory."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        return os.path.relpath(Correct.get(self, layer_id))


class ObeysTheUmask(Mutant):
    """The mode of a base layer's root depends on the umask."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        umask = os.umask(0)
        os.umask(umask)
        self.tree(layer_id).chmod(0o777 & ~umask)


class WritesOutsideItsHome(Mutant):
    """The driver keeps an index outside its home."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        (self.home.parent / "index").write_text(layer_id)


class _Noting(Mutant):
    """The base of mutants that have files of their own next to the layers."""

    @hookimpl
    def layer_ids(self):
        return [name for name in Correct.layer_ids(self) if not name.startswith(".")]


class KeepsAnIndex(_Noting):
    """Each layer gets a line in an index, and keeps it when it is removed."""

    caught_in = "lifecycle"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        with open(self.home / ".index", "a") as index:
            index.write(f"{layer_id} {parent_id}\n")


class NotesEachCleanup(_Noting):
    """`cleanup` notes the time of each run in a new file."""

    caught_in = "lifecycle"

    @hookimpl
    def cleanup(self):
        if self.home.is_dir():
            (self.home / f".cleaned-{time.monotonic_ns()}").touch()


class LeavesAProcess(Mutant):
    """`get` starts a process for the layer, and `put` does not end it."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        path = Correct.get(self, layer_id)
        if not getattr(self, "has_helper", False):
            self.has_helper = True
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(["setsid", "--fork", "sleep", "15"], check=True, **streams)
        return path


class RemembersPathsForAllRoots(Mutant):
    """The paths of layers are remembered by ID in an attribute of the class, which all instances share."""

    caught_in = "lifecycle"

    paths: ClassVar[dict] = {}

    def tree(self, layer_id):
        path = self.paths.get(layer_id)
        return path if path and path.is_dir() else self.home / layer_id

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        if self.tree(layer_id).is_dir() and self.tree(layer_id).parent == self.home:
            raise FileExistsError(layer_id)
        self.paths.pop(layer_id, None)
        Correct.create(self, layer_id, parent_id, storage_opt)
        self.paths[layer_id] = self.home / layer_id


class IgnoresTheLabel(Mutant):
    """A mount label has no effect, and is no error."""

    caught_in = "lifecycle"

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        self.create(layer_id, parent_id, storage_opt)

    @hookimpl
    def get(self, layer_id, mount_label):
        return Correct.get(self, layer_id)


class IgnoresTheLabelOfAMount(Mutant):
    """A mount label is refused where the layer is created, and has no effect where it is mounted."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id, mount_label):
        return Correct.get(self, layer_id)


class LosesFilesThatHadNoName(Mutant):
    """`put` keeps the new files that it has seen being written under their names, and loses those written before."""

    caught_in = "lifecycle"

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        super().create_read_write(layer_id, parent_id, mount_label, storage_opt)
        self.writable = {*getattr(self, "writable", ()), layer_id}

    @hookimpl
    def get(self, layer_id):
        path = Correct.get(self, layer_id)
        if layer_id in getattr(self, "writable", ()):
            watched = self.__dict__.setdefault("watched", {})
            if layer_id not in watched:
                watched[layer_id] = WatchedTree(self.tree(layer_id))
        return path

    @hookimpl
    def put(self, layer_id):
        watch = self.__dict__.setdefault("watched", {}).pop(layer_id, None)
        for file in watch.end() if watch is not None else ():
            file.unlink()

    @hookimpl
    def remove(self, layer_id):
        self.put(layer_id)
        Correct.remove(self, layer_id)


class RoundsTimesOnPut(Mutant):
    """`put` copies a writable layer back from where it was used, and loses the fractions of seconds."""

    caught_in = "lifecycle"

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        super().create_read_write(layer_id, parent_id, mount_label, storage_opt)
        self.writable = {*getattr(self, "writable", ()), layer_id}

    @hookimpl
    def put(self, layer_id):
        for path in self.tree(layer_id).rglob("*") if layer_id in getattr(self, "writable", ()) else ():
            before, after = path.lstat(), path.lstat().st_mtime_ns // 10**9 * 10**9
            os.utime(path, ns=(before.st_atime_ns, after), follow_symlinks=False)


class LocksTheTree(Mutant):
    """`get` marks a layer as used by a lock on its root, which programs in the layer can then not lock."""

    caught_in = "lifecycle"

    @hookimpl
    def get(self, layer_id):
        path = Correct.get(self, layer_id)
        used = self.__dict__.setdefault("used", {})
        if layer_id not in used:
            used[layer_id] = os.open(path, os.O_RDONLY)
            fcntl.flock(used[layer_id], fcntl.LOCK_SH)
        return path

    @hookimpl
    def put(self, layer_id):
        lock = self.__dict__.setdefault("used", {}).pop(layer_id, None)
        if lock is not None:
            os.close(lock)

    @hookimpl
    def remove(self, layer_id):
        self.put(layer_id)
        Correct.remove(self, layer_id)


class FindsDamageInASoundHome(Mutant):
    """`check_home` misses layers that were removed."""

    caught_in = "lifecycle"

    def __init__(self, context):
        super().__init__(context)
        self.known = set()

    def fill(self, layer_id, parent_id):
        Correct.fill(self, layer_id, parent_id)
        self.known.add(layer_id)

    @hookimpl
    def check_home(self):
        return [f"layer {layer_id} is missing" for layer_id in sorted(self.known) if not self.exists(layer_id)]


class RepairsASoundHome(Mutant):
    """`repair_home` empties the home, and says nothing."""

    caught_in = "lifecycle"

    @hookimpl
    def repair_home(self):
        for name in os.listdir(self.home):
            shutil.rmtree(self.home / name)
        return []
