"""A layer from a pipe, of which nothing is spooled, has the same files and lines as from a file."""

from __future__ import annotations

import io
from typing import BinaryIO, cast
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from layerstore_core import LayerStore
from layerstore_core.errors import InvalidLayer
from layerstore_core.streams.source import LayerSource
from layerstore_core.tarsplit.codec import FileEntry
from tests import tars
from tests.across.test_properties import empty_root, entries, good_entries
from tests.pipeline import UnpackedLayer, assemble_tar, unpack_tar
from tests.tree_state import contents

LARGE = b"large" * 1000


class Pipe(io.RawIOBase):
    """A file that cannot seek."""

    def __init__(self, data: bytes, size: int = 1 << 20) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, self._size))


def without_spool(opened: LayerSource, chunk: bytes) -> None:
    assert opened._spool is None


no_spool = mock.patch.object(LayerSource, "_write_spool", without_spool)


def joined(taken: UnpackedLayer) -> list[bytes | FileEntry]:
    """Return the lines of a layer, with neighbouring segments as one: how they are divided depends on the reads."""
    found: list[bytes | FileEntry] = [b""]
    for entry in taken.entries:
        if isinstance(entry, FileEntry):
            found += [entry, b""]
        else:
            found[-1] += entry.data  # type: ignore[operator]
    return found


def unpacked(layers: list[bytes], size: int | None) -> list[object]:
    """Unpack layers from files, or `size` bytes at a time from pipes; return what the results are."""
    found: list[object] = []
    with empty_root() as root:
        for tar in layers:
            try:
                if size is None:
                    taken = unpack_tar(tar, root)
                else:
                    with no_spool:
                        taken = unpack_tar(cast("BinaryIO", Pipe(tar, size)), root)
            except (InvalidLayer, FileExistsError) as error:
                found.append((type(error), str(error)))
                break
            assert assemble_tar(taken) == tar
            found += [joined(taken), taken.size, taken.diff_id, taken.lines_rewritten, contents(root)]
    return found


@given(
    st.lists(
        st.lists(st.one_of(good_entries, entries()), max_size=12).map(lambda parts: tars.tar(*parts)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([511, 1024, 1 << 20]),
)
@example([tars.tar(tars.entry(b"a", b"x"), tars.entry(b"a", b"y"), tars.entry(b"a", b"z"))], 1 << 20)
@example(
    [tars.tar(tars.entry(b"a", LARGE), tars.hard_link(b"b", b"a"), tars.entry(b".wh.a"), tars.entry(b".wh.b"))], 511
)
def test_layers_from_pipes_are_as_from_files(layers: list[bytes], size: int) -> None:
    assert unpacked(layers, size) == unpacked(layers, None)


def several(*parts: bytes) -> bytes:
    return tars.tar(tars.directory(b"d"), tars.entry(b"d/a", LARGE), tars.entry(b"d/b", b"b"), *parts)


#: Layers that lose files of their own, over a parent with a directory `usr/lib` and a link `lib` to it.
LOSSES = {
    "a file is replaced": several(tars.entry(b"d/a", b"x"), tars.entry(b"d/b", b"y")),
    "a file is deleted": several(tars.entry(b"d/.wh.a")),
    "a directory is deleted": several(tars.entry(b".wh.d")),
    "a directory becomes a file": several(tars.entry(b"d", b"x")),
    "a directory becomes a link": several(tars.symlink(b"d", b"usr")),
    "links are deleted": several(
        tars.hard_link(b"d/c", b"d/a"), tars.hard_link(b"e", b"d/a"), tars.entry(b"d/.wh.a"), tars.entry(b".wh.e")
    ),
    "all links are in one directory, and an inode is used again": several(
        tars.hard_link(b"d/c", b"d/a"),
        tars.entry(b".wh.d"),
        *(part for number in range(8) for part in (tars.entry(b"n", b"%d" % number * 5000), tars.entry(b".wh.n"))),
    ),
    "a file is made through the parent's link": tars.tar(tars.entry(b"lib/x", LARGE), tars.entry(b"lib/y", b"y")),
    "and replaced under its real name": tars.tar(tars.entry(b"lib/x", LARGE), tars.entry(b"usr/lib/x", b"y")),
    "and the link is replaced": tars.tar(
        tars.entry(b"lib/x", LARGE), tars.entry(b".wh.lib"), tars.directory(b"lib"), tars.entry(b"lib/x", b"z")
    ),
    "a link of its own is followed and replaced": several(
        tars.symlink(b"l", b"d"), tars.entry(b"l/new", LARGE + b"2"), tars.entry(b".wh.l"), tars.entry(b"l/new", b"w")
    ),
}
PARENT = tars.tar(
    tars.directory(b"usr"), tars.directory(b"usr/lib"), tars.symlink(b"lib", b"usr/lib"), tars.entry(b"usr/lib/p", b"p")
)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_layer_that_loses_files_of_its_own_is_exported_exactly(loss: str, store: LayerStore) -> None:
    tar = LOSSES[loss]
    with store.register(io.BytesIO(PARENT)) as parent:
        with no_spool, store.register(cast("BinaryIO", Pipe(tar)), parent.chain_id) as layer:
            exported = layer.tar_stream().read()
        assert exported == tar
