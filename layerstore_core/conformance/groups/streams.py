"""Group "streams": of any tar from any source the store keeps every byte, or nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
from collections.abc import Callable
from typing import BinaryIO, ClassVar, Final

import pytest

from layerstore_core.base.threads import Threads
from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.dialects import DIALECTS
from layerstore_core.conformance.rig import DriverRig, read_all, stream_of
from layerstore_core.conformance.tars import directory, file, hard_link, opaque, tar_of, whiteout
from layerstore_core.conformance.trees import expected_tree, must_be, names_of, shown
from layerstore_core.errors import InvalidLayer

_FILES: Final = [
    directory(b"d"),
    *(file(b"d/%03d" % number, random.Random(number).randbytes(number * 40)) for number in range(100)),
    file(b"last", b"l" * 10_000),
]
_TAR: Final = tar_of(_FILES)


class _SlowFile(io.RawIOBase):
    """A file that cannot seek, and returns a few bytes at a time. It may fail half way."""

    def __init__(self, data: bytes, *, fail_at: int | None = None) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._fail_at = fail_at

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._fail_at is not None and self._data.tell() >= self._fail_at:
            raise OSError("the network is gone")
        return self._data.read(1009 if size < 0 else min(size, 1009))


def _pipe(data: bytes) -> BinaryIO:
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as stream:
            stream.write(data)

    Threads("conformance", 1).submit(feed)
    return os.fdopen(reading, "rb")


_SOURCES: Final[dict[str, Callable[[bytes], BinaryIO]]] = {
    "memory": io.BytesIO,
    "pipe": _pipe,
    "small-pieces": _SlowFile,  # type: ignore[dict-item]
    "gzip": lambda data: io.BytesIO(gzip.compress(data)),
    "bzip2": lambda data: io.BytesIO(bz2.compress(data)),
    "xz": lambda data: io.BytesIO(lzma.compress(data)),
    "gzip-in-a-pipe": lambda data: _pipe(gzip.compress(data)),
}

_DAMAGED: Final[dict[str, bytes]] = {
    "no-tar": b"this is no tar, but some text that is longer than a block of one. " * 20,
    "cut-off-in-a-header": _TAR[:2700],
    "cut-off-in-a-payload": _TAR[: len(_TAR) // 2 + 100],
    "cut-off-in-the-last-file": _TAR[: -(1024 + 512)],
    "a-flipped-bit-in-a-header": _TAR[:1030] + bytes([_TAR[1030] ^ 1]) + _TAR[1031:],
    "it-leaves-the-root": tar_of([file(b"ok", b"1"), file(b"../../../outside", b"2")]),
    "a-hard-link-to-nothing": tar_of([file(b"ok", b"1"), hard_link(b"twin", b"nowhere")]),
}


class StreamTests(ConformanceTests):
    """Tests of `apply_diff` and its stream."""

    group: ClassVar = "streams"

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_an_export_is_the_registered_tar(self, bench: DriverRig, dialect: str) -> None:
        """The store exports every byte of the tar that was registered, whatever program has written the tar.

        Otherwise its digest is another one, and no registry accepts the image.
        """
        with bench.store() as store:
            layer = store.register(io.BytesIO(DIALECTS[dialect]), allow_empty=True)
            must_be_same_bytes(read_all(layer.tar_stream()), DIALECTS[dialect], f"the export of the tar {dialect!r}")
            store.release(layer)

    def test_an_export_of_a_tar_with_deletions(self, bench: DriverRig) -> None:
        """The store exports every byte of a layer that replaces and deletes files of its parents.

        Otherwise only base layers can be pushed.
        """
        tar = tar_of([file(b"d/001", b"changed"), whiteout(b"d/002"), file(b"d/003"), opaque(b"e")])
        with bench.store() as store:
            base = store.register(io.BytesIO(_TAR))
            top = store.register(io.BytesIO(tar), base.chain_id)
            must_be_same_bytes(read_all(top.tar_stream()), tar, "the export of the upper layer")
            must_be_same_bytes(read_all(base.tar_stream()), _TAR, "the export of the parent")
            store.release(base)
            store.release(top)

    @pytest.mark.parametrize("source", _SOURCES)
    def test_a_layer_from_any_source(self, bench: DriverRig, source: str) -> None:
        """A layer that is compressed, or comes through a pipe or in small pieces, is the same layer.

        Otherwise an import works from a file and fails from a network.
        """
        with bench.store() as store, _SOURCES[source](_TAR) as stream:
            layer = store.register(stream)
            must_be_same_bytes(read_all(layer.tar_stream()), _TAR, f"the export of a layer from the source {source}")
            with store.driver.mounted(layer.cache_id) as path:
                assert sorted(os.listdir(path)) == ["d", "last"]
            store.release(layer)

    @pytest.mark.parametrize("chunk", [1, 511, 513, 1 << 20])
    def test_a_tar_in_pieces_of_any_length(self, bench: DriverRig, chunk: int) -> None:
        """`apply_diff` makes the same tree from a tar that arrives in pieces of any length.

        Otherwise layers are damaged at random, and never in a test.
        """
        items = _FILES[:30]
        layer = bench.new_id()
        bench.driver.create(layer, "", {})
        stream = stream_of(tar_of(items), chunk)
        bench.driver.apply_diff(layer, "", stream)
        stream.drain()
        must_be(bench.tree(layer), expected_tree(items), f"a layer that arrived {chunk} bytes at a time", root=False)

    def test_files_are_complete_when_apply_diff_returns(self, bench: DriverRig) -> None:
        """When `apply_diff` returns, all files of the layer are there, complete.

        Otherwise a container that is started at once finds half of its image.
        """
        content = random.Random(7).randbytes(1 << 20)
        items = [directory(b"many"), *(file(b"many/%d" % number, content) for number in range(6))]
        layer = bench.new_id()
        bench.driver.create(layer, "", {})
        stream = stream_of(tar_of(items))
        size = bench.driver.apply_diff(layer, "", stream)
        tree = bench.tree(layer)
        assert names_of(tree) == set(expected_tree(items)), "files are missing when apply_diff returns"
        assert all(tree[b"many/%d" % number].content == shown(content) for number in range(6)), "files are cut off"
        assert size == 6 << 20
        stream.drain()
        if stream.read_raw:
            bench.note("apply_diff reads the stream as bytes; the entries that core has parsed are faster")

    @pytest.mark.parametrize("damage", _DAMAGED)
    def test_a_damaged_tar(self, bench: DriverRig, damage: str) -> None:
        """A damaged tar raises InvalidLayer, from the driver as from the store, and leaves nothing.

        Otherwise half a layer is taken for a whole one.
        """
        with bench.store() as store:
            before = store.driver.layer_ids()
            with pytest.raises(InvalidLayer):
                store.register(io.BytesIO(_DAMAGED[damage]))
            assert store.layers() == {}
            assert store.driver.layer_ids() == before, "the driver still has the layer of a damaged tar"
        assert not bench.mounts(), f"a damaged tar leaves mounted: {bench.mounts()}"
        assert not bench.open_files(), f"a damaged tar leaves open: {bench.open_files()}"

    def test_a_source_that_fails(self, bench: DriverRig) -> None:
        """An error of the source passes through `apply_diff` to the caller, and nothing is left.

        Otherwise a pull that the network has interrupted is stored as a layer.
        """
        with bench.store() as store:
            before = store.driver.layer_ids()
            with pytest.raises(OSError, match="the network is gone"):
                store.register(_SlowFile(_TAR, fail_at=len(_TAR) // 2))  # type: ignore[arg-type]
            assert store.layers() == {}
            assert store.driver.layer_ids() == before, "the driver still has the layer of a source that failed"
        assert not bench.mounts(), f"a source that fails leaves mounted: {bench.mounts()}"

    def test_apply_diff_raises_errors_of_the_stream(self, bench: DriverRig) -> None:
        """`apply_diff` itself raises what reading the stream raises, and returns no size for a tar that was cut off.

        Otherwise the driver records an incomplete layer as complete.
        """
        layer = bench.new_id()
        bench.driver.create(layer, "", {})
        with pytest.raises(InvalidLayer):
            bench.driver.apply_diff(layer, "", stream_of(_DAMAGED["cut-off-in-a-payload"]))

    def test_a_tar_applied_to_a_writable_layer(self, bench: DriverRig) -> None:
        """A tar can be applied to a writable layer, also while it is mounted, and its files show there.

        Otherwise nothing can be copied into a running container.
        """
        base = bench.layer(_FILES)
        layer = bench.writable(base)
        with bench.driver.mounted(layer) as path:
            assert bench.apply(layer, base, [file(b"copied", b"in"), whiteout(b"last")]) == 2
            assert sorted(os.listdir(path)) == ["copied", "d"]
        assert {b"copied", b"d"} <= names_of(bench.tree(layer))
        assert [str(one) for one in bench.driver.changes(layer, base)] == ["A /copied", "D /last"]


def must_be_same_bytes(found: bytes, wanted: bytes, what: str) -> None:
    """Fail unless both are the same. The message names the first byte that differs."""
    if found == wanted:
        return
    shorter = min(len(found), len(wanted))
    at = next((offset for offset in range(shorter) if found[offset] != wanted[offset]), shorter)
    raise AssertionError(
        f"{what} differs from byte {at} on (block {at // 512}, offset {at % 512} in it): {found[at : at + 16]!r} where "
        f"there was {wanted[at : at + 16]!r}; it has {len(found)} bytes, and should have {len(wanted)}"
    )
