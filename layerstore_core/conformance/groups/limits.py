"""Group "limits": long chains, many layers, many files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import ClassVar, Final

from layerstore_core.config.settings import DOCKER_MAX_DEPTH
from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import directory, file, whiteout
from layerstore_core.conformance.trees import must_be, names_of

_MANY_FILES: Final = 1500
_MANY_CHILDREN: Final = 60
#: ext4 gives a file 65,000 names.
_MOST_NAMES: Final = 70_000


class LimitTests(ConformanceTests):
    """Tests of the greatest lengths and numbers."""

    group: ClassVar = "limits"

    def test_a_deep_chain(self, bench: DriverRig) -> None:
        """A chain of `max_depth` layers can be mounted, changed, compared and removed.

        Otherwise the longest images fail when they are started, not when they are pulled. The chain has 125 layers if
        the driver declares no `max_depth`, and a writable layer with its init layer in addition.
        """
        depth = bench.driver.capabilities.max_depth or DOCKER_MAX_DEPTH
        layers = [bench.layer([file(b"of-the-base", b"0"), file(b"deleted-half-way", b"0"), file(b"top", b"0")])]
        for number in range(1, depth):
            items = [file(b"top", b"%d" % number)]
            if number % 10 == 0:
                items.append(file(b"every-tenth-%d" % number, b"x"))
            if number == depth // 2:
                items.append(whiteout(b"deleted-half-way"))
            layers.append(bench.layer(items, layers[-1]))
        init = bench.writable(layers[-1], layer_id=bench.new_id("-init"))
        layer = bench.writable(init)
        with bench.driver.mounted(layer) as path:
            assert Path(path, "of-the-base").read_text() == "0"
            assert Path(path, "top").read_text() == str(depth - 1)
            assert not Path(path, "deleted-half-way").exists()
            assert len(os.listdir(path)) == 2 + (depth - 1) // 10
            Path(path, "written").write_text("in the writable layer")
            Path(path, "of-the-base").unlink()
        assert [str(one) for one in bench.driver.changes(layer, init)] == ["D /of-the-base", "A /written"]
        copy = bench.layer(bench.diff(layers[-1], layers[0]), layers[0])
        must_be(bench.tree(copy), bench.tree(layers[-1]), "the diff over the whole chain", root=False)
        for one in (layer, init, *reversed(layers)):
            bench.driver.remove(one)
            assert not bench.driver.exists(one)

    def test_many_files(self, bench: DriverRig) -> None:
        """A layer of many files shows and compares all of them.

        Otherwise an image with a large package directory lacks some of it.
        """
        items = [directory(b"d"), *(file(b"d/%06d" % number, b"%d" % number) for number in range(_MANY_FILES))]
        base = bench.layer(items)
        layer = bench.writable(base)
        with bench.driver.mounted(layer) as path:
            assert len(os.listdir(os.path.join(path, "d"))) == _MANY_FILES
            for number in range(0, _MANY_FILES, 3):
                os.unlink(os.path.join(path, "d", f"{number:06d}"))
        changes = bench.driver.changes(layer, base)
        assert len(changes) == _MANY_FILES // 3 + 1
        copy = bench.layer(bench.diff(layer, base), base)
        assert names_of(bench.tree(copy)) == names_of(bench.tree(layer))

    def test_many_children(self, bench: DriverRig) -> None:
        """One parent may have any number of children, all of them mounted at once.

        Otherwise a machine can run only a limited number of containers of one image.
        """
        base = bench.layer([file(b"shared", b"s")])
        children = [bench.writable(base) for _ in range(_MANY_CHILDREN)]
        paths = [bench.driver.get(child) for child in children]
        for number, path in enumerate(paths):
            Path(path, "own").write_text(str(number))
        assert [Path(path, "own").read_text() for path in paths] == [str(number) for number in range(_MANY_CHILDREN)]
        for child in children:
            bench.driver.put(child)
        assert not bench.mounts()

    def test_content_at_its_limit_of_names(self, bench: DriverRig) -> None:
        """A file can be in any number of layers, also in more than a file of the file system can have names (EMLINK).

        Otherwise a driver that keeps each content once fails with the file that all images have: the empty one. It has
        to begin another copy.
        """
        items = [file(b"common", b"in every image"), file(b"own", b"x")]
        layers = [bench.layer(items), bench.layer(items)]
        with bench.driver.mounted(layers[0]) as path, bench.driver.mounted(layers[1]) as other:
            status, second = (os.stat(os.path.join(where, "common")) for where in (path, other))
            if status.st_nlink == 1 and (status.st_dev, status.st_ino) != (second.st_dev, second.st_ino):
                return  # each layer has its own file
            names = bench.root / "other-names"
            names.mkdir()
            if not _use_all_names(os.path.join(path, "common"), names):
                # What is left out here no file system of this type has: it is a fact, and no lack of means.
                bench.note("the file system allows more than 70,000 names of a file: that limit was not reached")
                return
        child = bench.layer(items, bench.layer(items, layers[1]))
        wanted = bench.tree(layers[0])
        for layer in (layers[1], bench.layer(items), child, bench.writable(child)):
            must_be(bench.tree(layer), wanted, "a layer whose file has as many names as possible", root=False)
        for layer in layers[:1]:
            bench.driver.remove(layer)
        must_be(bench.tree(layers[1]), wanted, "a layer, after another was removed", root=False)

    def test_long_names(self, bench: DriverRig) -> None:
        """A file with a name of the greatest length can be added, changed, deleted, and deleted by a child layer.

        Otherwise such a file comes back, because no file system can hold its `.wh.` name.
        """
        name = b"n" * 255
        base = bench.layer([directory(b"d"), file(b"d/" + name, b"1"), file(name, b"2")])
        layer = bench.writable(base)
        with bench.driver.mounted(layer) as path:
            os.unlink(os.path.join(os.fsencode(path), name))
            Path(path, "d", name.decode()).write_text("changed")
        copy = bench.layer(bench.diff(layer, base), base)
        must_be(bench.tree(copy), bench.tree(layer), "the diff with a long name", root=False)
        gone = bench.layer([whiteout(b"d/" + name)], base)
        assert names_of(bench.tree(gone)) == {b"d", name}


def _use_all_names(path: str, directory: Path) -> bool:
    """Give a file as many names as it can have. Return whether there is such a limit, and it was reached."""
    try:
        for number in range(_MOST_NAMES):
            os.link(path, directory / str(number))
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM):
            return False
        if error.errno != errno.EMLINK:
            raise
        return True
    return False
