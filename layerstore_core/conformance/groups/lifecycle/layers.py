"""Tests of the group "lifecycle": calls once, twice, and out of order."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, ClassVar

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import directory, file
from layerstore_core.conformance.trees import must_be, names_of
from layerstore_core.driver.options import context_of
from layerstore_core.errors import ConfigError

_FILES = [directory(b"etc"), file(b"etc/hosts", b"127.0.0.1 localhost\n")]


class LayerTests(ConformanceTests):
    """Tests of `create`, `create_read_write`, `exists`, `get`, `put` and `remove`."""

    group: ClassVar = "lifecycle"

    def test_a_new_layer_is_empty(self, bench: DriverRig) -> None:
        """A base layer that `create` has created exists, as an empty directory of mode 0755, whatever the umask.

        Otherwise the files of every image, or the mode of its `/`, depend on the machine.
        """
        old = os.umask(0o077)
        try:
            layer = bench.new_id()
            bench.driver.create(layer, "", {})
        finally:
            os.umask(old)
        assert bench.driver.exists(layer), "exists returns False for a layer that create has created"
        with bench.driver.mounted(layer) as path:
            assert os.listdir(path) == [], "a new base layer is not empty"
            mode = stat.S_IMODE(os.stat(path).st_mode)
            assert mode == 0o755, f"the root of a new base layer has mode {mode:#o}"

    def test_get_returns_an_absolute_path(self, bench: DriverRig) -> None:
        """`get` returns the absolute path of a directory, as a str.

        Otherwise a process that changes its working directory reads another tree.
        """
        layer = bench.layer(_FILES)
        path: Any = raw_get(bench, layer)
        try:
            assert isinstance(path, str) and os.path.isabs(path), f"get returned {path!r}"
            assert os.path.isdir(path), f"get returned {path!r}, which is no directory"
        finally:
            raw_put(bench, layer)

    def test_create_refuses_a_known_id(self, bench: DriverRig) -> None:
        """A second `create` of an ID raises FileExistsError, and does not change the first layer.

        Otherwise two layers share one directory, and each destroys the other.
        """
        layer = bench.layer(_FILES)
        before = bench.tree(layer)
        with pytest.raises(FileExistsError):
            bench.driver.create(layer, "", {})
        with pytest.raises(FileExistsError):
            bench.driver.create_read_write(layer, "", "", {})
        assert bench.driver.exists(layer), "the refused create has removed the first layer"
        must_be(bench.tree(layer), before, "the layer after a second create of its ID")

    @pytest.mark.parametrize("hook", ["create", "create_read_write"])
    def test_create_refuses_an_unknown_parent(self, bench: DriverRig, hook: str) -> None:
        """With an unknown parent, `create` raises FileNotFoundError and leaves nothing: the ID can be used again.

        Otherwise a layer is stored without the files of its parent.
        """
        layer, parent = bench.new_id(), "0" * 64
        with pytest.raises(FileNotFoundError):
            _create(bench, hook, layer, parent, {})
        _must_be_gone(bench, layer, "a create that has raised")
        _create(bench, hook, layer, "", {})

    @pytest.mark.parametrize("hook", ["create", "create_read_write"])
    def test_create_refuses_an_unknown_storage_option(self, bench: DriverRig, hook: str) -> None:
        """With an unknown storage option, `create` raises ConfigError with its name, and leaves nothing.

        Otherwise a misspelt limit is no limit, without any message.
        """
        layer = bench.new_id()
        with pytest.raises(ConfigError, match="no-such-option"):
            _create(bench, hook, layer, "", {"no-such-option": "1"})
        _must_be_gone(bench, layer, "a create that has raised")

    def test_remove_deletes_the_layer(self, bench: DriverRig) -> None:
        """After `remove` the layer does not exist, and none of its files is left.

        Otherwise disks fill with layers that no user can name.
        """
        keep, layer = bench.layer(_FILES), bench.layer([file(b"marker-of-the-removed", b"x")])
        path = bench.driver.get(layer)
        bench.driver.put(layer)
        bench.driver.remove(layer)
        _must_be_gone(bench, layer, "remove")
        assert not os.path.exists(os.path.join(path, "marker-of-the-removed")), "remove has left the layer's files"
        left = [where for where, _, names in os.walk(bench.root) if "marker-of-the-removed" in names]
        assert not left, f"remove has left the layer's files in {left[0]}"
        assert bench.driver.exists(keep), "remove has removed another layer too"

    def test_remove_of_a_writable_layer(self, bench: DriverRig) -> None:
        """`remove` deletes a writable layer with all that was written into it, and does not change its parent.

        Otherwise every container that was ever started still takes its space, or its removal damages its image.
        """
        parent = bench.layer(_FILES)
        before = bench.tree(parent)
        layer = bench.writable(parent)
        with bench.driver.mounted(layer) as path:
            Path(path, "written").write_text("by a container")
        bench.driver.remove(layer)
        _must_be_gone(bench, layer, "remove")
        must_be(bench.tree(parent), before, "the parent of a removed writable layer")

    def test_remove_of_a_missing_layer(self, bench: DriverRig) -> None:
        """`remove` of an ID that does not exist, or no longer exists, is no error.

        Otherwise an interrupted deletion can never be finished.
        """
        layer = bench.layer(_FILES)
        bench.driver.remove(layer)
        bench.driver.remove(layer)
        bench.driver.remove("f" * 64)

    def test_remove_unmounts(self, bench: DriverRig) -> None:
        """`remove` of a mounted layer unmounts it too.

        Otherwise a mount without a layer stays until the machine is restarted.
        """
        parent = bench.layer(_FILES)
        layer = bench.writable(parent)
        raw_get(bench, layer)
        bench.driver.remove(layer)
        _must_be_gone(bench, layer, "remove of a mounted layer")
        assert not bench.mounts(), f"remove has left mounted: {bench.mounts()}"

    def test_a_removed_id_can_be_used_again(self, bench: DriverRig) -> None:
        """An ID that was removed can be created again, and shows nothing of the former layer.

        Otherwise a registration that is repeated after a failure shows files of the failed attempt.
        """
        layer = bench.layer(_FILES)
        bench.driver.remove(layer)
        bench.driver.create(layer, "", {})
        assert names_of(bench.tree(layer)) == set(), "files of the removed layer show in the new one"

    def test_unknown_ids(self, bench: DriverRig) -> None:
        """For an unknown ID `exists` is False, `get` raises FileNotFoundError, `put` does nothing; no layer appears.

        Otherwise a wrong ID shows an empty tree, as if the layer had lost its files.
        """
        unknown = "e" * 64
        assert bench.driver.exists(unknown) is False, "exists returns True for an ID that was never created"
        with pytest.raises(FileNotFoundError):
            raw_get(bench, unknown)
        raw_put(bench, unknown)
        assert bench.driver.exists(unknown) is False, "get of an unknown ID has created a layer"
        assert not bench.mounts(), "get of an unknown ID has left a mount"

    @pytest.mark.parametrize("layer_id", ["", "../escape", "a/b", "A", ".", "..", "x" * 129, "a\n"])
    def test_invalid_ids(self, bench: DriverRig, layer_id: str) -> None:
        """An invalid ID, such as "" or "..", reaches no driver: `exists` is False, and `create` refuses it.

        Otherwise one empty string deletes all layers: `remove` of an invalid ID must do nothing.
        """
        layer = bench.layer(_FILES)
        assert bench.driver.exists(layer_id) is False
        bench.driver.remove(layer_id)
        with pytest.raises(FileNotFoundError):
            bench.driver.get(layer_id)
        with pytest.raises(ValueError, match="ID"):
            bench.driver.create(layer_id, "", {})
        assert bench.driver.exists(layer), "remove of an invalid ID has removed a layer"

    @pytest.mark.parametrize("layer_id", ["a", "0", "c1", "l-", "f" * 128, "d" * 64 + "-init", "init"])
    def test_every_valid_id_can_be_used(self, bench: DriverRig, layer_id: str) -> None:
        """Every ID of 1 to 128 characters of a-z, 0-9 and the hyphen works, from `create` to `remove`.

        Otherwise a store works for years, until the first layer with an unlucky ID.
        """
        bench.layer(_FILES, layer_id=layer_id)
        child = bench.writable(layer_id)
        assert bench.driver.exists(layer_id)
        assert names_of(bench.tree(child)) == {b"etc", b"etc/hosts"}
        bench.driver.remove(child)
        bench.driver.remove(layer_id)
        _must_be_gone(bench, layer_id, "remove")

    def test_an_id_that_begins_with_another_id(self, bench: DriverRig) -> None:
        """A layer `x` and a layer `x-init` are two layers, and removing one does not change the other.

        Otherwise a container loses its own layer when its init layer is removed.
        """
        layer = bench.new_id()
        init = bench.new_id("-init")
        bench.layer([file(b"init")], layer_id=init)
        bench.writable(init, layer_id=layer)
        other = bench.layer([file(b"other")], layer_id=layer + "-other")
        bench.driver.remove(layer)
        assert names_of(bench.tree(init)) == {b"init"}
        assert names_of(bench.tree(other)) == {b"other"}
        bench.driver.remove(other)

    def test_get_of_a_mounted_layer(self, bench: DriverRig) -> None:
        """`get` of a mounted layer returns its path and mounts nothing over it, and one `put` unmounts it.

        Otherwise each crash adds a mount that stays.
        """
        parent = bench.layer(_FILES)
        layer = bench.writable(parent)
        first = raw_get(bench, layer)
        Path(first, "written").write_text("kept")
        assert raw_get(bench, layer) == first, "a second get gives another path"
        assert Path(first, "written").read_text() == "kept"
        raw_put(bench, layer)
        assert not bench.mounts(), f"after put there is still mounted: {bench.mounts()}"

    def test_put_leaves_no_mount(self, bench: DriverRig) -> None:
        """After the last `put` nothing under the root is mounted or open, and a second `put` is no error.

        Otherwise a long-running service runs out of mounts and descriptors, and directories cannot be deleted.
        """
        parent = bench.layer(_FILES)
        layer = bench.writable(bench.layer([file(b"more")], parent))
        for used in (parent, layer):
            with bench.driver.mounted(used) as path:
                os.listdir(path)
            raw_put(bench, used)
            assert not bench.mounts(), f"after put there is still mounted: {bench.mounts()}"
            assert not bench.open_files(), f"after put there is still open: {bench.open_files()}"

    def test_a_mount_lasts_until_the_last_put(self, bench: DriverRig) -> None:
        """If a layer has two users, the tree stays mounted when the first of them ends.

        Otherwise an export fails half way because another user has finished.
        """
        layer = bench.writable(bench.layer(_FILES))
        path = bench.driver.get(layer)
        assert bench.driver.get(layer) == path
        bench.driver.put(layer)
        assert sorted(os.listdir(path)) == ["etc"], "the tree was unmounted at the end of the first of two users"
        bench.driver.put(layer)

    def test_written_files_stay_in_a_writable_layer(self, bench: DriverRig) -> None:
        """Files that were written into a mounted writable layer are there at its next mount.

        Otherwise a container that is started again has lost its data.
        """
        layer = bench.writable(bench.layer(_FILES))
        with bench.driver.mounted(layer) as path:
            Path(path, "etc/hosts").write_text("changed")
            Path(path, "new").write_text("new")
        with bench.driver.mounted(layer) as path:
            assert Path(path, "etc/hosts").read_text() == "changed"
            assert Path(path, "new").read_text() == "new"

    def test_layer_ids_lists_every_layer(self, bench: DriverRig) -> None:
        """`layer_ids`, if the driver has it, returns every layer that the driver has, and no other.

        Otherwise garbage collection overlooks the remains of a crash, or deletes layers in use.
        """
        if bench.layer_ids() is None:
            bench.note("the driver has no layer_ids: layers that a crash leaves without a record are not found")
            return
        base = bench.layer(_FILES)
        child = bench.layer([file(b"x")], base)
        init = bench.writable(child, layer_id=bench.new_id("-init"))
        top = bench.writable(init)
        wanted = {base, child, init, top}
        assert bench.layer_ids() == wanted
        with bench.driver.mounted(top):
            assert bench.layer_ids() == wanted, "a mount is taken for a layer"
        bench.driver.remove(top)
        assert bench.layer_ids() == wanted - {top}

    def test_cleanup_keeps_layers_and_mounts(self, bench: DriverRig) -> None:
        """`cleanup` releases what no layer owns, and does not change layers or mounts.

        Otherwise a cleanup in one process deletes a container's files in another.
        """
        base = bench.layer(_FILES)
        layer = bench.writable(base)
        path = bench.driver.get(layer)
        Path(path, "written").write_text("kept")
        before = bench.tree(base)
        bench.driver.cleanup()
        bench.driver.cleanup()
        assert Path(path, "written").read_text() == "kept", "cleanup has unmounted a layer in use"
        bench.driver.put(layer)
        assert bench.driver.exists(base) and bench.driver.exists(layer), "cleanup has removed a layer"
        must_be(bench.tree(base), before, "a layer after cleanup")

    def test_status_and_metadata_are_text(self, bench: DriverRig) -> None:
        """`status` returns pairs of text, `metadata` a mapping of text, or FileNotFoundError for an unknown ID.

        Otherwise `layerstore info` and `show` fail for this driver.
        """
        layer = bench.layer(_FILES)
        status: Any = bench.driver.plugins.hook.status()
        assert isinstance(status, list) and all(
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
            for pair in status
        ), f"status returned {status!r}"
        metadata: Any = bench.driver.metadata(layer)
        assert all(isinstance(text, str) for pair in metadata.items() for text in pair), (
            f"metadata returned {metadata!r}"
        )
        if bench.implements("metadata"):
            with pytest.raises(FileNotFoundError):
                bench.driver.metadata("e" * 64)

    def test_a_driver_writes_only_under_its_home(self, bench: DriverRig) -> None:
        """A driver writes only under its home, `<root>/<driver name>`.

        Otherwise two drivers, or a driver and the store, overwrite each other's files.
        """
        bench.driver.put(bench.writable(bench.layer(_FILES)))
        names = set(os.listdir(bench.root)) - {"layerstore"}
        assert names <= {bench.driver.home.name}, f"the root has more than the driver's home: {sorted(names)}"

    def test_probe_leaves_nothing(self, bench: DriverRig, tmp_path: Path) -> None:
        """`probe`, if the driver has it, leaves nothing behind, whether it succeeds or not.

        Otherwise listing the installed drivers leaves traces of each of them on the machine.
        """
        probe = getattr(bench.factory, "probe", None)
        if probe is None:
            return
        root = bench.root / "to-probe"
        root.mkdir()
        probe(context_of(bench.factory, bench.name, bench.config(root)))
        left, mounts = os.listdir(root), [path for path in bench.mounts() if path.startswith(str(root))]
        assert not left and not mounts, f"probe has left {left or mounts}"
        root.rmdir()


def raw_get(bench: DriverRig, layer_id: str, driver: Any = None) -> str:
    """Call the driver's own `get`, without core's counting. Return the path."""
    path: str = (driver or bench.driver).plugins.hook.get(layer_id=layer_id, mount_label="")
    return path


def raw_put(bench: DriverRig, layer_id: str, driver: Any = None) -> None:
    """Call the driver's own `put`, without core's counting."""
    (driver or bench.driver).plugins.hook.put(layer_id=layer_id)


def _create(bench: DriverRig, hook: str, layer: str, parent: str, options: dict[str, str]) -> None:
    if hook == "create":
        bench.driver.create(layer, parent, options)
    else:
        bench.driver.create_read_write(layer, parent, "", options)


def _must_be_gone(bench: DriverRig, layer: str, after: str) -> None:
    assert bench.driver.exists(layer) is False, f"exists returns True after {after}"
    ids = bench.layer_ids()
    assert ids is None or layer not in ids, f"layer_ids still has the layer after {after}"
