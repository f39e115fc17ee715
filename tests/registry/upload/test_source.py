"""The bytes of a blob that is sent, read from any position."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.registry.upload.source import SourceFailed, UploadSource

PIECES = st.lists(st.binary(max_size=6), max_size=8)


@given(PIECES, st.data())
def test_any_range_after_any_other(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    source = UploadSource("sha256:", len(whole), lambda: pieces)
    for _ in range(4):
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, len(whole)))
        reading = source.read(start, end)
        if data.draw(st.booleans()):
            assert b"".join(reading) == whole[start:end]
        else:
            assert whole[start:end].startswith(bytes(next(reading, b"")))  # the connection broke


def test_going_on_does_not_read_again() -> None:
    begun = []

    def chunks() -> Iterator[bytes]:
        begun.append(1)
        yield from (b"abc", b"defg", b"h")

    source = UploadSource("sha256:", 8, chunks)
    assert [b"".join(source.read(start, start + 2)) for start in (0, 2, 4, 6)] == [b"ab", b"cd", b"ef", b"gh"]
    assert begun == [1]
    assert b"".join(source.read(1, 3)) == b"bc"
    assert begun == [1, 1]


@pytest.mark.parametrize("size", [2, 4])
def test_another_size_is_noticed(size: int) -> None:
    source = UploadSource("sha256:", size, lambda: [b"a", b"bc"])
    with pytest.raises(SourceFailed, match=f"{size}|ends after 3"):
        list(source.read(0, size))
