"""Tables of contents that are wrong, or made to do harm: each gives an error, with bounded work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import InvalidLayer
from layerstore_core.images.remote.lazy import source, toc_layer
from layerstore_core.images.remote.lazy.document import MAX_VALUE, read_entries
from layerstore_core.images.remote.lazy.place import place_of
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import d, f, link, sym
from tests.images.remote.blobs import MemoryBlob, layer_of, view_of
from tests.images.remote.lazy_formats import (
    Document,
    Packed,
    deflate_bomb,
    estargz,
    estargz_footer,
    pack,
    zstd_chunked,
)

TAR = tars.tar(d(b"etc"), f(b"etc/os", b"base\n"), f(b"big", os.urandom(100_000)), sym(b"lib", b"etc"))
Edit = Callable[[Document], object]


def entry(document: Document, name: str) -> Document:
    found: Document = next(item for item in document["entries"] if item["name"] == name)
    return found


def changed(name: str, **fields: Any) -> Edit:
    """Return a function that changes an entry; `None` removes a field."""

    def edit(document: Document) -> None:
        item = entry(document, name)
        item.update(fields)
        for key, value in fields.items():
            if value is None:
                del item[key]

    return edit


def added(**fields: Any) -> Edit:
    return lambda document: document["entries"].append({"name": "new", "type": "reg", **fields})


def read_all(packed: Packed) -> tuple[dict[bytes, bytes], MemoryBlob]:
    """Return the contents of all files of a layer."""
    view, (blob,) = view_of(packed)
    with view:
        return {
            path: b"".join(view.chunks(node)) for path, node in view.walk(follow=False) if node.type.value == "file"
        }, blob


WRONG: dict[str, tuple[Edit, str]] = {
    "offset after the contents": (changed("etc/os", offset=1 << 40), "where there are no contents"),
    "negative offset": (changed("etc/os", offset=-5), "offset is '-5'"),
    "offset is a text": (changed("etc/os", offset="1"), "offset is '1'"),
    "offset is true": (changed("etc/os", offset=True), "offset is 'True'"),
    "offset is a fraction": (changed("etc/os", offset=1.5), "offset is"),
    "size is missing": (changed("big", size=None), "says that it is empty"),
    "size is larger": (changed("etc/os", size=6), "early|chunks of|damaged|ends"),
    "size is smaller": (changed("etc/os", size=4), "damaged"),
    "size beyond the limit": (changed("etc/os", size=1 << 50), "and the limit is"),
    "no digest": (
        lambda document: [entry(document, "etc/os").pop(key) for key in ("digest", "chunkDigest")],
        "has no digest of its content",
    ),
    "other digest": (changed("etc/os", chunkDigest=f"sha256:{'0' * 64}"), "damaged"),
    "digest of zeros only": (changed("etc/os", chunkDigest=f"sha256:{'0' * 64}", digest=None), "damaged"),
    "other digest of the whole": (changed("etc/os", chunkDigest=None, digest=f"sha256:{'0' * 64}"), "damaged"),
    "no sha256": (changed("etc/os", chunkDigest="md5:00"), "no sha256"),
    "content of another file": (
        lambda document: changed("etc/os", offset=entry(document, "big")["offset"])(document),
        "damaged",
    ),
    "middle of a stream": (
        lambda document: changed("big", offset=entry(document, "big")["offset"] + 1)(document),
        "stream|magic|header",
    ),
    "chunk of no file": (added(type="chunk", offset=90, chunkOffset=0, chunkSize=3), "belongs to no file"),
    "chunks with a gap": (
        lambda document: document["entries"].extend(
            [
                {
                    "name": "x",
                    "type": "reg",
                    "size": 9,
                    "offset": 90,
                    "chunkSize": 3,
                    "chunkDigest": "sha256:" + "0" * 64,
                },
                {"name": "x", "type": "chunk", "offset": 95, "chunkOffset": 4, "chunkDigest": "sha256:" + "0" * 64},
            ]
        ),
        "not in a row",
    ),
    "chunks that end early": (
        lambda document: document["entries"].append(
            {"name": "x", "type": "reg", "size": 9, "offset": 90, "chunkSize": 3, "chunkDigest": "sha256:" + "0" * 64}
        ),
        "chunks of 3 bytes for a file of 9",
    ),
    "chunks that overlap": (
        lambda document: document["entries"].extend(
            {
                "name": "x",
                "type": kind,
                "size": 9,
                "offset": 90,
                "chunkOffset": at,
                "chunkSize": 3,
                "chunkDigest": "sha256:" + "0" * 64,
            }
            for at, kind in ((0, "reg"), (3, "chunk"), (6, "chunk"))
        ),
        "overlap",
    ),
    "chunks that are too long": (changed("big", chunkSize=200_000), "not in a row"),
    "unknown type": (added(type="socket"), "type is 'socket'"),
    "no type": (added(type=None), "type is 'None'"),
    "no object": (lambda document: document["entries"].append(7), "is no object"),
    "no version": (lambda document: document.pop("version"), "version 'None', not 1"),
    "version 2": (lambda document: document.update(version=2), "version '2', not 1"),
    "version true": (lambda document: document.update(version=True), "not 1"),
    "name with a NUL": (added(name="a\0b"), "cannot be the name"),
    "name that is too long": (added(name="n" * 5000), "cannot be the name"),
    "name that is no text": (added(name=5), "name is no text"),
    "name with half a character": (added(name="\udc80"), "half a character"),
    "name outside of the root": (added(name="../x"), "leaves the layer's root"),
    "link that is too long": (added(type="symlink", linkName="x" * 5000), "cannot be the name"),
    "symbolic link to nothing": (added(type="symlink"), "without a target"),
    "hard link to nothing": (added(type="hardlink", linkName="nowhere"), "does not exist"),
    "hard link out of the root": (added(type="hardlink", linkName="../etc/passwd"), "not in the layer"),
    "file below a loop of links": (
        lambda document: document["entries"].extend(
            [{"name": "loop", "type": "symlink", "linkName": "loop"}, {"name": "loop/x", "type": "dir"}]
        ),
        "loop",
    ),
    "time": (added(modtime="yesterday"), "time is 'yesterday'"),
    "time of no calendar": (added(modtime="2024-13-01T00:00:00Z"), "time is"),
    "attributes": (added(xattrs={"user.x": "no base64!"}), "not in base64"),
    "attributes that are a list": (added(xattrs=["user.x"]), "not in base64"),
    "whiteout of nothing": (added(name=".wh."), "names no file"),
    "inner offset beyond the stream": (changed("etc/os", innerOffset=1 << 20), "early|cut off"),
}


@pytest.mark.parametrize(("edit", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_table_is_refused(edit: Edit, reason: str) -> None:
    with pytest.raises(InvalidLayer, match=reason) as caught:
        read_all(estargz(TAR, edit=edit))
    assert "--verify" in " ".join(getattr(caught.value, "__notes__", ["--verify"]))


def test_duplicate_entries_are_as_in_a_tar() -> None:
    def twice(document: Document) -> None:
        document["entries"].append({**entry(document, "big"), "name": "etc/os"})
        document["entries"].append({"name": "lib", "type": "dir", "mode": 0o700})

    contents, _ = read_all(estargz(TAR, edit=twice))
    assert contents[b"etc/os"] == contents[b"big"]
    view, _ = view_of(estargz(TAR, edit=twice))
    with view.open(b"etc/os") as file:
        assert file.read() == contents[b"big"]


def test_no_more_is_decompressed_than_the_size_says(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = deflate_bomb(64 << 20)
    packed = estargz(TAR)
    start = entry(packed.toc, "etc/os")["offset"]
    blob = packed.blob[:start] + bomb + packed.blob[start:]

    def shift(document: Document) -> None:
        for item in document["entries"]:
            if item.get("offset", 0) > start:
                item["offset"] += len(bomb)

    shifted = estargz(TAR, edit=shift, footer=lambda offset: estargz_footer(offset + len(bomb)))
    blob = shifted.blob[:start] + bomb + shifted.blob[start:]
    produced = 0
    from layerstore_core.streams import compression

    original = compression.decompress

    def counting(read: Any, name: str) -> Any:
        inner = original(read, name)

        def chunk() -> bytes:
            nonlocal produced
            data = inner()
            produced += len(data)
            return data

        return chunk

    monkeypatch.setattr(toc_layer, "decompress", counting)
    memory = MemoryBlob(blob)
    view = TreeView([layer_of(memory, shifted)])
    with view, view.open(b"etc/os") as file, pytest.raises(InvalidLayer, match="damaged"):
        file.read()
    assert produced <= compression.CHUNK
    assert memory.received < 70_000


@pytest.mark.parametrize(
    ("footer", "streamed"),
    [
        (b"\0" * 51, True),
        (b"", True),
        (estargz_footer(1 << 60), True),
        (estargz_footer(0), False),
        (estargz_footer(3), False),
    ],
)
def test_footer_that_leads_nowhere(footer: bytes, streamed: bool) -> None:
    packed = estargz(TAR, footer=lambda _: footer)
    # What is no footer of the format says nothing, so the layer is read as any other. Others are wrong.
    if not streamed:
        with pytest.raises(InvalidLayer):
            read_all(packed)
        return
    view, (blob,) = view_of(packed)
    with view, pytest.raises(InvalidLayer) if footer == b"\0" * 40 else view.open(b"etc/os") as file:
        assert file.read() == b"base\n"
    assert blob.requests[1][0] == 0


@pytest.mark.parametrize("form", ["estargz", "zstd:chunked"])
def test_table_with_another_digest_is_not_believed(form: Any) -> None:
    other = {"toc_digest" if form == "estargz" else "checksum": f"sha256:{'0' * 64}"}
    with pytest.raises(InvalidLayer, match="the manifest says sha256:0000"):
        read_all(pack(TAR, form, **other))


@pytest.mark.parametrize("form", ["estargz", "zstd:chunked"])
@pytest.mark.parametrize(
    "toc", [b"", b"[]", b"{", b'{"version":1,"entries":[{]}', b"\xff", b'{"version":1} x', b"[" * 100_000]
)
def test_table_that_is_no_table_is_refused(form: Any, toc: bytes) -> None:
    with pytest.raises(InvalidLayer, match=r"table of contents"):
        read_all(pack(TAR, form, toc=toc))


@pytest.mark.parametrize(
    "position", ["0:1:1:1", "99999999:100:100:1", "1:2", "1:1:1:2", "-1:1:1:1", "1:999999999999999999:1:1"]
)
def test_position_outside_of_the_layer_is_not_used(position: str) -> None:
    packed = zstd_chunked(TAR, position=position)
    if position == "0:1:1:1":
        with pytest.raises(InvalidLayer, match="its digest is"):
            read_all(packed)
        return
    assert place_of(packed.annotations, len(packed.blob)) is None
    view, (blob,) = view_of(packed)
    with view.open(b"etc/os") as file:
        assert file.read() == b"base\n"
    assert blob.requests == [(0, len(packed.blob))]


def test_table_that_is_longer_than_announced_is_refused() -> None:
    packed = zstd_chunked(TAR)
    key = "io.github.containers.zstd-chunked.manifest-position"
    start, compressed, size, kind = packed.annotations[key].split(":")
    for wrong in (int(size) - 1, int(size) + 1, 0):
        other = zstd_chunked(TAR, position=f"{start}:{compressed}:{wrong}:{kind}")
        with pytest.raises(InvalidLayer, match="has not the announced size"):
            read_all(other)


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = estargz(TAR)
    start, end = packed.toc_range
    blobs = [MemoryBlob(packed.blob) for _ in range(3)]
    budget = source.TocBudget(2 * (end - start))
    view = TreeView([layer_of(blob, packed, budget=budget) for blob in blobs])
    with view, pytest.raises(InvalidLayer, match=f"all layers of an image may have {2 * (end - start)}"):
        view.find(b"")
    assert blobs[2].received == 51
    monkeypatch.setattr(source, "MAX_TOC", 300)
    for form in ("estargz", "zstd:chunked"):
        with pytest.raises(InvalidLayer, match="the limit is 300"):
            read_all(pack(TAR, form))  # type: ignore[arg-type]


def test_entries_and_chunks_are_bounded() -> None:
    packed = estargz(tars.tar(*(f(b"f%d" % n, b"x") for n in range(20))))
    blob = MemoryBlob(packed.blob)
    place = place_of(packed.annotations, blob.size)
    assert place is not None
    toc = source.get_toc(blob, place, source.TocBudget())
    assert toc is not None
    layer = toc_layer.TocLayer(blob, toc, 1 << 30, source.TocBudget(), max_entries=20)
    with pytest.raises(InvalidLayer, match="more than 20 entries"):
        list(layer.batches())
    with TreeView([layer_of(blob, packed)], max_entries=5) as view, pytest.raises(InvalidLayer, match="5 entries"):
        view.find(b"")
    budget = source.TocBudget(chunks=50)
    layers = [layer_of(MemoryBlob(packed.blob), packed, budget=budget) for _ in range(3)]
    for _ in range(3):  # reading a table again does not count again
        for layer in layers[:2]:  # type: ignore[assignment]
            list(layer.batches())
    assert budget.chunks == 50 - 2 * 22
    with pytest.raises(InvalidLayer, match="more than 6 chunks"):
        list(layers[2].batches())


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_table_is_read_in_pieces_of_any_size(size: int) -> None:
    document = {"a": [1, {"b": None}], "entries": [{"name": "é" * 5, "n": n} for n in range(50)], "version": 1, "z": 12}
    for text in (json.dumps(document), json.dumps(document, indent=3, ensure_ascii=False), '{"version":1}'):
        data = text.encode()
        found = list(read_entries(iter([data[at : at + size] for at in range(0, len(data), size)]), "x"))
        assert found == json.loads(text).get("entries", [])


@given(st.binary(max_size=60), st.integers(1, 20))
def test_any_bytes_are_a_table_or_refused(data: bytes, size: int) -> None:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    try:
        found = list(read_entries(iter(pieces), "x"))
    except InvalidLayer:
        return
    assert json.loads(data).get("entries", []) in (found, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("name", "type", "size", "modtime", "linkName", "mode", "uid", "xattrs", "digest", "offset", "endOffset",
          "chunkOffset", "chunkSize", "chunkDigest", "chunkType", "innerOffset", "devMajor")  # fmt: skip


@given(
    st.sampled_from(["etc/", "etc/os", "big", "lib"]),
    st.sampled_from(FIELDS),
    JSON,
    st.sampled_from(["estargz", "zstd:chunked"]),
)
def test_any_field_may_have_any_value(name: str, field: str, value: Any, form: Any) -> None:
    def edit(document: Document) -> None:
        item = next(one for one in document["entries"] if one["name"].strip("/") == name.strip("/"))
        item[field] = value

    try:
        contents, blob = read_all(pack(TAR, form, edit=edit))
    except InvalidLayer:
        return
    assert blob.opened == 0
    assert blob.received <= 2 * len(blob.data) + 1000
    assert contents.get(b"etc/os") in (b"base\n", None, b"") or field in ("name", "type")


def test_long_values_are_refused() -> None:
    for data in (
        b'{"version":1,"entries":[{"name":"' + b"x" * (MAX_VALUE + 10) + b'"}]}',
        b'{"a":' + b"9" * (MAX_VALUE + 10),
    ):
        with pytest.raises(InvalidLayer, match="longer than"):
            list(read_entries(iter([data[at : at + 65536] for at in range(0, len(data), 65536)]), "x"))


def test_hard_links_of_files_in_one_layer_share_a_node() -> None:
    packed = estargz(tars.tar(f(b"a", b"1"), link(b"b", b"a"), link(b"c", b"b")))
    view, _ = view_of(packed)
    with view:
        assert view.names_of(view.find(b"c")[1]) == [b"a", b"b", b"c"]
        with view.open(b"c") as file:
            assert file.read() == b"1"
