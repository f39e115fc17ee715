"""Fuzz targets: the parsers of untrusted bytes. Each accepts any bytes, and raises only documented errors."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from layerstore_core import InvalidLayer
from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.base.limits import Limit, Limits
from layerstore_core.base.reference import Reference
from layerstore_core.errors import BadRecord, InvalidImage, InvalidReference
from layerstore_core.images.formats.container import open_container
from layerstore_core.images.formats.find import find_images
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.layer_record import LayerRecord, MountRecord
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.pax import parse_records
from layerstore_core.tarsplit.codec import decode_lines
from layerstore_core.text import printable
from tests import tars

if TYPE_CHECKING:
    from layerstore_core.registry.http.answer import Answer

LIMITS: Final = Limits(Limit(1 << 30, "max_spool_size", "default"))


def tar(data: bytes) -> None:
    """Feed the tar scanner, and read every payload of an accepted tar."""
    stream = LayerStream.over(io.BytesIO(data))
    try:
        for _ in stream.entries():
            for chunk in stream.payload():
                assert len(chunk) <= len(data)
        stream.drain()
    except InvalidLayer:
        pass


def tar_with_checksums(data: bytes) -> None:
    """Feed the tar scanner blocks with valid checksums, so that random headers get further."""
    blocks = [data[start : start + 512].ljust(512, b"\0") for start in range(0, min(len(data), 1 << 14), 512)]
    tar(b"".join(map(tars.with_checksum, blocks)) + tars.END)


def pax(data: bytes) -> None:
    """Feed the parser of PAX records."""
    try:
        parse_records(data)
    except (InvalidLayer, ValueError):
        pass


def tar_split(data: bytes) -> None:
    """Feed the reader of tar-split lines, uncompressed and compressed."""
    from layerstore_core.errors import IntegrityError
    from layerstore_core.tarsplit.codec import LineReader

    for form in (data, gzip.compress(data)):
        try:
            with LineReader(io.BytesIO(form)) as lines:
                for _ in decode_lines(lines):
                    pass
        except IntegrityError:
            pass


def records(data: bytes) -> None:
    """Feed the layerdb: each file of a record in turn has these bytes."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name, "0" * 64)
        directory.mkdir()
        for field in ("diff", "size", "cache-id", "parent", "descriptor.json", "os", "mount-id", "init-id"):
            for other, content in _SOUND.items():
                (directory / other).write_bytes(content)
            (directory / field).write_bytes(data)
            for read in (
                lambda: LayerRecord.read(directory, ChainID.from_hex("0" * 64)),
                lambda: MountRecord.read(directory, "name"),
            ):
                try:
                    read()
                except BadRecord:
                    pass
            _compare_fast_path(directory, ChainID.from_hex(directory.name))


def _compare_fast_path(directory: Path, name: ChainID) -> None:
    """Check that the fast path for many records returns the same as the reader of one record."""
    parent = os.open(directory.parent, os.O_RDONLY)
    try:
        found = LayerRecord.read_usual(parent, name)
    finally:
        os.close(parent)
    assert found is None or found == LayerRecord.read(directory, name)


_SOUND: Final = {
    "diff": b"sha256:" + b"1" * 64,
    "size": b"1",
    "cache-id": b"2" * 64,
    "parent": b"sha256:" + b"3" * 64,
    "descriptor.json": b"{}",
    "os": b"linux",
    "mount-id": b"4" * 64,
    "init-id": b"4" * 64 + b"-init",
}


def image_records(data: bytes) -> None:
    """Feed the readers of Docker's image records: the list of names, and an image's config."""
    with tempfile.TemporaryDirectory() as name:
        db = ImageDB(Path(name), durable=False)
        db.names_path.write_bytes(data)
        image = ImageID.of(data)
        db.config_path(image).parent.mkdir(parents=True)
        db.config_path(image).write_bytes(data)
        for read in (db.names, lambda: db.top_layer(image)):
            try:
                read()
            except BadRecord:
                pass


def _layout(data: bytes, kind: str) -> bytes:
    """Return an OCI layout in which a manifest, an inner index or a config has these bytes, under their digest."""
    blobs = {}

    def blob(content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    entry = blob(data, {"index": "application/vnd.oci.image.index.v1+json"}.get(kind, ""))
    if kind == "config":
        entry = blob(json.dumps({"config": entry, "layers": []}).encode(), "application/vnd.oci.image.manifest.v1+json")
    index = json.dumps({"manifests": [entry]}).encode()
    files = {"index.json": index, **blobs}
    return tars.tar(*(tars.entry(name.encode(), content) for name, content in files.items()))


def image_archive(data: bytes) -> None:
    """Feed the readers of docker-archives and OCI layouts: with the bytes, and with archives of such documents."""
    with tempfile.TemporaryDirectory() as name:
        for content in (
            data,
            tars.tar(tars.entry(b"manifest.json", data)),
            tars.tar(tars.entry(b"index.json", data), tars.entry(b"oci-layout", b'{"imageLayoutVersion":"1.0.0"}')),
            tars.tar(
                tars.entry(b"manifest.json", b'[{"Config":"c","RepoTags":null,"Layers":["l"]}]'),
                tars.entry(b"c", data),
                tars.entry(b"l", data),
            ),
            _layout(data, "manifest"),
            _layout(data, "index"),
            _layout(data, "config"),
        ):
            try:
                container = open_container(io.BytesIO(content), spool_dir=Path(name), limits=LIMITS)
                try:
                    found = find_images(container)
                    assert all(str(item.reason).isprintable() for item in found.skipped)
                finally:
                    container.close()
            except (InvalidImage, InvalidLayer, InvalidReference):
                pass


def reference(data: bytes) -> None:
    """Feed the parser of image names."""
    try:
        text = str(Reference.parse(data.decode("utf-8", "surrogateescape")))
    except InvalidReference:
        return
    assert str(Reference.parse(text)) == text


def printable_text(data: bytes) -> None:
    """Feed the printer of names and JSON text, with surrogates in any order. The result is printable, in one line."""
    for text in (os.fsdecode(data), data[: len(data) & ~1].decode("utf-16-le", "surrogatepass")):
        for backslash in (True, False):
            shown = printable(text, backslash=backslash)
            assert shown.isprintable() and len(shown.splitlines()) <= 1
            shown.encode()


def registry_headers(data: bytes) -> None:
    """Feed the parsers of a registry's headers."""
    from layerstore_core.registry.http.challenges import parse_challenges
    from layerstore_core.registry.http.failures import warnings_in
    from layerstore_core.registry.http.retries import asked_pause
    from layerstore_core.registry.http.urls import BadURL, join, origin, with_query

    text = data.decode("latin-1")
    for challenge in parse_challenges(text):
        assert challenge.scheme and " " not in challenge.scheme
        assert all(":" in scope or scope for scope in challenge.scopes)
    warnings_in(text)
    pause = asked_pause(text)
    assert pause is None or pause >= 0
    for base in ("https://registry.example.com/v2/app/blobs/uploads/1?a=b", "http://[::1]:5000/v2/"):
        try:
            url = with_query(join(base, text), [("digest", "sha256:0")])
        except BadURL:
            continue
        scheme, host, _ = origin(url)
        assert scheme in ("http", "https") and host and url.isascii() and url.isprintable()


def registry_documents(data: bytes) -> None:
    """Feed the readers of manifests and of errors, as registries send them."""
    from layerstore_core.registry.http.failures import errors_in
    from layerstore_core.registry.manifests import media_type_of

    for told in ("", "application/vnd.oci.image.index.v1+json", data[:40].decode("latin-1")):
        try:
            assert media_type_of(data, told)
        except ValueError:
            pass

    class Body:
        def whole(self, limit: int) -> bytes:
            return data[:limit]

    codes, said = errors_in(cast("Answer", Body()))
    assert len(codes) <= 64 and sum(map(len, said)) < 5000


_TOC_TAR: Final = tars.tar(tars.entry(b"a", b"content"), tars.entry(b"b", b"other content"))


def table_of_contents(data: bytes) -> None:
    """Feed the readers of layers in registries: a table of contents of both forms, or a layer, has the bytes."""
    from layerstore_core.errors import LayerStoreError
    from layerstore_core.tar.entry import EntryType
    from layerstore_core.view.tree import TreeView
    from tests.images.remote.blobs import MemoryBlob, layer_of
    from tests.images.remote.lazy_formats import Packed, estargz, estargz_footer, zstd_chunked

    limit = Limit(1 << 16, "max_size", "argument")
    toc = estargz(_TOC_TAR)
    for packed in (
        estargz(_TOC_TAR, toc=data),
        zstd_chunked(_TOC_TAR, toc=data),
        Packed(data, b"", {}, {}),
        Packed(data + estargz_footer(0), b"", toc.annotations, {}),
    ):
        blob = MemoryBlob(packed.blob)
        with TreeView([layer_of(blob, packed, limit=limit)]) as view:
            try:
                for _, node in view.walk():
                    if node.type is EntryType.FILE:
                        assert sum(len(chunk) for chunk in view.chunks(node)) == node.size <= limit.bytes
            except LayerStoreError:
                pass
        assert blob.opened == 0


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (
        tar,
        tar_with_checksums,
        pax,
        tar_split,
        records,
        image_records,
        image_archive,
        reference,
        printable_text,
        registry_headers,
        registry_documents,
        table_of_contents,
    )
}
