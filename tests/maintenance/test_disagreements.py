"""Contradictions between the records and the driver: the contents decide which is right, or nothing is changed.

After a repair either a full check finds nothing, and mounts and exports are right, or the finding is reported again and
the root is as it was. The table in `docs/reliability.md` has the same lines.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from layerstore_core.conformance.trees import read_tree
from layerstore_core.errors import LayerStoreError
from layerstore_core.maintenance.check import check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from tests.maintenance.test_repair import codes
from tests.store.layers import chain, export, tar_of, tree

BASE = tar_of({"./": None, "base": b"base", "d": None, "d/below": b"below"})
MIDDLE = tar_of({"./": None, "d/middle": b"middle", ".wh.base": b""})
TOP = tar_of({"./": None, "d": None, "d/.wh..wh..opq": b"", "d/top": b"top"})
OTHER = tar_of({"./": None, "other": b"other"})

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: for the drivers that mount")


class Root:
    """A closed store: a chain of three, another layer, and three writable layers.

    The writable layers are `box`, `case`, which has an init layer, and `free`, which has no parent.
    """

    def __init__(self, open_store: Callable, root: Path) -> None:
        self._open = open_store
        self.root = root
        with self.open() as store:
            layers = chain(store, BASE, MIDDLE, TOP)
            other = chain(store, OTHER)[0]
            for layer in layers[2], other:
                store.pin(layer)
            self.driver = store.driver_name
            names = "base", "middle", "top", "other"
            self.names = {name: layer.chain_id for name, layer in zip(names, (*layers, other), strict=True)}
            self.ids = {name: store.find(chain_id).cache_id for name, chain_id in self.names.items()}
            for name, init in ("box", None), ("case", lambda path: Path(path, "init").touch()):
                with store.create_rw_layer(name, self.names["middle"], init=init) as rw, rw.mounted() as path:
                    Path(path, "written").write_text(name)
                self.ids[name] = store.mount_id(name)
            with store.create_rw_layer("free") as rw, rw.mounted() as path:
                Path(path, "written").write_text("free")
            self.ids["free"] = store.mount_id("free")
            for layer in (*layers, other):
                layer.close()
            self.trees = self.shown(store)

    def open(self):
        """Open the store."""
        return self._open()

    def shown(self, store):
        """Return the trees on mounts, the exported tars, and the changes of writable layers."""
        found = {}
        for name, chain_id in self.names.items():
            with store.driver.mounted(store.find(chain_id).cache_id) as path:
                found[name] = {path: (node.kind, node.content) for path, node in read_tree(path).items()}
            found[f"tar of {name}"] = export(store.find(chain_id))
        for name in "box", "case", "free":
            with store.get_rw_layer(name) as rw, rw.mounted() as path:
                found[name] = {path: (node.kind, node.content) for path, node in read_tree(path).items()}
                found[f"changes of {name}"] = list(map(str, rw.changes()))
        return found

    def record(self, name):
        """Return the directory of the record of a layer or a writable layer."""
        layerdb = self.root / "image" / self.driver / "layerdb"
        return (
            layerdb / "sha256" / self.names[name].removeprefix("sha256:")
            if name in self.names
            else layerdb / "mounts" / name
        )

    def own(self, name, field=""):
        """Return the directory in which overlay2 has a layer, or a file in it."""
        return self.root / "overlay2" / self.ids.get(name, name) / field

    def swap(self, one, other, field):
        """Swap a file of two records."""
        first, second = self.record(one) / field, self.record(other) / field
        text = first.read_text()
        first.write_text(second.read_text())
        second.write_text(text)

    def note(self, name):
        """Return the file in which vfs notes the parent of a layer."""
        return self.root / "vfs" / "copied" / self.ids[name]


class Case(NamedTuple):
    """A disagreement.

    Attributes:
        harm: causes the disagreement.
        found: the codes that a full check may report.
        repaired: whether a repair removes it; otherwise a repair changes nothing.
        drivers: the drivers that can have it.
    """

    harm: Callable[[Root], object]
    found: set[str]
    repaired: bool
    drivers: tuple[str, ...] = ("vfs", "overlay2", "btrfs")


def copy_field(root, source, target, field):
    shutil.copyfile(root.record(source) / field, root.record(target) / field)


def rewrite(path, text):
    path.write_text(text)


OVERLAY = ("overlay2",)
CASES = {
    "the cache IDs of a layer and its child are swapped": Case(
        lambda root: root.swap("base", "middle", "cache-id"), {"damaged", "broken-in-driver", "wrong-parent"}, True
    ),
    "the cache IDs of two layers without children are swapped": Case(
        lambda root: root.swap("top", "other", "cache-id"), {"damaged", "broken-in-driver", "wrong-parent"}, True
    ),
    "the cache IDs of two base layers are swapped": Case(
        lambda root: root.swap("base", "other", "cache-id"), {"damaged", "wrong-parent"}, True
    ),
    "a layer's cache ID is another layer's": Case(
        lambda root: copy_field(root, "other", "top", "cache-id"),
        {"damaged", "broken-in-driver", "wrong-parent", "stray-in-driver"},
        True,
    ),
    "a layer's cache ID is its parent's": Case(
        lambda root: copy_field(root, "middle", "top", "cache-id"),
        {"damaged", "broken-in-driver", "wrong-parent", "stray-in-driver"},
        True,
    ),
    "a layer's cache ID is one that no layer has": Case(
        lambda root: rewrite(root.record("top") / "cache-id", "0" * 64),
        {"missing-in-driver", "stray-in-driver"},
        True,
    ),
    "a layer's parent file names another layer": Case(
        lambda root: rewrite(root.record("middle") / "parent", root.names["other"]), {"unloadable"}, True
    ),
    "a layer's parent file is gone": Case(
        lambda root: (root.record("middle") / "parent").unlink(), {"unloadable"}, True
    ),
    "a layer's diff ID is another layer's": Case(
        lambda root: copy_field(root, "other", "middle", "diff"), {"unloadable"}, True
    ),
    "a writable layer's parent file is gone": Case(
        lambda root: (root.record("box") / "parent").unlink(), {"wrong-parent"}, True
    ),
    "a writable layer's parent file is gone, and it has an init layer": Case(
        lambda root: (root.record("case") / "parent").unlink(), {"wrong-parent"}, True
    ),
    "a writable layer's init ID is gone": Case(
        lambda root: (root.record("case") / "init-id").unlink(), {"wrong-parent", "stray-in-driver"}, True
    ),
    "a writable layer's parent is another layer": Case(
        lambda root: rewrite(root.record("box") / "parent", root.names["other"]), {"wrong-parent"}, False
    ),
    "a writable layer's parent is its parent's parent": Case(
        lambda root: rewrite(root.record("case") / "parent", root.names["base"]), {"wrong-parent"}, False
    ),
    "a writable layer without a parent is given one": Case(
        lambda root: rewrite(root.record("free") / "parent", root.names["base"]),
        {"wrong-parent"},
        False,
        ("overlay2", "btrfs"),
    ),
    "the mount IDs of two writable layers are swapped": Case(
        lambda root: root.swap("case", "free", "mount-id"), {"wrong-parent"}, False
    ),
    "lower names another layer": Case(
        lambda root: rewrite(root.own("top", "lower"), f"l/{root.own('other', 'link').read_text()}"),
        {"wrong-parent"},
        True,
        OVERLAY,
    ),
    "lower lacks parents of the parent": Case(
        lambda root: rewrite(root.own("top", "lower"), f"l/{root.own('middle', 'link').read_text()}"),
        {"broken-in-driver"},
        True,
        OVERLAY,
    ),
    "lower of a writable layer names another layer": Case(
        lambda root: rewrite(root.own("box", "lower"), f"l/{root.own('other', 'link').read_text()}"),
        {"wrong-parent"},
        False,
        OVERLAY,
    ),
    "lower of a writable layer is gone": Case(
        lambda root: root.own("box", "lower").unlink(), {"broken-in-driver"}, True, OVERLAY
    ),
    "the link of a layer leads to another": Case(
        lambda root: (
            (root.root / "overlay2" / "l" / root.own("middle", "link").read_text()).unlink()
            or (root.root / "overlay2" / "l" / root.own("middle", "link").read_text()).symlink_to(
                f"../{root.ids['other']}/diff"
            )
        ),
        {"broken-in-driver", "wrong-parent"},
        True,
        OVERLAY,
    ),
    "lower is a directory": Case(
        lambda root: root.own("middle", "lower").unlink() or root.own("middle", "lower").mkdir(),
        {"broken-in-driver"},
        True,
        OVERLAY,
    ),
    "lower is a directory with something in it": Case(
        lambda root: root.own("middle", "lower").unlink() or (root.own("middle", "lower") / "in").mkdir(parents=True),
        {"broken-in-driver"},
        False,
        OVERLAY,
    ),
    "lower is empty": Case(
        lambda root: root.own("middle", "lower").write_text(""), {"broken-in-driver"}, True, OVERLAY
    ),
    "a short name leads out of the root": Case(
        lambda root: (
            (root.root / "overlay2" / "l" / root.own("middle", "link").read_text()).unlink()
            or (root.root / "overlay2" / "l" / root.own("middle", "link").read_text()).symlink_to("/etc")
        ),
        {"broken-in-driver"},
        True,
        OVERLAY,
    ),
    "a short name is a file": Case(
        lambda root: (
            (root.root / "overlay2" / "l" / root.own("middle", "link").read_text()).unlink()
            or (root.root / "overlay2" / "l" / root.own("middle", "link").read_text()).touch()
        ),
        {"broken-in-driver"},
        True,
        OVERLAY,
    ),
    "the record of a layer is a file": Case(
        lambda root: shutil.rmtree(root.record("top")) or root.record("top").touch(),
        {"unloadable", "dangling-pin"},
        False,
    ),
    "the record of a pinned layer is gone": Case(
        lambda root: shutil.rmtree(root.record("top")), {"dangling-pin"}, False
    ),
    "the record of a writable layer is a file": Case(
        lambda root: shutil.rmtree(root.record("box")) or root.record("box").touch(), {"unloadable"}, False
    ),
    "the records of all writable layers are gone": Case(
        lambda root: shutil.rmtree(root.record("box").parent), {"records-lost"}, False
    ),
    "vfs's note of a writable layer is a FIFO": Case(
        lambda root: root.note("box").unlink() or os.mkfifo(root.note("box")), {"broken-in-driver"}, True, ("vfs",)
    ),
    "vfs's note of a layer names another parent": Case(
        lambda root: rewrite(root.note("top"), f"0 {root.ids['other']}"), {"wrong-parent"}, True, ("vfs",)
    ),
    "vfs's note of a writable layer names another parent": Case(
        lambda root: rewrite(root.note("box"), f"0 {root.ids['other']}"), {"wrong-parent"}, False, ("vfs",)
    ),
}


def with_drivers(names):
    """Mark a test to run for each case with each driver that can have it."""
    cases = [(driver, name) for name in names for driver in CASES[name].drivers]
    return pytest.mark.parametrize(("driver", "name"), cases, indirect=["driver"])


@with_drivers(CASES)
def test_the_contents_decide_between_record_and_driver(open_store, store_root, name):
    root = Root(open_store, store_root)
    case = CASES[name]
    case.harm(root)
    before = tree(root.root)
    with root.open() as store:
        findings = check_store(store, full=True)
        assert findings, "the check does not find the disagreement"
        assert set(codes(findings)) <= case.found, findings
        assert codes(check_store(store)) or "damaged" in case.found
        for layer in collect_garbage(store):  # gc must not collect layers that only have a wrong name
            assert layer.name.removesuffix("-init") not in root.ids.values(), layer
        left = repair(store, findings)
        assert (left == []) == case.repaired or {one.code for one in left} == {"stray-in-driver"}, left
    with root.open() as store:
        if case.repaired:
            assert check_store(store, full=True) == []
            assert root.shown(store) == root.trees
            return
        assert check_store(store, full=True) == findings
    assert tree(root.root) == before, "something was changed without a proof"


@with_drivers(name for name, case in CASES.items() if "writable" in name and "wrong-parent" in case.found)
def test_a_writable_layer_with_two_parents_is_not_used(open_store, store_root, name):
    root = Root(open_store, store_root)
    case = CASES[name]
    case.harm(root)
    with root.open() as store:
        subjects = {finding.subject for finding in check_store(store) if finding.code == "wrong-parent"}
        for subject in ("box", "case", "free"):
            if f"writable layer {subject!r}" in subjects:
                rw = store.get_rw_layer(subject)
                for use in rw.mount, rw.changes, rw.tar_stream, rw.size:
                    with pytest.raises(LayerStoreError, match="according to"):
                        use()
                break
        else:
            raise AssertionError(subjects)
