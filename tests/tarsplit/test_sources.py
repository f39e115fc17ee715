"""The files that contents in a tar came from."""

from __future__ import annotations

from array import array
from pathlib import Path
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.kernels import engine
from layerstore_core.tarsplit import assemble_blocks as module
from layerstore_core.tarsplit.assemble_blocks import assemble_blocks
from layerstore_core.tarsplit.codec import Piece, decode_blocks
from layerstore_core.tarsplit.sources import Sources, source_of
from layerstore_core.tree.files import TreeFiles
from tests.tarsplit.test_assemble_blocks import lines_of


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=12), st.sets(st.integers(0, 99)))
def test_a_place_has_the_source_that_was_added_for_it(parts: list[tuple[int, bool]], asked: set[int]) -> None:
    sources, places, at = Sources(), {}, 0
    for step, is_file in parts:
        sources.add(at, memoryview(array("q", [step, *((3, 1000 + at, 5) if is_file else (0, 0, 0))])))
        at += step
        if is_file:
            places[at] = (3, 1000 + at - step, 5)
    for place in sorted(asked):
        assert sources.at(place) == places.get(place)


@pytest.mark.skipif(engine().kernels is None, reason=engine().reason)
@pytest.mark.parametrize("room", [100, 1000, 1 << 20])
def test_sources_are_those_of_the_files_that_the_kernel_has_read(tmp_path: Path, room: int) -> None:
    """Some files are below a link, and some are larger than a block: they have no source."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    pieces: list[Piece] = []
    wanted, at = {}, 0
    for number in range(40):
        name = ("bin" if number % 5 == 3 else "usr/bin") + f"/{number}"
        data = b"%d" % number * (1 if number % 7 else 300)
        (tmp_path / name).write_bytes(data)
        pieces.append((b"head", name.encode(), len(data), int(crc64.go_iso(data))))
        at += 4
        if name.startswith("usr") and len(data) + 4 <= room:
            wanted[at] = source_of((tmp_path / name).stat())
        at += len(data)
    sources, files = Sources(), TreeFiles(tmp_path)
    with mock.patch.object(module, "CHUNK", room):
        assert sum(map(len, assemble_blocks(decode_blocks([lines_of(pieces)]), files, sources))) == at
    files.close()
    assert {place: source for place in range(at) if (source := sources.at(place)) is not None} == wanted
    assert len(wanted) > 20
