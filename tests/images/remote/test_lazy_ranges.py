"""What is fetched of layers: no more than a table of contents and the files, or a stream up to the file."""

from __future__ import annotations

import gzip
import os

import pytest

from layerstore_core.errors import InvalidLayer
from layerstore_core.images.remote.lazy import toc_layer
from layerstore_core.images.remote.lazy.ranges import GAP, PlannedBlob, read_range
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import SPARSE, d, f, link, sym
from tests.images.remote.blobs import MemoryBlob, layer_of, view_of
from tests.images.remote.lazy_formats import Form, Packed, digest, estargz, pack, zstd_chunked
from tests.images.remote.test_lazy_layers import gzipped

NOISE = os.urandom(300_000)
BASE = tars.tar(
    d(b"etc"), f(b"etc/os", b"base\n"), f(b"first", NOISE), d(b"usr"), f(b"usr/big", NOISE * 4),
    f(b"usr/small", b"small"), sym(b"lib", b"usr"), link(b"usr/hard", b"usr/small"), f(b"last", NOISE),
)  # fmt: skip
TOP = tars.tar(d(b"etc"), f(b"etc/.wh.gone"), f(b"etc/new", b"new\n"))
FORMS: tuple[Form, ...] = ("estargz", "zstd:chunked")


def span(packed: Packed, name: str) -> tuple[int, int]:
    """Return where the content of a file is in the layer."""
    starts = sorted({item["offset"] for item in packed.toc["entries"] if "offset" in item} | {packed.toc_range[0]})
    items = [item for item in packed.toc["entries"] if item["name"] == name]
    return items[0]["offset"], starts[starts.index(items[-1]["offset"]) + 1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", [b"usr/small", b"lib/small", b"/usr/hard", b"usr/big", b"etc/os"])
def test_table_and_the_range_of_the_file_are_fetched(form: Form, path: bytes) -> None:
    base, top = pack(BASE, form, chunk=100_000), pack(TOP, form)
    view, blobs = view_of(base, top)
    with view.open(path) as file:
        assert file.read() == {b"etc/os": b"base\n", b"usr/big": NOISE * 4}.get(path, b"small")
    name = {b"usr/big": "usr/big", b"etc/os": "etc/os"}.get(path, "usr/small")
    tables = [
        [one.toc_range] if form == FORMS[1] else [(len(one.blob) - 51, len(one.blob)), one.toc_range]
        for one in (base, top)
    ]
    assert blobs[1].requests == tables[1]
    (start, end), *others = blobs[0].requests[len(tables[0]) :]
    assert blobs[0].requests[: len(tables[0])] == tables[0]
    assert others == []
    assert start == span(base, name)[0]
    assert end <= span(base, name)[1]
    assert [blob.opened for blob in blobs] == [0, 0]


@pytest.mark.parametrize("form", FORMS)
def test_file_in_the_topmost_layer_leaves_the_others_alone(form: Form) -> None:
    view, blobs = view_of(pack(BASE, form), pack(TOP, form))
    with view.open(b"etc/new") as file:
        assert file.read() == b"new\n"
    assert blobs[0].requests == []
    assert blobs[1].received < len(blobs[1].data)


def test_missing_file_is_missing_without_reading_contents() -> None:
    view, blobs = view_of(estargz(BASE), estargz(TOP))
    for path, error in (
        (b"etc/none", FileNotFoundError),
        (b"etc", IsADirectoryError),
        (b"first/x", NotADirectoryError),
    ):
        with pytest.raises(error):
            view.open(path)
    assert not view.is_merged
    assert sum(blob.received for blob in blobs) < 4000


def test_stream_stops_at_the_file() -> None:
    view, blobs = view_of(gzipped(BASE), gzipped(TOP))
    with view.open(b"etc/os") as file:
        assert file.read() == b"base\n"
    assert blobs[0].requests == [(0, len(blobs[0].data))]
    assert blobs[0].received == len(blobs[0].data) or blobs[0].received < len(NOISE) * 4
    assert [blob.opened for blob in blobs] == [0, 0]


def test_file_in_several_readings_is_fetched_twice_at_most() -> None:
    view, blobs = view_of(gzipped(BASE))
    with view:
        for path in (b"last", b"usr/big", b"first", b"usr/hard", b"etc/os", b"usr/small") * 2:
            with view.open(path) as file:
                assert len(file.read()) > 4
        assert len(list(view.walk())) == 10
        assert len(blobs[0].requests) <= 3
    assert blobs[0].opened == 0


def test_walk_reads_a_stream_once_and_contents_fetch_it_once_more() -> None:
    view, blobs = view_of(gzipped(BASE))
    with view:
        for _ in view.walk():
            pass
        assert len(blobs[0].requests) == 1
        for path in (b"last", b"first", b"usr/hard"):
            with view.open(path) as file:
                file.read()
        assert len(blobs[0].requests) == 2


def test_verified_reading_fetches_a_layer_whole_and_once() -> None:
    view, blobs = view_of(estargz(BASE), estargz(TOP), whole=True)
    with view:
        for path in (b"etc/os", b"etc/new", b"usr/big"):
            with view.open(path) as file:
                file.read()
    assert [blob.requests for blob in blobs] == [[(0, len(blob.data))] for blob in blobs]


def test_registry_without_ranges_is_read_from_the_beginning() -> None:
    packed = estargz(BASE)
    blob = MemoryBlob(packed.blob, ranges=False)
    view = TreeView([layer_of(blob, packed)])
    with view, view.open(b"etc/os") as file:
        assert file.read() == b"base\n"
    assert blob.requests == [(0, blob.size)]


def test_ranges_with_small_gaps_are_one_request() -> None:
    def with_gap(size: int) -> Packed:
        def edit(document: dict) -> None:
            entries = document["entries"]
            at = next(n for n, item in enumerate(entries) if item["name"] == "gap")
            del entries[at]
            file = next(item for item in entries if item["name"] == "a")
            other = next(item for item in entries if item["name"] == "b")
            entries.remove(other)
            other |= {"type": "chunk", "name": "a", "chunkOffset": 3, "chunkSize": 3}
            file |= {"size": 6, "chunkSize": 3, "digest": digest(b"123456"), "endOffset": 0}
            del other["size"], other["digest"]
            entries.insert(entries.index(file) + 1, other)

        return zstd_chunked(tars.tar(f(b"a", b"123"), f(b"gap", os.urandom(size)), f(b"b", b"456")), edit=edit)

    # Three bytes are never compressed to more than 64 KiB: so much is asked for.
    for size, requests in ((GAP + (60 << 10), 1), (GAP + (68 << 10), 2)):
        view, blobs = view_of(with_gap(size))
        with view.open(b"a") as file:
            assert file.read() == b"123456"
        assert len(blobs[0].requests) == 1 + requests


def test_content_can_be_read_from_any_position() -> None:
    view, _ = view_of(estargz(BASE, chunk=100_000))
    with view.open(b"usr/big") as file:
        file.seek(250_000)
        assert file.read(10) == (NOISE * 4)[250_000:250_010]
        file.seek(0)
        assert file.read(10) == NOISE[:10]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-20], "another size"),
        (lambda data: data + b"x", "another size"),
        (lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:], "damaged"),
    ],
)
def test_stream_that_is_read_to_its_end_is_verified(change: object, reason: str, whole: bool) -> None:
    packed = gzipped(BASE)
    blob = MemoryBlob(packed.blob)
    layer = layer_of(blob, packed, whole=whole)
    blob.data = change(blob.data)  # type: ignore[operator]
    with TreeView([layer]) as view, pytest.raises(InvalidLayer, match=reason):
        view.find(b"")
    assert blob.opened == 0


@pytest.mark.parametrize("whole", [False, True])
def test_layer_with_another_diff_id_is_refused(whole: bool) -> None:
    packed = gzipped(BASE)
    layer = layer_of(MemoryBlob(packed.blob), packed, whole=whole, diff_id=f"sha256:{'0' * 64}")
    with TreeView([layer]) as view:
        with pytest.raises(InvalidLayer, match="sha256:00000"):
            view.find(b"")
        if whole:
            with pytest.raises(InvalidLayer, match="sha256:00000"):
                view.open(b"etc/os")


def test_small_layer_packed_by_several_members_is_read() -> None:
    data = gzip.compress(BASE[:1024]) + gzip.compress(BASE[1024:])
    view, _ = view_of(Packed(data, BASE, {}, {}))
    with view.open(b"etc/os") as file:
        assert file.read() == b"base\n"


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_file_in_a_stream_has_its_holes(version: str) -> None:
    content, regions = SPARSE
    sparse = tars.sparse_pax(b"sparse", content, regions, version)
    view, (blob,) = view_of(gzipped(tars.tar(sparse, f(b"next", b"next"))))
    with view:
        for path, expected in ((b"sparse", content), (b"next", b"next"), (b"sparse", content)):
            with view.open(path) as file:
                assert file.read() == expected
        assert not view.is_merged
    assert blob.opened == 0


def test_what_only_merging_can_tell_is_read_from_all_layers() -> None:
    through_link = tars.tar(f(b"lib/os", b"through a link of the layer below"))
    for packer in (gzipped, estargz):
        view, _ = view_of(packer(BASE), packer(through_link))
        with view, view.open(b"usr/os") as file:
            assert file.read() == b"through a link of the layer below"
            assert view.is_merged


def test_files_that_are_near_are_one_request_if_it_is_known_that_they_are_read() -> None:
    names = [b"f%d" % n for n in range(40)]
    packed = estargz(tars.tar(*(f(name, name * 3000) for name in names), f(b"far", NOISE * 2), f(b"last", b"last")))
    view, (blob,) = view_of(packed)
    with view:
        nodes = {path: node for path, node in view.walk() if node.type.value == "file"}
        before = len(blob.requests)
        wanted = [*names[::-3], b"last", b"far", b"last"]
        view.will_read([nodes[name] for name in wanted])
        for name in wanted:
            expected = {b"far": NOISE * 2, b"last": b"last"}.get(name, name * 3000)
            assert b"".join(view.chunks(nodes[name])) == expected
        assert len(blob.requests) - before == 1
        view.will_read([nodes[names[0]], nodes[b"last"]])
        for name in (names[0], b"last"):
            assert b"".join(view.chunks(nodes[name])) in (name * 3000, b"last")
        assert len(blob.requests) - before == 3
    assert blob.opened == 0


def test_planned_ranges_are_bounded_and_only_the_latest_are_kept() -> None:
    blob = MemoryBlob(os.urandom(100 << 10))
    planned = PlannedBlob(blob)
    planned.LARGEST = 4 << 10  # type: ignore[misc]
    ranges = [(start, start + 1000) for start in range(0, 90_000, 1000)] + [(90_000, 99_000)]
    planned.plan(reversed(ranges))
    for start, end in ranges * 2:
        assert read_range(planned, start, end) == blob.data[start:end]
    assert all(end - start <= 4 << 10 for start, end in blob.requests if (start, end) != (90_000, 99_000))
    assert len(blob.requests) == 2 * (23 + 1)
    assert read_range(planned, 500, 1500) == blob.data[500:1500]
    assert planned.open().read(10) == blob.data[:10]


def test_many_files_are_looked_up_in_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (100_000, 3):
        monkeypatch.setattr(toc_layer, "_MAX_KEPT", most)
        view, (blob,) = view_of(estargz(BASE))
        with view:
            for path in (b"etc/os", b"usr/small", b"lib/small", b"usr/hard", b"last", b"etc/os"):
                with view.open(path) as file:
                    assert len(file.read()) in (5, len(NOISE))
            assert not view.is_merged
        assert len([1 for start, end in blob.requests if end == blob.size]) == 1
