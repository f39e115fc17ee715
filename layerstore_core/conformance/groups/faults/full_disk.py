"""Tests of the group "faults": a disk without any room left."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

import pytest

from layerstore_core.base.durability import FlushPoint
from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.instruments import disks
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import directory, file, whiteout
from layerstore_core.conformance.trees import must_be
from layerstore_core.errors import LayerStoreError

_BASE: Final = [directory(b"d"), file(b"d/one", b"1" * 3000), file(b"two", random.Random(2).randbytes(300_000))]
_LARGE: Final = [file(b"large", random.Random(1).randbytes(3 << 20)), whiteout(b"d/one")]


class FullDiskTests(ConformanceTests):
    """Tests on a small disk."""

    group: ClassVar = "faults"

    def test_a_full_disk(self, bench: DriverRig) -> None:
        """On a full disk, hooks succeed or raise OSError; existing layers stay exact, and any can be removed.

        Otherwise the only way to free a full disk is to delete all layers. When there is room again, all works.
        """
        if reason := disks.why_not(bench.root):
            pytest.skip(f"a full disk: {reason}")
        with disks.small_disk(bench.root) as disk, disk.mounted() as mount:
            small = DriverRig(bench.name, bench.factory, bench.options, mount / "root", bench.report)
            with small:
                _use_full_disk(small)


def _use_full_disk(rig: DriverRig) -> None:
    base = rig.layer(_BASE)
    child = rig.layer([file(b"three", b"3" * 3000), whiteout(b"d/one")], base)
    writable, doomed = rig.writable(child), rig.writable(child)
    with rig.driver.mounted(writable) as path, open(os.path.join(path, "written"), "wb") as stream:
        stream.write(b"w" * 3000)
    layers = (base, child, writable)
    trees = [rig.tree(layer) for layer in layers]
    diff = rig.diff(child, base)
    filler = disks.fill(rig.root.parent)
    made = []
    for hook in ("create", "create_read_write"):
        layer = rig.new_id()
        call = partial(rig.driver.create, layer, child, {})
        if hook == "create_read_write":
            call = partial(rig.driver.create_read_write, layer, child, "", {})
        if _succeeds(call, hook):
            made.append(layer)
        else:
            assert not rig.driver.exists(layer), f"{hook} has raised on a full disk, but the layer exists"
            assert layer not in (rig.layer_ids() or ()), f"{hook} has raised on a full disk, but has left a part"
    new = rig.new_id()
    applied = _succeeds(lambda: rig.layer(_LARGE, base, layer_id=new), "apply_diff")
    assert not applied, "a layer of 3 MiB fits on a full disk: apply_diff has lost its files"
    for layer, wanted in zip(layers, trees, strict=True):
        _succeeds(lambda layer=layer, wanted=wanted: must_be(rig.tree(layer), wanted, "a layer on a full disk"), "get")  # type: ignore[misc]
    for layer in (new, *made, doomed):
        try:
            rig.driver.remove(layer)
        except (OSError, LayerStoreError) as error:
            pytest.fail(f"remove of a layer on a full disk raised {type(error).__name__}: {error}")
        assert not rig.driver.exists(layer), "a layer that was removed on a full disk still exists"
    filler.unlink()
    with FlushPoint(rig.root) as point:  # btrfs frees the room later
        point.flush()
    for layer, wanted in zip(layers, trees, strict=True):
        must_be(rig.tree(layer), wanted, "a layer after the disk was full")
    assert rig.diff(child, base) == diff, "the diff of a layer is another after the disk was full"
    with rig.driver.mounted(rig.layer(_LARGE, base)) as path:
        assert os.path.getsize(os.path.join(path, "large")) == _LARGE[0].entry.size
    assert not rig.mounts(), f"after a full disk there is still mounted: {rig.mounts()}"


def _succeeds(call: Callable[[], object], what: str) -> bool:
    """Return whether a call has succeeded. It may also raise OSError."""
    try:
        call()
    except (OSError, LayerStoreError):
        return False
    except AssertionError:
        raise
    except Exception as error:
        pytest.fail(f"{what} on a full disk raised {type(error).__name__}, not OSError: {error}")
    return True
