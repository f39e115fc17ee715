"""The source of a layer's bytes: files and pipes, hashed, limited, and read a second time."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import random
import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from layerstore_core.base.limits import Limit, Limits
from layerstore_core.base.threads import rest
from layerstore_core.errors import InvalidLayer
from layerstore_core.streams.source import LayerSource

DATA = bytes(range(256)) * 20000  # more than one chunk
FORMS = {"plain": lambda data: data, "gzip": lambda data: gzip.compress(data, 1)}

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def read_all(source: LayerSource) -> bytes:
    return b"".join(iter(source.read_chunk, b""))


def take_all(file: BinaryIO, spool_dir: Path) -> bytes:
    with LayerSource(file, spool_dir=spool_dir) as source:
        return read_all(source)


def pipe_with(data: bytes) -> BinaryIO:
    read, write = os.pipe()

    def feed() -> None:
        with open(write, "wb") as file:
            file.write(data)

    threading.Thread(target=feed).start()
    return open(read, "rb")


@pytest.mark.parametrize("form", FORMS)
def test_a_source_opens_and_closes_a_file_given_as_a_path(form: str, tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(FORMS[form](DATA))
    with LayerSource(path, spool_dir=tmp_path) as source:
        assert source.name == str(path)
        assert read_all(source) == DATA
        assert source.hexdigest() == hashlib.sha256(DATA).hexdigest()
        assert source.hexdigest() == hashlib.sha256(DATA).hexdigest()


def test_a_file_that_was_opened_by_a_descriptor_has_no_number_as_its_name(tmp_path: Path) -> None:
    with pipe_with(DATA) as file, LayerSource(file, spool_dir=tmp_path) as source:
        assert source.name == "the layer's stream"
        assert read_all(source) == DATA


def test_a_file_object_is_read_from_its_position_and_stays_open(tmp_path: Path) -> None:
    file = io.BytesIO(b"before" + DATA)
    file.seek(6)
    with LayerSource(file, spool_dir=tmp_path) as source:
        assert read_all(source) == DATA
        assert b"".join(source.replay().range(0, 10)) == DATA[:10]
    assert not file.closed


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_parts_of_a_layer_can_be_read_again(kind: str, form: str, tmp_path: Path) -> None:
    packed = FORMS[form](DATA)
    file: Any = io.BytesIO(packed) if kind == "file" else pipe_with(packed)
    with file, LayerSource(file, spool_dir=tmp_path) as source:
        assert read_all(source) == DATA
        replay = source.replay()
        for offset, length in ((0, 1), (1, 0), (5, 100), (105, 3 << 20), (len(DATA) - 10, 10), (len(DATA), 0)):
            assert b"".join(replay.range(offset, length)) == DATA[offset : offset + length]
        with pytest.raises(OSError, match="cut off"):
            b"".join(replay.range(len(DATA), 1))
    assert list(tmp_path.iterdir()) == []


def test_a_compressed_layer_can_be_read_again_forwards_only(tmp_path: Path) -> None:
    with LayerSource(io.BytesIO(gzip.compress(DATA)), spool_dir=tmp_path) as source:
        read_all(source)
        replay = source.replay()
        b"".join(replay.range(50, 50))
        with pytest.raises(ValueError, match="forwards only"):
            next(replay.range(10, 1))


def test_a_large_pipe_is_spooled_to_a_file_without_a_name(tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 10
    with pipe_with(data) as pipe, LayerSource(pipe, spool_dir=tmp_path) as source:
        assert read_all(source) == data
        assert list(tmp_path.iterdir()) == []
        assert b"".join(source.replay().range(9 << 20, 1 << 20)) == data[9 << 20 :]


def test_an_error_of_the_spool_says_what_was_being_done(tmp_path: Path) -> None:
    with pipe_with(b"x" * (10 << 20)) as pipe:
        source = LayerSource(pipe, spool_dir=tmp_path / "absent")
        with source, pytest.raises(FileNotFoundError) as caught:
            read_all(source)
        while pipe.read(1 << 20):  # so that the thread that writes ends
            pass
    assert any("spooling" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("form", FORMS)
def test_the_limit_of_a_layer_counts_uncompressed_bytes(form: str, tmp_path: Path) -> None:
    packed = FORMS[form](DATA)
    with LayerSource(io.BytesIO(packed), spool_dir=tmp_path, limits=limits(len(DATA))) as source:
        assert read_all(source) == DATA
    small = LayerSource(io.BytesIO(packed), spool_dir=tmp_path, limits=limits(len(DATA) - 1))
    with small, pytest.raises(InvalidLayer, match=r"larger than the limit of .*setting max_layer_size, from argument"):
        read_all(small)


def limits(layer: int | None = None, spool: int = 1 << 30) -> Limits:
    return Limits(
        Limit(spool, "max_spool_size", "default"),
        None if layer is None else Limit(layer, "max_layer_size", "argument"),
    )


@pytest.mark.parametrize(
    ("bounds", "words"), [(limits(1 << 20), "max_layer_size"), (limits(None, 1 << 20), "max_spool_size")]
)
def test_an_endless_pipe_without_content_is_refused(bounds: Limits, words: str, tmp_path: Path) -> None:
    """Empty gzip members, one after another: they never give an uncompressed byte."""

    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            return gzip.compress(b"") * 10_000

    endless = LayerSource(cast("BinaryIO", Endless()), spool_dir=tmp_path, limits=bounds)
    with endless, pytest.raises(InvalidLayer, match=words):
        read_all(endless)


def test_progress_counts_input_bytes(tmp_path: Path) -> None:
    packed = gzip.compress(DATA)
    seen: list[int] = []
    with LayerSource(io.BytesIO(packed), spool_dir=tmp_path) as source:
        source.on_progress(seen.append)
        read_all(source)
    assert seen == sorted(seen)
    assert seen[-1] == len(packed)


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f", b"\x1f\x8b"])
def test_inputs_shorter_than_a_magic_number_are_read(data: bytes, tmp_path: Path) -> None:
    with LayerSource(io.BytesIO(data), spool_dir=tmp_path, allow_empty=True) as source:
        assert source.compression is None
        assert read_all(source) == data
        assert source.hexdigest() == hashlib.sha256(data).hexdigest()


def test_the_digest_of_a_source_that_was_not_read_is_that_of_no_bytes(tmp_path: Path) -> None:
    with LayerSource(io.BytesIO(b"x"), spool_dir=tmp_path) as source:
        assert source.hexdigest() == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("length", [0, 2, 1000])
def test_a_file_in_non_blocking_mode_is_refused(length: int, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.write(write, b"x" * length)
    try:
        with open(read, "rb", buffering=0) as file, pytest.raises(BlockingIOError):
            take_all(file, tmp_path)
    finally:
        os.close(write)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LayerSource(tmp_path / "absent", spool_dir=tmp_path)


class Broken(io.BytesIO):
    """A file that fails after some reads."""

    name = "broken.tar"

    def __init__(self, good_reads: int) -> None:
        super().__init__(DATA)
        self.good_reads = good_reads

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.good_reads:
            raise OSError("the disk is gone")
        self.good_reads -= 1
        return super().read(size)


@pytest.mark.parametrize("good_reads", [0, 1, 2])
def test_an_error_of_the_file_says_what_was_being_done(good_reads: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk is gone") as caught:
        take_all(Broken(good_reads), tmp_path)
    assert caught.value.__notes__ == ["while reading broken.tar"]


def test_a_source_can_be_closed_early_and_twice(tmp_path: Path) -> None:
    source = LayerSource(io.BytesIO(DATA), spool_dir=tmp_path)
    source.read_chunk()
    source.close()
    source.close()


@pytest.mark.parametrize("given", ["path", "object", "unbuffered object"])
def test_a_large_file_is_read_ahead_in_a_thread(given: str, tmp_path: Path) -> None:
    path = tmp_path / "layer.tar"
    data = random.Random(7).randbytes(17 << 20)
    path.write_bytes(data)
    rest()
    with open(path, "rb", buffering=0 if given == "unbuffered object" else -1) as file:
        file.seek(5)
        with LayerSource(path if given == "path" else file, spool_dir=tmp_path) as source:
            assert "layerstore-pool" in {thread.name for thread in threading.enumerate()}
            found = b"".join(iter(source.read_chunk, b""))
            expected = data if given == "path" else data[5:]
            assert found == expected
            assert source.hexdigest() == hashlib.sha256(expected).hexdigest()
            assert b"".join(source.replay().range(16 << 20, 1000)) == expected[16 << 20 :][:1000]
    rest()
    assert "layerstore-pool" not in {thread.name for thread in threading.enumerate()}


def test_the_source_of_a_large_file_can_be_closed_before_its_end(tmp_path: Path) -> None:
    path = tmp_path / "layer.tar"
    path.write_bytes(bytes(40 << 20))
    with LayerSource(path, spool_dir=tmp_path) as source:
        source.read_chunk()
    rest()
    assert "layerstore-pool" not in {thread.name for thread in threading.enumerate()}


def test_a_pipe_is_not_spooled_if_its_reader_saves_payloads(tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 10
    bounds = limits(None, 1 << 20)
    absent = tmp_path / "absent"
    for form in ("plain", "gzip"):
        packed = FORMS[form](data)
        with pipe_with(packed) as pipe, LayerSource(pipe, spool_dir=tmp_path, limits=bounds) as source:
            saved = source.save_payloads()
            assert saved is not None
            assert source.save_payloads() is saved
            assert read_all(source) == data
            assert source._spool is None
            assert source.hexdigest() == hashlib.sha256(data).hexdigest()
            assert source.replay() is saved
    with pipe_with(data) as pipe, LayerSource(pipe, spool_dir=absent.parent) as source:
        source.read_chunk()
        assert source.save_payloads() is None, "its spool has begun"
        while source.read_chunk():
            pass
        assert b"".join(source.replay().range(0, 100)) == data[:100]
    with LayerSource(io.BytesIO(data), spool_dir=absent) as source:
        assert source.save_payloads() is None


def test_an_endless_pipe_without_content_is_refused_without_any_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the usual 64 MiB of empty streams takes 16 s."""
    monkeypatch.setattr("layerstore_core.streams.source._AHEAD", 4 << 20)

    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            return gzip.compress(b"") * 50_000

    with LayerSource(cast("BinaryIO", Endless()), spool_dir=tmp_path) as source:
        assert source.save_payloads() is not None
        with pytest.raises(InvalidLayer, match="next to no content"):
            read_all(source)


def test_a_pipe_is_enlarged_and_read_in_large_pieces(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as file, open(writing, "wb", buffering=0) as out:
        out.write(b"x" * 100)
        with LayerSource(file, spool_dir=tmp_path) as source:
            assert fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ) == 1 << 20
            assert source.read_chunk() == b"x" * 100
            out.write(b"y" * (1 << 20))
            assert source.read_chunk() == b"y" * (1 << 20)
