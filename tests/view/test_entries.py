"""`iter_entries` reads any tar from start to end, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest

from layerstore_core import EntryType, InvalidLayer, iter_entries
from tests import tars
from tests.across.chains import SPARSE, d, f, link
from tests.across.test_properties import SAMPLE

PACK = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
TAR = tars.tar(
    d(b"./d/"), f(b"d/a", b"content"), link(b"b", b"d/a"), tars.sparse_pax(b"s", *SPARSE, "1.0"), f(b".wh.x")
)


@pytest.mark.parametrize("form", PACK)
def test_entries_have_their_content(form: str, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(PACK[form](TAR))
    found = [(entry.path, entry.type, content.read()) for entry, content in iter_entries(tmp_path / "layer")]
    assert found == [
        (b"d", EntryType.DIR, b""),
        (b"d/a", EntryType.FILE, b"content"),
        (b"b", EntryType.HARDLINK, b""),
        (b"s", EntryType.FILE, SPARSE[0]),
        (b".wh.x", EntryType.FILE, b""),
    ]


def test_content_that_is_not_read_is_skipped_and_ends_with_its_entry() -> None:
    contents = []
    for entry, content in iter_entries(io.BytesIO(SAMPLE)):
        contents.append(content)
        if entry.path == b"d/pax":
            assert content.read(3) == b"con"
            assert content.readline() == b"tent"
    assert len(contents) == 10
    with pytest.raises(ValueError, match="closed"):
        contents[1].read()


def test_stream_that_gives_few_bytes_at_a_time_is_read_whole() -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.left = gzip.compress(TAR)

        def read(self, size: int | None = -1, /) -> bytes:
            data, self.left = self.left[:2], self.left[2:]
            return data

    slow = Slow()
    assert len(list(iter_entries(slow))) == 5  # type: ignore[arg-type]
    assert not slow.closed


def test_damage_is_an_error_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidLayer, match="cut off"):
        list(iter_entries(io.BytesIO(TAR[:2000])))
    with pytest.raises(InvalidLayer):
        list(iter_entries(io.BytesIO(gzip.compress(TAR)[:-9])))
    with pytest.raises(InvalidLayer, match="not a tar"):
        list(iter_entries(io.BytesIO(b"no tar" * 1000)))
    with pytest.raises(FileNotFoundError):
        list(iter_entries(tmp_path / "none"))
    with pytest.raises(TypeError):
        list(iter_entries(3))  # type: ignore[arg-type]
