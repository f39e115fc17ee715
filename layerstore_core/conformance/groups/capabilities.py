"""Group "capabilities": a driver has the abilities that it declares. Notes name abilities that it could declare."""

from __future__ import annotations

import errno
import io
import os
from functools import partial
from threading import Event
from typing import Any, ClassVar, Final

import pytest

from layerstore_core.base.threads import Threads
from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.dialects import DIALECTS
from layerstore_core.conformance.groups.streams import must_be_same_bytes
from layerstore_core.conformance.namespace import NamespaceRefused, problem_in_namespace
from layerstore_core.conformance.rig import DriverRig, read_all, stream_of
from layerstore_core.conformance.tars import directory, file, hard_link, tar_of, whiteout
from layerstore_core.conformance.trees import Tree, differences
from layerstore_core.driver.capabilities import Capabilities
from layerstore_core.errors import ConfigError, LayerStoreError

_CHAIN: Final = [
    [directory(b"d"), *(file(b"d/%02d" % number, b"%d" % number * 50) for number in range(30))],
    [file(b"d/00", b"changed"), whiteout(b"d/01"), file(b"second", b"2")],
    [whiteout(b"d/02"), file(b"d/01", b"again"), file(b"third", b"3"), hard_link(b"link", b"d/05")],
    [directory(b"d/e"), file(b"d/e/f", b"4"), whiteout(b"second")],
]
#: The number of seconds that a layer waits for its parents.
_PATIENCE: Final = 60
_MIB: Final = 1 << 20
_QUOTA: Final = 16 * _MIB


class CapabilityTests(ConformanceTests):
    """Tests of the `capabilities` hook."""

    group: ClassVar = "capabilities"

    def test_capabilities_do_not_change(self, bench: DriverRig) -> None:
        """`capabilities` returns a `Capabilities`, the same while the instance lives.

        Otherwise the store writes tar-split for some layers and not for others.
        """
        hook = bench.driver.plugins.hook
        first = hook.capabilities()
        assert isinstance(first, Capabilities), f"capabilities returned a {type(first).__name__}"
        bench.layer([file(b"f", b"x")])
        assert hook.capabilities() == first
        assert bench.open().capabilities == first, "a second instance declares something else"

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_exact_diffs(self, bench: DriverRig, dialect: str) -> None:
        """With `reproduces_exact_diffs`, `diff` returns the exact tar of `apply_diff`, also after a restart.

        Otherwise layers cannot be exported any more: the store has kept no tar-split to correct the driver with.
        """
        tar = DIALECTS[dialect]
        base = bench.layer(tar)
        if not bench.driver.capabilities.reproduces_exact_diffs:
            return
        must_be_same_bytes(bench.diff(base, ""), tar, f"the diff of the tar {dialect!r}")
        upper = bench.layer(tar, base)
        must_be_same_bytes(bench.diff(upper, base), tar, f"the diff of the tar {dialect!r} on a parent")
        bench.reopen()
        must_be_same_bytes(bench.diff(upper, base), tar, f"the diff of the tar {dialect!r} after a restart")

    def test_exact_diffs_spare_tar_split(self, bench: DriverRig) -> None:
        """With `reproduces_exact_diffs` the store writes no tar-split, but still verifies its exports.

        Otherwise a driver that keeps the tar itself takes the space twice.
        """
        declared = bench.driver.capabilities.reproduces_exact_diffs
        tar = DIALECTS["ordinary"]
        with bench.store() as store:
            layer = store.register(io.BytesIO(tar))
            files = [name for _, _, names in os.walk(store.root / "image") for name in names]
            must_be_same_bytes(read_all(layer.tar_stream()), tar, "the export")
            store.release(layer)
        assert ("tar-split.json.gz" in files) is not declared
        if not declared and _could_reproduce(bench):
            bench.could_declare("reproduces_exact_diffs", "every generated tar came back bit for bit")

    def test_max_depth(self, bench: DriverRig) -> None:
        """`max_depth` is `None` or a number of layers, at least one.

        Otherwise the store refuses all layers, or layers that the driver could store. (The group "limits" builds a
        chain of that length.)
        """
        depth: Any = bench.driver.capabilities.max_depth
        assert depth is None or (isinstance(depth, int) and depth >= 1), f"max_depth is {depth!r}"

    def test_parallel_apply(self, bench: DriverRig) -> None:
        """With `parallel_apply`, a chain that is applied all at once, the topmost layer first, has the same trees.

        Otherwise images are damaged when they are pulled quickly. An `apply_diff` that needs its parents waits with
        `await_parents`.
        """
        wanted = _chain(bench, parallel=False)
        try:
            found = _chain(bench, parallel=True)
            lines = [
                line for one, other in zip(found, wanted, strict=True) for line in differences(one, other, root=False)
            ]
        except (OSError, LayerStoreError, ValueError, AssertionError) as error:
            lines = [f"{type(error).__name__}: {error}"]
        if bench.driver.capabilities.parallel_apply:
            assert not lines, "layers that were applied at the same time:\n  " + "\n  ".join(lines)
        elif not lines:
            bench.could_declare("parallel_apply", "layers that were applied children first came out right")

    def test_user_namespace(self, bench: DriverRig) -> None:
        """With `user_namespace = True`, the driver works for root of a user namespace that has no other user.

        Otherwise commands of ordinary users enter a namespace, and fail there.
        """
        declared = getattr(bench.factory, "user_namespace", False)
        assert isinstance(declared, bool), f"the class attribute user_namespace is {declared!r}: set True or False"
        if not declared:
            return
        if bench.options:
            pytest.skip("user_namespace is declared, and an option of the driver, such as a quota, may need root")
        try:
            problem = problem_in_namespace(bench)
        except NamespaceRefused as reason:
            pytest.skip(f"no user namespace can be made here: {reason}")
        assert not problem, f"in a user namespace: {problem}"

    def test_quota(self, bench: DriverRig) -> None:
        """With `quota`, a writable layer cannot exceed its `size`; without it, `size` raises ConfigError.

        Otherwise one container fills the disk of all, in spite of its limit. The limit of one layer holds for no other.
        """
        base = bench.layer([file(b"f", b"x")])
        declared = bench.driver.capabilities.quota
        layer, other = bench.new_id(), bench.writable(base)
        refusal = _refusal(bench, layer, base)
        if refusal:
            assert not declared, f"quota is declared, but a size is refused: {refusal}"
            assert "size" in refusal, f"the refusal does not name the option: {refusal}"
            assert not bench.driver.exists(layer), "the refused layer is there"
            return
        limited = not _fits(bench, layer, 2 * _QUOTA)
        if not declared:
            assert limited, (
                "quota is not declared, but a size is accepted without an error and without effect: refuse it"
            )
            bench.could_declare("quota", "a size limit was enforced")
            return
        assert limited, f"{2 * _QUOTA // _MIB} MiB fit into a layer whose size is {_QUOTA // _MIB} MiB"
        bench.driver.remove(layer)
        again = bench.new_id()
        bench.driver.create_read_write(again, base, "", {"size": str(_QUOTA)})
        assert _fits(bench, again, _QUOTA // 4), "a quarter of the size does not fit"
        assert _fits(bench, other, 2 * _QUOTA), "the limit of one layer holds for another"
        with pytest.raises(ConfigError):
            bench.driver.create_read_write(bench.new_id(), base, "", {"size": "much"})


def _refusal(bench: DriverRig, layer: str, parent: str) -> str:
    """Create a layer with a size limit. Return the message with which the driver refuses it, empty if it does not."""
    try:
        bench.driver.create_read_write(layer, parent, "", {"size": str(_QUOTA)})
    except ConfigError as error:
        return str(error)
    return ""


def _could_reproduce(bench: DriverRig) -> bool:
    try:
        return all(bench.diff(bench.layer(tar), "") == tar for tar in DIALECTS.values())
    except (OSError, LayerStoreError):
        return False


def _chain(bench: DriverRig, *, parallel: bool) -> list[Tree]:
    """Return the trees of a chain whose layers were applied one after another, or at the same time."""
    layers: list[str] = []
    if not parallel:
        for items in _CHAIN:
            layers.append(bench.layer(items, layers[-1] if layers else ""))
        return [bench.tree(layer) for layer in layers]
    for _ in _CHAIN:
        layer = bench.new_id()
        bench.driver.create(layer, layers[-1] if layers else "", {})
        layers.append(layer)
    complete = [Event() for _ in layers]

    def apply(at: int) -> None:
        def await_parents() -> None:
            for parent in complete[:at]:
                assert parent.wait(_PATIENCE), "a parent layer did not become complete"

        try:
            stream = stream_of(tar_of(_CHAIN[at]), await_parents=await_parents)
            bench.driver.apply_diff(layers[at], layers[at - 1] if at else "", stream)
            stream.drain()
        finally:
            complete[at].set()

    with Threads("conformance", len(layers)) as threads:
        # The topmost first: a driver that does not wait finds empty parents.
        tasks = [threads.submit(partial(apply, at)) for at in reversed(range(len(layers)))]
        for task in tasks:
            task.result()
    return [bench.tree(layer) for layer in layers]


def _fits(bench: DriverRig, layer: str, size: int) -> bool:
    """Return whether so many bytes can be written into a layer."""
    block = os.urandom(_MIB)
    with bench.driver.mounted(layer) as path:
        try:
            with open(os.path.join(path, "filled"), "wb", buffering=0) as stream:
                stream.writelines(block for _ in range(size // _MIB))
                os.fsync(stream.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise
    return True
