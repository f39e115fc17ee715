"""The kernel that reads the files of records, against its twin."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.digests import DiffID
from layerstore_core.records import fields
from layerstore_core.records.fields import read_fields_of_many
from tests.without_kernels import plain_way

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

FILES = (b"one", b"two", b"three")
LIMIT = 16

#: What may be at a name: content of a file, or something that is no file.
PLACES = st.one_of(st.binary(max_size=LIMIT + 2), st.sampled_from(["nothing", "directory", "link", "loop", "fifo"]))


def make(path: Path, place: bytes | str) -> None:
    if isinstance(place, bytes):
        path.write_bytes(place)
    elif place == "directory":
        path.mkdir()
    elif place == "link":
        path.symlink_to("/etc/hostname")
    elif place == "loop":
        path.symlink_to(path.name)
    elif place == "fifo":
        os.mkfifo(path)


def read(directory: Path, *bases: bytes, files: tuple[bytes, ...] = FILES) -> list[bytes | None]:
    above = os.open(directory, os.O_PATH)
    try:
        found: list[bytes | None] = kernels.read_fields(above, bases, files, 2, LIMIT)
        return found
    finally:
        os.close(above)


@given(st.lists(st.tuples(PLACES, PLACES, PLACES), max_size=4))
def test_files_are_read_as_by_the_twin(records: list[tuple[bytes | str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "_FILES", FILES)
        patch.setattr(fields, "_NEEDED", 2)
        patch.setattr(fields, "_USUAL_FIELD", LIMIT)
        # The last one does not exist.
        bases = [b"%d" % number for number in range(len(records) + 1)]
        for base, places in zip(bases, records, strict=False):
            Path(name, os.fsdecode(base)).mkdir()
            for file, place in zip(FILES, places, strict=True):
                make(Path(name, os.fsdecode(base), os.fsdecode(file)), place)
        above = os.open(name, os.O_PATH)
        expected = [fields._read_files(above, os.fsdecode(base)) for base in bases]
        os.close(above)
        assert read(Path(name), *bases) == expected


def test_a_link_in_the_place_of_a_record_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for file in FILES:
        (tmp_path / "real" / os.fsdecode(file)).write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    assert read(tmp_path, b"real", b"link", b"real/one", b"", b"..") == [b"content\0" * 3, None, None, None, None]


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null"):
        read(tmp_path, b"a\0b")
    with pytest.raises(TypeError):
        kernels.read_fields(0, ("text",), FILES, 2, LIMIT)
    with pytest.raises(ValueError, match="more than 16 names"):
        read(tmp_path, b"a", files=(b"x",) * 17)
    with pytest.raises(ValueError, match="not a length"):
        kernels.read_fields(0, (), FILES, 2, 0)
    assert kernels.read_fields(-1, (b"a",), FILES, 2, LIMIT) == [None]


@pytest.fixture
def layers(tmp_path: Path) -> tuple[int, list[str]]:
    """Make some hundred records, each tenth of them damaged; return the directory that they are in, and their names."""
    bases = []
    for number in range(400):
        diff_id = DiffID.of(b"%d" % number)
        record = tmp_path / diff_id.hex
        record.mkdir()
        (record / "diff").write_text(diff_id)
        (record / "size").write_text("none" if number % 10 == 9 else str(number))
        (record / "cache-id").write_text("c" * 64)
        if number % 7 == 0:
            (record / "descriptor.json").write_text('{"digest": "x"}')
        bases.append(diff_id.hex)
    return os.open(tmp_path, os.O_PATH), bases


def test_many_records_are_the_same_with_the_kernel_and_without(layers: tuple[int, list[str]]) -> None:
    directory, bases = layers
    with plain_way():
        expected = list(read_fields_of_many(directory, bases))
    assert expected.count(None) == 40
    assert list(read_fields_of_many(directory, bases)) == expected
    few = iter(read_fields_of_many(directory, bases))
    assert next(few) == expected[0]
    del few  # the threads that read ahead have ended before the descriptor is closed
    os.close(directory)
