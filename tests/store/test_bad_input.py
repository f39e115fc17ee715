"""Input that is not a layer: it is refused with the place of the fault, and the store stays as it was."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import sys

import pytest

from layerstore_core import DiffID, InvalidLayer, LayerInput
from layerstore_core.tar.scanner import TarScanner
from tests import tars
from tests.store.layers import BASE, export, register, tar_of, tree, warm

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TAR = tars.tar(tars.directory(b"d"), tars.entry(b"d/file", b"x" * 700), tars.entry(b"last", b"y"))
#: The headers and payloads of `TAR`, as start and end: a tar that ends inside one is cut off.
VITAL = [(0, 512), (512, 1024), (1024, 1724), (2048, 2560)]


@pytest.fixture
def unchanged(store, store_root):
    """Check that the test leaves the root as it was."""
    warm(store)
    before = tree(store_root)
    yield
    assert tree(store_root) == before


@pytest.mark.usefixtures("unchanged")
def test_a_tar_cut_off_at_any_place_is_refused(store):
    for start, end in VITAL:
        for size in {start + 1, (start + end) // 2, end - 1} - {start, end}:
            with pytest.raises(InvalidLayer) as caught:
                register(store, TAR[:size])
            assert caught.value.offset is not None
            assert 0 <= caught.value.offset <= size
    for size in (
        1724,
        1725,
        2048,
        2561,
        3072,
        3584,
    ):  # without end marks, or without padding: Docker accepts these, too
        layer = register(store, TAR[:size])
        assert export(layer) == TAR[:size]
        store.release(layer)


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, zstd.compress], ids=["gzip", "bzip2", "xz", "zstd"]
)
@pytest.mark.usefixtures("unchanged")
def test_a_compressed_tar_cut_off_at_any_place_is_refused(store, compress):
    whole = compress(tar_of({"file": bytes(range(256)) * 30}))
    for size in [*range(6, len(whole), max(1, len(whole) // 23)), len(whole) - 1]:
        with pytest.raises(InvalidLayer):
            register(store, whole[:size])


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
@pytest.mark.usefixtures("unchanged")
def test_a_damaged_compressed_tar_is_refused(store, compress):
    whole = bytearray(compress(tar_of({"file": bytes(range(256)) * 30})))
    whole[len(whole) // 2] ^= 0x55
    with pytest.raises(InvalidLayer):
        register(store, bytes(whole))


EMPTY = {
    "plain": b"",
    "gzip": gzip.compress(b""),
    "bzip2": bz2.compress(b""),
    "xz": lzma.compress(b""),
    "zstd": zstd.compress(b""),
    "two gzip streams": gzip.compress(b"") * 2,
}


class Pipe(io.BytesIO):
    def seekable(self):
        return False


@pytest.mark.parametrize("opened", [io.BytesIO, Pipe])
@pytest.mark.parametrize("kind", EMPTY)
def test_empty_input_is_a_layer_only_with_allow_empty(store, store_root, kind, opened):
    warm(store)
    before = tree(store_root)
    with pytest.raises(InvalidLayer, match="it is empty"):
        store.register(opened(EMPTY[kind]))
    assert tree(store_root) == before
    layer = store.register(opened(EMPTY[kind]), allow_empty=True)
    assert export(layer) == b""
    store.release(layer)


@pytest.mark.parametrize("zeros", [512, 1024, 10240])
def test_a_tar_of_zero_blocks_only_is_an_empty_layer(store, zeros):
    layer = register(store, bytes(zeros))
    assert export(layer) == bytes(zeros)
    store.release(layer)


def test_empty_input_is_a_layer_of_a_chain_if_its_digest_is_given(store):
    digest = DiffID.from_hex(hashlib.sha256(b"").hexdigest())
    layer = store.register_chain([LayerInput(lambda: io.BytesIO(b""), digest, "layer 1")])
    assert export(layer) == b""
    other = DiffID.from_hex(hashlib.sha256(tars.END).hexdigest())
    with pytest.raises(InvalidLayer, match="digest"):
        store.register_chain([LayerInput(lambda: io.BytesIO(b""), other, "layer 1")])
    store.release(layer)


def test_empty_input_is_applied_to_a_writable_layer_only_with_allow_empty(store):
    with store.create_rw_layer("w", "") as rw:
        with pytest.raises(InvalidLayer, match="it is empty"):
            rw.apply_diff(io.BytesIO(b""))
        assert rw.apply_diff(io.BytesIO(b""), allow_empty=True) == 0
        assert rw.apply_diff(io.BytesIO(tars.END)) == 0


PACKED = {
    "lz4": b"\x04\x22\x4d\x18\x64\x40\xa7",
    "lzip": b"LZIP\x01\x0c",
    "lzma": b"\x5d\0\0\x80\0" + b"\xff" * 8,
    "compress (.Z)": b"\x1f\x9d\x90",
    "lzop": b"\x89LZO\0\r\n\x1a\n",
    "snappy": b"\xff\x06\0\0sNaPpY",
    "zip": b"PK\x03\x04\x14\0",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "gzip": gzip.compress(b"x"),
}


@pytest.mark.parametrize("size", [100, 600, 5000])
@pytest.mark.parametrize("name", PACKED)
@pytest.mark.usefixtures("unchanged")
def test_a_compression_that_is_not_supported_is_named(store, name, size):
    packed = PACKED[name].ljust(size, b"\x77")
    given = gzip.compress(packed) if name == "gzip" else packed
    with pytest.raises(InvalidLayer) as caught:
        register(store, given)
    assert "not a tar: " in caught.value.reason
    assert f"with {name}" in caught.value.reason


@pytest.mark.parametrize("start", [b"LZIP", b"]\0\0", b"PK", b"7z", b"LRZI"])
def test_a_tar_whose_first_name_starts_like_a_compressed_file_is_a_tar(store, start):
    tar = tars.tar(tars.entry(start, b"x"))
    layer = register(store, tar)
    assert export(layer) == tar
    store.release(layer)


def test_an_empty_path_is_reported_as_empty(store):
    with pytest.raises(FileNotFoundError, match="path of the layer's tar is empty"):
        store.register("")


def changed(tar, offset, data):
    return tar[:offset] + data + tar[offset + len(data) :]


@pytest.mark.parametrize(
    ("tar", "entry"),
    [
        (b"this is no tar" * 100, None),
        (b"x", None),
        (b"\x1f\x8b", None),
        (changed(BASE, 1, b"X"), None),
        (changed(BASE, 148, b"777777"), None),
        (tars.tar(tars.entry(b"ok", b"ok"), b"junk" * 128), b"ok"),
        (tars.tar(tars.entry(b"../escape", b"x")), b"../escape"),
        (tars.tar(tars.entry(b"a/../../escape", b"x")), b"a/../../escape"),
        (tars.tar(tars.hard_link(b"link", b"../../etc/passwd")), b"link"),
        (tars.tar(tars.hard_link(b"link", b"missing")), b"link"),
        (tars.tar(tars.entry(b".wh.")), b".wh."),
        (tars.tar(tars.entry(b".wh..")), b".wh.."),
        (tars.tar(tars.entry(b".wh...")), b".wh..."),
        (tars.tar(tars.entry(b"file", b"x"), tars.entry(b"file/below", b"x")), b"file/below"),
        (tars.tar(tars.long_name(b"n" * 300), tars.entry(b"n", b"")), b"n" * 300),
    ],
    ids=range(15),
)
@pytest.mark.usefixtures("unchanged")
def test_an_invalid_tar_is_refused_with_its_entry(store, tar, entry):
    with pytest.raises(InvalidLayer, match=r"^invalid layer: ") as caught:
        register(store, tar)
    assert caught.value.reason
    assert caught.value.entry == entry


@pytest.mark.usefixtures("unchanged")
def test_an_invalid_tar_leaves_no_reference_to_its_parent(store):
    base = register(store, BASE)
    with pytest.raises(InvalidLayer):
        register(store, TAR[:700], base)
    assert store.holders(base.chain_id) == ["1 open handle(s)"]
    store.release(base)


def test_a_link_to_a_file_of_the_parent_is_no_way_to_a_directory(store):
    """The file is not in the tree that overlay2 unpacks into: the error names the entry all the same."""
    parent = register(store, tars.tar(tars.entry(b"a", b"a")))
    for before in ([], [tars.entry(b"b", b"b")]):
        layer = tars.tar(*before, tars.symlink(b"b", b"a"), tars.entry(b"b/a", b"x"))
        with pytest.raises(InvalidLayer, match="directory") as caught:
            register(store, layer, parent)
        assert caught.value.entry == b"b/a"
    assert list(store.layers()) == [parent.chain_id]


@pytest.mark.usefixtures("unchanged")
def test_the_error_of_a_stream_is_raised_with_a_note(store):
    """The stream's own error is raised, with a note that says what was being done."""

    class Failing(io.RawIOBase):
        def __init__(self):
            self._file = io.BytesIO(TAR)

        def readable(self):
            return True

        def readinto(self, buffer):
            if self._file.tell() > 600:
                raise OSError(5, "Input/output error", "the disk")
            return self._file.readinto(memoryview(buffer)[:600])

    with pytest.raises(OSError, match="the disk") as caught:
        store.register(Failing())
    assert any(note.startswith("while reading") for note in caught.value.__notes__)


def test_a_path_without_a_file_is_refused(store, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.tar"):
        store.register(tmp_path / "missing.tar")
    with pytest.raises(IsADirectoryError):
        store.register(tmp_path)


@pytest.mark.usefixtures("unchanged")
def test_bytes_after_the_end_of_the_tar_belong_to_the_layer(store):
    """The driver does not read them, but the store must."""
    tar = TAR + b"trailing" * 1000
    layer = register(store, tar)
    assert export(layer) == tar
    store.release(layer)


def test_the_scanner_finds_the_offsets_of_the_cuts():
    """`VITAL` has the offsets at which the scanner finds entries."""
    file = io.BytesIO(TAR)
    scanner = TarScanner(lambda: file.read(100))
    offsets = []
    while (found := scanner.next_entry()[1]) is not None:
        offsets.append(found.offset)
        for _ in scanner.payload():
            pass
    assert offsets == [0, 512, 2048]
