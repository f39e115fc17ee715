"""Exports: the same bytes, verified while they are read, and diffs between a layer and its ancestors."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from layerstore_core import IntegrityError, LayerDoesNotExist
from layerstore_core.base.threads import rest
from tests import tars
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, record_path, register, tar_of

BIG = tar_of({"big": os.urandom(3 << 20), "small": b"small"})


def names(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return sorted(member.name for member in opened)


@pytest.mark.parametrize("size", [1, 511, 512, 1 << 20, -1, None])
def test_a_stream_can_be_read_in_any_pieces(store, size):
    layer = register(store, TOP if size == 1 else BIG)
    pieces = []
    with layer.tar_stream() as stream:
        while piece := stream.read(size):
            pieces.append(piece)
        assert stream.read(size) == b""
    assert b"".join(pieces) == (TOP if size == 1 else BIG)


def test_a_stream_can_be_read_by_tarfile(store):
    layer = register(store, BIG)
    with layer.tar_stream() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        assert [member.name for member in tar] == ["big", "small"]


def test_a_stream_may_be_closed_before_its_end(store):
    layer = register(store, BIG)
    stream = layer.tar_stream()
    assert stream.read(10) == BIG[:10]
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.read()
    assert len(store.release(layer)) == 1


def test_streams_are_independent(store):
    layer = register(store, BASE)
    with layer.tar_stream() as one, layer.tar_stream() as other:
        assert one.read(600) == BASE[:600]
        assert other.read() == BASE
        assert one.read() == BASE[600:]


@pytest.mark.parametrize("in_thread", [False, True])
def test_copy_tar_gives_the_same_bytes(store, in_thread):
    layer = register(store, BIG)
    out, threads, sizes = io.BytesIO(), set(), []

    def write(chunk):
        threads.add(threading.current_thread().name)
        out.write(chunk)

    assert layer.copy_tar(write, in_thread=in_thread, progress=sizes.append) == len(BIG)
    assert out.getvalue() == BIG
    assert threads == {"layerstore-write" if in_thread else threading.current_thread().name}
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(BIG)


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_an_error_of_the_write_function_ends_the_copy(store, in_thread, calls):
    layer = register(store, BIG)
    written = []

    def write(chunk):
        if len(written) == calls:
            raise OSError(28, "No space left on device")
        written.append(len(chunk))

    with pytest.raises(OSError, match="No space"):
        layer.copy_tar(write, in_thread=in_thread)
    assert len(written) == calls
    rest()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("layerstore-")]


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_copy_is_verified(store, in_thread):
    layer = register(store, tar_of({"file": b"content"}))
    with store.driver.mounted(layer.cache_id) as path, open(os.path.join(path, "file"), "r+b") as file:
        file.write(b"CONTENT")
    with pytest.raises(IntegrityError, match="'file' is not what was registered"):
        layer.copy_tar(lambda chunk: None, in_thread=in_thread)
    other = register(store, tar_of({"other": b"content"}))
    (record_path(layer) / "tar-split.json.gz").write_bytes((record_path(other) / "tar-split.json.gz").read_bytes())
    with store.driver.mounted(layer.cache_id) as path:
        (Path(path) / "other").write_bytes(b"content")
    with pytest.raises(IntegrityError, match=str(layer.diff_id)):
        layer.copy_tar(lambda chunk: None, in_thread=in_thread)


@pytest.mark.parametrize("large", [False, True])
def test_a_diff_getter_with_open_and_close_only(store, large, monkeypatch):
    """A third-party driver may have such a diff getter; the export gives the same bytes."""
    tar = BIG if large else TOP
    layer = register(store, tar)
    real = store.driver.diff_getter

    class Plain:
        def __init__(self, files):
            self.open, self.close = files.open, files.close

    monkeypatch.setattr(store.driver, "diff_getter", lambda layer_id: Plain(real(layer_id)))
    assert export(layer) == tar


def test_a_changed_file_in_the_driver_is_found_while_reading(store):
    """moby's TestTarStreamVerification."""
    layer = register(store, tar_of({"file": b"content"}))
    with store.driver.mounted(layer.cache_id) as path, open(os.path.join(path, "file"), "r+b") as file:
        file.write(b"CONTENT")
    with layer.tar_stream() as stream, pytest.raises(IntegrityError):
        stream.read()


@pytest.mark.parametrize("how", ["shorter", "longer", "missing", "directory", "link"])
def test_a_file_of_another_size_or_type_is_found_while_reading(store, how, tmp_path):
    layer = register(store, tar_of({"file": b"content"}))
    with store.driver.mounted(layer.cache_id) as path:
        file = os.path.join(path, "file")
        if how in ("shorter", "longer"):
            os.truncate(file, 3 if how == "shorter" else 30)
        else:
            os.unlink(file)
        if how == "directory":
            os.mkdir(file)
        if how == "link":
            (tmp_path / "outside").write_bytes(b"content")
            os.symlink(tmp_path / "outside", file)
    with layer.tar_stream() as stream, pytest.raises(IntegrityError):
        stream.read()


def test_the_tar_split_file_of_another_layer_is_refused(store):
    one, other = register(store, tar_of({"a": b"1"})), register(store, tar_of({"a": b"1", "b": b""}))
    (record_path(one) / "tar-split.json.gz").write_bytes((record_path(other) / "tar-split.json.gz").read_bytes())
    with pytest.raises(IntegrityError, match=one.diff_id):
        export(one)


def test_tar_stream_from_nothing_and_from_ancestors(store):
    base, middle, top = chain(store, BASE, MIDDLE, TOP)
    with top.tar_stream_from("") as stream:
        assert names(stream.read()) == ["bin", "bin/sh", "etc", "etc/hosts", "opt", "opt/other"]
    with top.tar_stream_from(base.chain_id) as stream:
        assert {"etc/hosts", "opt/other"} <= set(names(stream.read()))
    with top.tar_stream_from(middle.chain_id) as stream:
        assert {"opt/.wh.tool", "opt/other"} <= set(names(stream.read()))


def test_tar_stream_from_takes_only_ancestors(store):
    base, top = chain(store, BASE, MIDDLE)
    unrelated = register(store, TOP)
    for parent in (unrelated.chain_id, top.chain_id, "sha256:" + "0" * 64, "x"):
        with pytest.raises(LayerDoesNotExist, match="not an ancestor"):
            top.tar_stream_from(parent)
    with pytest.raises(LayerDoesNotExist):
        base.tar_stream_from(top.chain_id)


def test_a_tree_from_tar_stream_from_can_be_registered(store):
    *_, top = chain(store, BASE, MIDDLE, TOP)
    with top.tar_stream_from("") as stream:
        flat = store.register(stream)
    for layer in (flat, top):
        with store.driver.mounted(layer.cache_id) as path:
            assert sorted(os.listdir(path)) == ["bin", "etc", "opt"]
            assert os.listdir(os.path.join(path, "opt")) == ["other"]


def test_content_that_no_file_has_is_kept(store):
    """Names that occur twice, files deleted in the same layer, hard links with data: each is exported exactly."""
    tar = tars.tar(
        tars.entry(b"twice", b"first"),
        tars.entry(b"twice", b"second"),
        tars.entry(b"gone", b"gone"),
        tars.entry(b".wh.gone"),
        tars.hard_link(b"link", b"twice", b"data"),
        tars.entry(b"odd", b"odd", typeflag=b"Z"),
        end=tars.END + b"what follows",
    )
    layer = register(store, tar)
    assert export(layer) == tar
    with gzip.open(record_path(layer) / "tar-split.json.gz") as lines:
        assert len(lines.readlines()) > 5
    with store.driver.mounted(layer.cache_id) as path, open(os.path.join(path, "twice"), "rb") as file:
        assert file.read() == b"second"


def test_metadata_and_status_of_the_driver_are_strings(store):
    layer = register(store, BASE)
    assert layer.metadata()
    assert all(isinstance(value, str) for pair in layer.metadata().items() for value in pair)
    assert store.driver_status() == [(str(key), str(value)) for key, value in store.driver_status()]
