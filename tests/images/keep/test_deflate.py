"""Compressing in blocks: every reader reads it, the number of threads does not show, and it can be made again."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.digests import DiffID
from layerstore_core.images.keep.compression import Compression
from layerstore_core.images.keep.deflate import BLOCK, deflate
from layerstore_core.images.keep.recipe import Recipe, Recipes, find_recipe
from layerstore_core.streams.compression import decompress
from tests.images.archives import sha256

#: Text, and bytes that cannot be compressed: more than a block of each.
MIXED = b"".join(b"line %d of a text\n" % n for n in range(40_000)) + random.Random(7).randbytes(BLOCK + 12_345)


def inflated(stream: bytes) -> bytes:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    data = decoder.decompress(stream)
    assert decoder.eof
    assert decoder.unused_data == b""
    return data


@given(st.binary(max_size=300), st.integers(1, 40), st.integers(1, 70), st.sampled_from((1, 4, 6, 9)))
def test_blocks_are_one_stream_for_chunks_of_any_size(data: bytes, chunk: int, block: int, level: int) -> None:
    chunks = [data[n : n + chunk] for n in range(0, len(data), chunk)]
    made = b"".join(deflate(chunks, level, block, threads=1))
    assert inflated(made) == data
    assert made == b"".join(deflate([data], level, block, threads=3))


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, len(MIXED)])
def test_the_number_of_threads_does_not_show(size: int) -> None:
    found = {b"".join(deflate([MIXED[:size]], 4, BLOCK, threads=threads)) for threads in (1, 2, 5)}
    assert len(found) == 1
    assert inflated(found.pop()) == MIXED[:size]


def test_blocks_take_hardly_more_bytes_than_one_stream() -> None:
    sizes = [len(b"".join(deflate([MIXED], 6, block))) for block in (0, BLOCK)]
    assert sizes[1] < sizes[0] * 1.01


def test_an_error_of_the_source_passes_through_and_ends_the_threads() -> None:
    def source() -> itertools.chain[bytes]:
        return itertools.chain([MIXED], (1 // 0 for _ in "x"))  # type: ignore[misc]

    with pytest.raises(ZeroDivisionError):
        list(deflate(source(), 4, BLOCK, threads=3))


@pytest.mark.parametrize("size", [0, 100, BLOCK + 1, len(MIXED)])
@pytest.mark.parametrize("text", ["gzip", "gzip:1", "gzip:4", "gzip:9"])
def test_readers_read_it_and_its_recipe_is_found(tmp_path: Path, size: int, text: str) -> None:
    data, how = MIXED[:size], Compression.parse(text)
    blob = b"".join(how.compress([data]))
    assert gzip.decompress(blob) == data
    reader = decompress(io.BytesIO(blob).read, "gzip")
    assert b"".join(iter(reader, b"")) == data
    path = tmp_path / "blob.gz"
    path.write_bytes(blob)
    assert subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout == data
    recipe = find_recipe(io.BytesIO(blob), sha256(blob), len(blob), "type")
    assert recipe is not None  # of little data, several levels make the same
    assert recipe.block == BLOCK
    assert b"".join(recipe.encode([data])) == blob
    recipes = Recipes(tmp_path, "vfs")
    recipes.put(DiffID.of(data), recipe)
    assert recipes.get(DiffID.of(data)) == recipe


def test_a_block_size_of_others_is_no_recipe(tmp_path: Path) -> None:
    blob = b"".join(Compression.parse("gzip").compress([MIXED]))
    other = blob.replace(BLOCK.to_bytes(4, "little"), (1).to_bytes(4, "little"), 1)
    found = find_recipe(io.BytesIO(other), sha256(other), len(other), "type")
    assert found is None or found.block == 0
    recipes = Recipes(tmp_path, "vfs")
    recipes.put(DiffID.of(MIXED), Recipe(sha256(blob), len(blob), "type", 6, blob[:22].hex(), 1))
    assert recipes.get(DiffID.of(MIXED)) is None
