"""Mutants that lose content or metadata of a layer's files."""

from __future__ import annotations

import os
import shutil
import stat

from layerstore_core import hookimpl, remove_tree, unpack_layer
from tests.conformance.mutants.base import Mutant, unpack_into


class _AfterExtraction(Mutant):
    """The base of mutants that extract a tar correctly and then damage every file."""

    caught_in = "content"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        size = unpack_into(self, layer_id, diff)
        for where, directories, names in os.walk(os.fsencode(self.tree(layer_id)), topdown=False):
            for name in (*names, *directories):
                self.spoil(os.path.join(where, name))
        return size

    def spoil(self, path: bytes) -> None:
        raise NotImplementedError


class LosesAttributes(_AfterExtraction):
    """Extended attributes are lost."""

    def spoil(self, path):
        for name in os.listxattr(path, follow_symlinks=False):
            os.removexattr(path, name, follow_symlinks=False)


class LosesEmptyAttributes(_AfterExtraction):
    """Extended attributes without a value are lost, because the code tests the value's truth."""

    def spoil(self, path):
        for name in os.listxattr(path, follow_symlinks=False):
            if not os.getxattr(path, name, follow_symlinks=False):
                os.removexattr(path, name, follow_symlinks=False)


class LosesAttributesOfLinkedFiles(_AfterExtraction):
    """A hard-link entry without attributes removes those of its file."""

    def spoil(self, path):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            for name in os.listxattr(path):
                os.removexattr(path, name)


class LosesNanoseconds(_AfterExtraction):
    """Times are kept in whole seconds."""

    def spoil(self, path):
        status = os.lstat(path)
        second = status.st_mtime_ns // 1_000_000_000 * 1_000_000_000
        os.utime(path, ns=(status.st_atime_ns, second), follow_symlinks=False)


class LosesSetId(_AfterExtraction):
    """The set-ID bits are lost, as by a chown after the chmod."""

    def spoil(self, path):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode):
            os.chmod(path, stat.S_IMODE(mode) & 0o1777)


class LosesOwners(_AfterExtraction):
    """All files belong to root."""

    def spoil(self, path):
        status = os.lstat(path)
        os.chown(path, 0, 0, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(path, stat.S_IMODE(status.st_mode))


class SeparatesHardLinks(_AfterExtraction):
    """Each name of a hard-linked file becomes a separate file."""

    def spoil(self, path):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            shutil.copy2(path, path + b"~")
            os.replace(path + b"~", path)


class LosesNamesThatAreNotUtf8(_AfterExtraction):
    """Files whose names are not UTF-8 are lost."""

    def spoil(self, path):
        try:
            path.decode()
        except UnicodeDecodeError:
            if not os.path.isdir(path):
                os.unlink(path)


class SetsTimesOfDirectoriesToNow(_AfterExtraction):
    """Directories have the time at which they were extracted."""

    def spoil(self, path):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.utime(path)


class TidiesUpScratchFiles(Mutant):
    """`apply_diff` removes what looks like its own scratch files, also if the layer has them."""

    caught_in = "content"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        size = unpack_into(self, layer_id, diff)
        for path in self.tree(layer_id).rglob(".tmp-*"):
            path.unlink()
        return size


class RemovesByNameAnywhere(Mutant):
    """`remove` deletes all that has the layer's ID as its name, wherever it is in the driver's home."""

    caught_in = "content"

    @hookimpl
    def remove(self, layer_id):
        for path in [*self.home.rglob(layer_id)]:
            remove_tree(str(path))


class IgnoresTheMapping(Mutant):
    """`apply_diff` gives files the owners of the tar, whatever the ID mapping."""

    caught_in = "content"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        return unpack_layer(diff, str(self.tree(layer_id)))


class RootOwnsNewLayers(Mutant):
    """The root of a new base layer belongs to the host's root, whatever the ID mapping."""

    caught_in = "content"

    def fill(self, layer_id, parent_id):
        super().fill(layer_id, parent_id)
        if not parent_id:
            os.chown(self.tree(layer_id), os.geteuid(), os.getegid())
