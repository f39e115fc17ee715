"""Assembly of a tar: the exact bytes, or an error that names the file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import pytest
from fastcrc import crc64

from layerstore_core.errors import IntegrityError
from layerstore_core.tarsplit.assemble import assemble
from layerstore_core.tarsplit.codec import FileEntry, Segment
from layerstore_core.tree.files import TreeFiles

CONTENT = bytes(range(256)) * 10000  # several chunks


class Files:
    """Getter of files in memory, which records the files that it has opened."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.opened: list[BinaryIO] = []

    def open(self, name: bytes) -> BinaryIO:
        if name.decode() not in self.files:
            raise FileNotFoundError(2, "No such file", name)
        self.opened.append(io.BytesIO(self.files[name.decode()]))
        return self.opened[-1]


def entry(name: bytes, content: bytes) -> FileEntry:
    return FileEntry(name, len(content), int(crc64.go_iso(content)))


def test_segments_and_files_are_assembled_in_order() -> None:
    files = Files(a=CONTENT, b=b"b")
    entries = [
        Segment(b"1"),
        entry(b"a", CONTENT),
        Segment(b""),
        FileEntry(b"absent"),
        entry(b"b", b"b"),
        Segment(b"2"),
    ]
    chunks = list(assemble(entries, files))
    assert b"".join(chunks) == b"1" + CONTENT + b"b2"
    assert all(chunks)
    assert all(file.closed for file in files.opened)


@pytest.mark.parametrize(
    ("now", "how"),
    [
        (CONTENT[:-1], "size is no longer 2560000"),
        (CONTENT + b"x", "size is no longer 2560000"),
        (b"", "size is no longer"),
        (b"!" + CONTENT[1:], "checksum differs"),
        (CONTENT[:-1] + b"!", "checksum differs"),
    ],
)
def test_the_error_for_a_changed_file_names_it(now: bytes, how: str) -> None:
    files = Files(**{"d/f": now})
    with pytest.raises(IntegrityError, match=f"'d/f'.*{how}"):
        list(assemble([entry(b"d/f", CONTENT)], files))
    assert all(file.closed for file in files.opened)


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("kind", ["absent", "directory", "fifo", "below a file", "loop", "dangling", "link out"])
def test_the_error_for_a_missing_file_names_it(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"x")
    path = root / "d/f"
    {
        "absent": lambda: None,
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "below a file": lambda: (path.parent.rmdir(), path.parent.touch()),
        "loop": lambda: path.symlink_to("f"),
        "dangling": lambda: path.symlink_to("nowhere"),
        "link out": lambda: path.symlink_to("../../outside"),
    }[kind]()
    files = TreeFiles(root)
    try:
        with pytest.raises(IntegrityError, match=r"the layer's file 'd/f' is not what was registered"):
            list(assemble([entry(b"d/f", b"x")], files))
    finally:
        files.close()


def test_names_that_are_not_utf8_are_escaped_in_errors() -> None:
    class Nothing(Files):
        def open(self, name: bytes) -> BinaryIO:
            raise NotADirectoryError(20, "Not a directory", name)

    with pytest.raises(IntegrityError, match=r"'\\\\xff'"):
        list(assemble([entry(b"\xff", b"x")], Nothing()))


def test_other_errors_of_opening_a_file_are_raised_unchanged() -> None:
    class Forbidden(Files):
        def open(self, name: bytes) -> BinaryIO:
            raise PermissionError(13, "Permission denied", name)

    with pytest.raises(PermissionError):
        list(assemble([entry(b"a", b"x")], Forbidden()))


def test_stopping_early_closes_the_file() -> None:
    files = Files(a=CONTENT)
    chunks = assemble([entry(b"a", CONTENT)], files)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert files.opened[0].closed


@pytest.mark.parametrize("name", [b"a\0b", b"x" * 300, b"y/" * 3000 + b"z"])
def test_a_name_that_no_file_can_have_is_an_error_that_names_it(name: bytes, tmp_path: Path) -> None:
    files = TreeFiles(tmp_path)
    with pytest.raises(IntegrityError, match="is not what was registered"):
        list(assemble([FileEntry(name, 5, 1)], files))
    files.close()
