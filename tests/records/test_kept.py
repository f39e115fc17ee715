"""Records of what belongs to images: documents, origins of images and names, annotations."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from layerstore_core.base.digests import ImageID
from layerstore_core.errors import BadRecord
from layerstore_core.records.kept import KeptDocuments, Origin, Referrer, digest_of

IMAGE, OTHER = ImageID.of(b"image"), ImageID.of(b"other")
MANIFEST = b'{"schemaVersion":2}'
DIGEST = digest_of(MANIFEST)
TARGET = {"mediaType": "x/y", "digest": DIGEST, "size": len(MANIFEST), "annotations": {"a": "\u00e4"}}
ORIGIN = Origin(TARGET, {IMAGE: DIGEST}, {"k": "v"}, (Referrer(DIGEST, TARGET),), (DIGEST,))


@pytest.fixture(params=[True, False], ids=["durable", "quick"])
def kept(tmp_path: Path, request: pytest.FixtureRequest) -> KeptDocuments:
    return KeptDocuments(tmp_path, "vfs", durable=request.param)


def test_reading_kept_documents_writes_nothing(kept: KeptDocuments, tmp_path: Path) -> None:
    assert (kept.of_image(IMAGE), kept.of_name("a:1", IMAGE), kept.names(), kept.has(DIGEST)) == (None, None, {}, False)
    assert (kept.unreadable(), kept.lost(), list(kept.origins())) == ([], None, [])
    assert kept.unused([IMAGE], {"a:1": IMAGE}, kept.survey()) == []
    kept.forget([], {}, kept.survey())
    assert os.listdir(tmp_path) == []


def test_documents_are_kept_byte_for_byte_under_their_digests(kept: KeptDocuments) -> None:
    longer = digest_of(MANIFEST, "sha512")
    assert kept.put(DIGEST, MANIFEST) and kept.put(longer, MANIFEST)
    assert not kept.put(DIGEST, MANIFEST)
    assert (kept.path / "sha256" / DIGEST[7:]).read_bytes() == MANIFEST
    assert kept.read(DIGEST) == kept.read(longer) == MANIFEST
    assert kept.has(longer)


@pytest.mark.parametrize("digest", ["../../x", "sha256:../x", "md5:" + "0" * 32, "sha256:" + "A" * 64, ""])
def test_a_name_that_is_no_digest_is_refused(kept: KeptDocuments, digest: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 or sha512 digest"):
        kept.put(digest, b"")


def test_a_damaged_document_is_reported_and_replaced(kept: KeptDocuments) -> None:
    kept.put(DIGEST, MANIFEST)
    kept.path_of(DIGEST).write_bytes(b"{}")
    with pytest.raises(BadRecord, match="digest is not its name"):
        kept.read(DIGEST)
    assert not kept.put(DIGEST, MANIFEST)
    assert kept.read(DIGEST) == MANIFEST


def test_origins_come_back_as_they_were(kept: KeptDocuments) -> None:
    kept.set_image(IMAGE, ORIGIN)
    kept.set_names({"a:1": {IMAGE: ORIGIN}, "b:1": {}})
    assert kept.of_image(IMAGE) == kept.of_name("a:1", IMAGE) == ORIGIN
    assert kept.of_image(IMAGE).target == TARGET  # type: ignore[union-attr]
    assert kept.of_name("a:1", OTHER) is None
    assert list(kept.names()) == ["a:1"]
    kept.set_image(IMAGE, None)
    assert kept.of_image(IMAGE) is None


def test_half_a_character_comes_back_as_it_was(kept: KeptDocuments) -> None:
    """JSON may have half of a surrogate pair as an escape: a descriptor is kept as it came."""
    origin = Origin({**TARGET, "annotations": {"a": "\ud800 \u00e9"}}, {IMAGE: DIGEST})
    kept.set_image(IMAGE, origin)
    kept.set_names({"a:1": {IMAGE: origin}})
    assert kept.of_image(IMAGE) == kept.of_name("a:1", IMAGE) == origin


def test_annotations_of_a_name_do_not_change_those_of_the_image(kept: KeptDocuments) -> None:
    kept.set_image(IMAGE, ORIGIN)
    kept.set_annotations(IMAGE, {"x": "y"}, name="b:1")
    assert kept.of_image(IMAGE) == ORIGIN
    assert kept.origin(IMAGE, "b:1") == Origin(annotations={"x": "y"})
    assert kept.origin(IMAGE, "c:1") == ORIGIN
    kept.set_annotations(OTHER, {"x": "y"})
    assert kept.origin(OTHER, "c:1") == Origin(annotations={"x": "y"})


def test_documents_without_an_origin_are_unused(kept: KeptDocuments) -> None:
    kept.put(DIGEST, MANIFEST)
    assert kept.unused([IMAGE], {"a:1": IMAGE}, kept.survey()) == [kept.path_of(DIGEST)]
    kept.set_names({"a:1": {IMAGE: ORIGIN}})
    assert kept.unused([IMAGE], {"a:1": IMAGE}, kept.survey()) == []
    partial = kept.path / "sha256" / ".tmp-0"
    partial.write_bytes(b"")
    assert kept.unused([IMAGE], {"a:1": IMAGE}, kept.survey()) == [partial]


def test_origins_are_forgotten_with_their_images_and_names(kept: KeptDocuments) -> None:
    group = Origin(TARGET, {IMAGE: DIGEST, OTHER: DIGEST})
    kept.set_image(IMAGE, ORIGIN)
    kept.set_image(OTHER, ORIGIN)
    kept.set_names({"a:1": {IMAGE: group, OTHER: ORIGIN}, "b:1": {OTHER: group}, "c:1": {IMAGE: group}})
    kept.forget([IMAGE], {"a:1": IMAGE, "b:1": OTHER}, kept.survey())
    assert kept.names() == {"a:1": {IMAGE: Origin(TARGET, {IMAGE: DIGEST})}}
    assert (kept.of_image(IMAGE), kept.of_image(OTHER)) == (ORIGIN, None)


@pytest.mark.parametrize("missing", ["manifests", "manifests/vfs/images", "manifests/vfs/names.json"])
def test_missing_origins_are_not_taken_for_none(kept: KeptDocuments, tmp_path: Path, missing: str) -> None:
    kept.put(DIGEST, MANIFEST)
    path = tmp_path / "layerstore" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    lost = kept.lost()
    assert lost is not None and "missing; restore it" in str(lost)
    assert kept.unused([IMAGE], {"a:1": IMAGE}, kept.survey()) == []
    assert [bad.path for bad in kept.unreadable()] == [lost.path]
    for action in (
        lambda: kept.put(DIGEST, MANIFEST),
        lambda: kept.set_image(IMAGE, ORIGIN),
        lambda: kept.set_names({}),
        lambda: list(kept.origins()),
    ):
        with pytest.raises(BadRecord, match="missing"):
            action()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[" * 100_000,
        "nothing",
        '{"target":{"digest":"sha256:..%s"}}' % ("0" * 62),
        '{"images":{"sha256:1":"x"}}',
        '{"documents":["../../etc/passwd"]}',
        '{"referrers":[{"subject":"x"}]}',
        '{"images":[]}',
        '{"target":3}',
        f'{{"target":{{"digest":"{DIGEST}","deep":{"[" * 200 + "]" * 200}}}}}',
    ],
)
def test_a_damaged_origin_keeps_all_documents(kept: KeptDocuments, text: str) -> None:
    kept.put(DIGEST, MANIFEST)
    kept.set_image(IMAGE, ORIGIN)
    for path, content in (
        (kept.path / "images" / IMAGE.hex, text),
        (kept.names_path, f'{{"a:1":{{"{IMAGE}":{text}}}}}'),
    ):
        before = path.read_bytes()
        path.write_text(content)
        assert [bad.path for bad in kept.unreadable()] == [path]
        assert kept.unused([IMAGE], {"a:1": IMAGE}, kept.survey()) == []
        path.write_bytes(before)
    assert kept.unreadable() == []


def test_the_file_of_an_origin_is_compact_json(kept: KeptDocuments) -> None:
    kept.set_names({"a:1": {IMAGE: Origin(annotations={"x": "y"})}})
    assert json.loads(kept.names_path.read_bytes()) == {"a:1": {IMAGE: {"annotations": {"x": "y"}}}}


def test_an_error_of_writing_names_the_document_and_leaves_nothing(
    kept: KeptDocuments, no_room: Callable[[], AbstractContextManager[None]]
) -> None:
    kept.set_names({"a:1": {IMAGE: ORIGIN}})
    with no_room(), pytest.raises(OSError, match="too large") as raised:
        kept.put(DIGEST, MANIFEST)
    assert raised.value.filename == str(kept.path_of(DIGEST))
    assert os.listdir(kept.path_of(DIGEST).parent) == []
