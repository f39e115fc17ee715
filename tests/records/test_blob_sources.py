"""Docker's records of the compressed blobs of layers, and of the repositories that have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerstore_core.base.digests import DiffID
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from layerstore_core.records.imagedb import ImageDB

LAYER = DiffID.from_hex("1" * 64)
FIRST, SECOND = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
RECORD = Path("distribution/v2metadata-by-diffid/sha256") / LAYER.hex


def test_the_newest_source_comes_first(tmp_path: Path) -> None:
    sources = BlobSources(tmp_path)
    assert sources.of(LAYER) == []
    sources.add(LAYER, [BlobSource(FIRST, "localhost:5000/a"), BlobSource(SECOND, "localhost:5000/a")])
    sources.add(LAYER, [BlobSource(FIRST, "docker.io/library/debian")])
    sources.add(LAYER, [BlobSource(FIRST, "localhost:5000/a")])
    assert [(one.digest, one.repository) for one in sources.of(LAYER)] == [
        (FIRST, "localhost:5000/a"),
        (FIRST, "docker.io/library/debian"),
        (SECOND, "localhost:5000/a"),
    ]
    assert (sources.diff_id(FIRST), sources.diff_id(SECOND)) == (LAYER, LAYER)


def test_the_format_is_dockers_and_what_docker_has_noted_stays(tmp_path: Path) -> None:
    (tmp_path / RECORD).parent.mkdir(parents=True)
    noted = {"Digest": FIRST, "SourceRepository": "docker.io/library/debian", "HMAC": "5f"}
    (tmp_path / RECORD).write_text(json.dumps([noted, {"Digest": SECOND, "SourceRepository": "quay.io/a", "HMAC": ""}]))
    sources = BlobSources(tmp_path)
    sources.add(LAYER, [BlobSource(FIRST, "docker.io/library/debian")])
    assert json.loads((tmp_path / RECORD).read_text())[-1] == noted
    for number in range(60):
        sources.add(LAYER, [BlobSource(FIRST, f"quay.io/{number}")])
    assert len(json.loads((tmp_path / RECORD).read_text())) == 50
    assert sources.of(LAYER)[0].repository == "quay.io/59"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'[1, null, {"Digest": 3}, {"Digest": "sha256:x", "SourceRepository": "a"}]',
        json.dumps([{"Digest": FIRST, "SourceRepository": "a" * 1000}]).encode(),
        b" " * (1 << 20),
    ],
)
def test_a_damaged_record_is_as_none_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD).parent.mkdir(parents=True)
    (tmp_path / RECORD).write_bytes(content)
    sources = BlobSources(tmp_path)
    assert sources.of(LAYER) == []
    sources.add(LAYER, [BlobSource(FIRST, "quay.io/a")])
    assert sources.of(LAYER) == [BlobSource(FIRST, "quay.io/a")]


def test_a_layer_of_a_blob_is_known_only_where_the_record_is_sound(tmp_path: Path) -> None:
    sources = BlobSources(tmp_path)
    ImageDB(tmp_path).record_blob(FIRST, LAYER)
    assert sources.diff_id(FIRST) == LAYER
    (tmp_path / "distribution/diffid-by-digest/sha256" / FIRST[7:]).write_text("../../x")
    assert sources.diff_id(FIRST) is None
    assert sources.diff_id("sha256:../../x") is None
    assert sources.diff_id(f"sha512:{'a' * 128}") is None


def test_what_a_killed_process_has_left_is_found(tmp_path: Path) -> None:
    BlobSources(tmp_path).add(LAYER, [BlobSource(FIRST, "quay.io/a")])
    left = (tmp_path / RECORD).parent / ".tmp-0123"
    left.write_bytes(b"")
    assert ImageDB(tmp_path).half_done() == [left]


def test_records_of_layers_that_are_gone_are_removed(tmp_path: Path) -> None:
    sources, other = BlobSources(tmp_path), DiffID.from_hex("2" * 64)
    sources.add(LAYER, [BlobSource(FIRST, "quay.io/a")])
    sources.add(other, [BlobSource(SECOND, "quay.io/a")])
    damaged = tmp_path / "distribution/diffid-by-digest/sha256" / ("c" * 64)
    damaged.write_text("no diff ID")
    stranger = damaged.with_name("notes")
    stranger.write_text("mine")
    sources.keep_only([LAYER])
    assert (sources.diff_id(FIRST), sources.of(LAYER)) == (LAYER, [BlobSource(FIRST, "quay.io/a")])
    assert (sources.diff_id(SECOND), sources.of(other)) == (None, [])
    assert sorted(path.name for path in damaged.parent.iterdir()) == [FIRST[7:], "notes"]
    sources.keep_only([])
    sources.keep_only([])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes"]
