"""Assembly by the kernels: the bytes and errors of `assemble`."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import given, settings
from hypothesis import strategies as st

from layerstore_core import LayerStore
from layerstore_core.base.kernels import engine
from layerstore_core.errors import IntegrityError
from layerstore_core.store import export
from layerstore_core.tarsplit import assemble_blocks as module
from layerstore_core.tarsplit.assemble import assemble
from layerstore_core.tarsplit.assemble_blocks import BLOCKS_KEPT, assemble_blocks
from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment, decode_blocks, encode_file, encode_segment
from layerstore_core.tree.files import TreeFiles
from tests import tars

pytestmark = pytest.mark.skipif(engine().kernels is None, reason=engine().reason)

CONTENTS = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"x" * 31, b"x" * 32, b"x" * 33, b"y" * 200]))
DAMAGES = [
    "none", "grown", "cut", "empty", "changed", "gone", "directory", "fifo", "link", "link out", "crc", "size",
    "parent", "unreadable", "line", "odd line",
]  # fmt: skip


def lines_of(pieces: list[Piece]) -> bytes:
    return b"".join(
        encode_segment(piece[0], 0) + encode_file(*piece[1:], 1) if piece[1] else encode_segment(piece[0], 0)
        for piece in pieces
    )


@pytest.mark.parametrize("damage", DAMAGES)
@settings(max_examples=15)
@given(
    parts=st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 3), CONTENTS), min_size=1, max_size=12),
    chunk=st.sampled_from([8, 32, 100, 1 << 20]),
    which=st.integers(0, 11),
    before=st.sampled_from([b"", b"./", b"/", b"d0/../"]),
)
def test_blocks_have_the_bytes_and_errors_of_assemble(
    damage: str, parts: list[tuple[bytes, int, bytes]], chunk: int, which: int, before: bytes
) -> None:
    """Each layer has one damaged file."""
    lines = b""
    which %= len(parts)
    with tempfile.TemporaryDirectory() as top:
        root = Path(top) / "root"
        for number in range(4):
            (root / f"d{number}" / "e").mkdir(parents=True)
        (Path(top) / "outside").write_bytes(b"x" * 32)
        for number, (segment, directory, content) in enumerate(parts):
            name = f"d{directory}/" + ("e/" if number % 3 else "") + f"f{number}"
            (root / name).write_bytes(content)
            size, crc = len(content), int(crc64.go_iso(content))
            if number == which:
                crc ^= damage == "crc"
                size += damage == "size"
                if damage == "line":
                    lines += b"{}\n"
                elif damage == "odd line":
                    lines += b'{"payload":"AAAA","type":2}\n'
            lines += lines_of([(segment, before + name.encode(), size, crc)])
        damage_file(root, f"d{parts[which][1]}/" + ("e/" if which % 3 else "") + f"f{which}", damage)
        plain = bytes_and_error(
            lambda files: (
                chunk
                for batch in decode_blocks([lines])
                for segment, name, size, crc in batch
                for chunk in assemble([Segment(segment), FileEntry(name, size, crc)], files)
            ),
            root,
        )
        with mock.patch.object(module, "CHUNK", chunk):
            fast = bytes_and_error(lambda files: assemble_blocks(decode_blocks([lines]), files), root)
    assert fast[1] == plain[1]
    # With an error, more or fewer of the bytes before it were yielded.
    common = min(len(fast[0]), len(plain[0])) if plain[1] else None
    assert fast[0][:common] == plain[0][:common]


def damage_file(root: Path, name: str, damage: str) -> None:
    path = root / name
    content = path.read_bytes()
    if damage in ("gone", "directory", "fifo", "link", "link out"):
        path.unlink()
    if damage == "grown":
        path.write_bytes(content + b"!")
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "changed":
        path.write_bytes(bytes(byte ^ 1 for byte in content))
    elif damage == "directory":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "link":
        path.with_name("target").write_bytes(content)
        path.symlink_to("target")
    elif damage == "link out":
        path.symlink_to("../../../outside")
    elif damage == "parent":
        path.parent.rename(root / "elsewhere")
        path.parent.symlink_to(root / "elsewhere")  # as a path of the host, it leads nowhere below the root
    elif damage == "unreadable":
        path.chmod(0)


def bytes_and_error(assembled: Callable[[TreeFiles], Iterable[bytes | memoryview]], root: Path) -> tuple[bytes, str]:
    found = bytearray()
    files = TreeFiles(root)
    try:
        for chunk in assembled(files):
            assert chunk
            found += chunk
    except (IntegrityError, PermissionError) as error:
        return bytes(found), str(error)
    finally:
        files.close()
    return bytes(found), ""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[TreeFiles, list[Piece], bytes]]:
    """A thousand files, the pieces of their tar, and the tar."""
    pieces: list[Piece] = []
    tar = b""
    for number in range(1000):
        name, content = f"d{number // 100}/f{number}", bytes([number % 251]) * (number + 1)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        pieces.append((b"head%d" % number, name.encode(), len(content), int(crc64.go_iso(content))))
        tar += pieces[-1][0] + content
    files = TreeFiles(tmp_path)
    with mock.patch.object(module, "CHUNK", 4000):
        yield files, pieces, tar
    files.close()


def collect(chunks: Iterable[bytes | memoryview], found: bytearray) -> None:
    for chunk in chunks:
        found += chunk


@pytest.mark.usefixtures("nothing_left_open")
def test_a_chunk_keeps_its_content_until_blocks_kept_more_are_requested(
    tree: tuple[TreeFiles, list[Piece], bytes],
) -> None:
    files, pieces, tar = tree
    kept: list[tuple[bytes | memoryview, bytes]] = []
    for chunk in assemble_blocks(decode_blocks([lines_of(pieces)]), files):
        kept.append((chunk, bytes(chunk)))
        time.sleep(0.001)  # threads go on meanwhile
        assert all(now == then for now, then in kept[-BLOCKS_KEPT:])
    assert b"".join(then for _, then in kept) == tar
    assert len(kept) > 2 * BLOCKS_KEPT


def test_everything_before_a_damaged_file_is_yielded_before_the_error(
    tree: tuple[TreeFiles, list[Piece], bytes], tmp_path: Path
) -> None:
    """Of two damaged files, the error is of the first in the order of the tar."""
    files, pieces, tar = tree
    (tmp_path / "d5/f500").write_bytes(b"!" * 501)
    (tmp_path / "d5/f510").unlink()
    found = bytearray()
    with pytest.raises(IntegrityError, match=r"'d5/f500'.*checksum differs"):
        collect(assemble_blocks(decode_blocks([lines_of(pieces)]), files), found)
    assert tar.startswith(found)
    assert len(found) > tar.index(b"head500") - 5000


def test_everything_before_a_damaged_line_is_yielded_before_the_error(
    tree: tuple[TreeFiles, list[Piece], bytes],
) -> None:
    files, pieces, tar = tree
    found = bytearray()
    with pytest.raises(IntegrityError, match="line 2001 is damaged"):
        collect(assemble_blocks(decode_blocks([lines_of(pieces), b"{}\n"]), files), found)
    assert found == tar


def test_large_files_and_segments_are_in_order(tmp_path: Path) -> None:
    pieces: list[Piece] = []
    tar = b""
    for number in range(60):
        content = bytes([number]) * (5000 if number % 7 == 0 else 700)
        segment = b"s" * (6000 if number % 11 == 0 else 3)
        (tmp_path / str(number)).write_bytes(content)
        pieces.append((segment, b"%d" % number, len(content), int(crc64.go_iso(content))))
        tar += segment + content
    files = TreeFiles(tmp_path)
    with mock.patch.object(module, "CHUNK", 4000):
        assert b"".join(map(bytes, assemble_blocks(decode_blocks([lines_of(pieces)]), files))) == tar
    files.close()


def test_files_below_a_link_to_a_directory(tmp_path: Path) -> None:
    """The kernel follows no link. What is after such files is filled by it again."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    crc = int(crc64.go_iso(b"content"))
    names = [b"bin/a", b"usr/bin/b", b"bin/c", b"bin/d", b"usr/bin/e"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"content")
    files = TreeFiles(tmp_path)
    pieces: list[Piece] = [(b"<%b>" % name, name, 7, crc) for name in names]
    found = b"".join(map(bytes, assemble_blocks(decode_blocks([lines_of(pieces)]), files)))
    assert found == b"".join(b"<%b>content" % name for name in names)
    files.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    with LayerStore.open(root=tmp_path / "store", driver="vfs") as store:
        yield store


TAR = tars.tar(*[tars.entry(b"d/%d" % number, b"%d" % number * 3000) for number in range(500)])


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("way", ["copied", "copied in a thread", "read", "left early", "write fails"])
def test_a_layer_is_exported_in_blocks(store: LayerStore, way: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(TAR)
    layer = store.register(tmp_path / "t")
    before = set(os.listdir("/proc/self/fd"))

    def refuse(_: bytes | memoryview) -> None:
        raise OSError(28, "No space left on device")

    with (
        mock.patch.object(module, "CHUNK", 5000),
        mock.patch.object(export, "assemble_blocks", wraps=assemble_blocks) as blocks,
    ):
        found = bytearray()
        if way.startswith("copied"):
            layer.copy_tar(found.extend, in_thread=way != "copied")
        elif way == "write fails":
            with pytest.raises(OSError, match="No space left"):
                layer.copy_tar(refuse, in_thread=True)
        else:
            with layer.tar_stream() as stream:
                found += stream.read(20000 if way == "left early" else -1)
    assert blocks.call_count == 1
    assert found == {"left early": TAR[:20000], "write fails": b""}.get(way, TAR)
    gc.collect()  # an error refers to its chunk, and so to the memory
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_files_of_a_getter_of_another_class_are_opened_by_it(store: LayerStore, tmp_path: Path) -> None:
    """A class derived from `TreeFiles` may open other files."""
    (tmp_path / "t").write_bytes(TAR)
    layer = store.register(tmp_path / "t")
    own = type("Own", (TreeFiles,), {})(store.driver.get(layer.cache_id))
    with (
        mock.patch.object(type(store.driver), "diff_getter", return_value=own),
        mock.patch.object(export, "assemble_blocks", side_effect=AssertionError),
        layer.tar_stream() as stream,
    ):
        assert stream.read() == TAR
    store.driver.put(layer.cache_id)
