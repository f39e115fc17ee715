"""Building layers: entries, names, links, trees, tars, reproducible bytes, and what is refused."""

from __future__ import annotations

import errno
import gzip
import io
import os
import socket
import stat
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerstore_core import LayerStore
from layerstore_core.base.limits import Limit, Limits
from layerstore_core.errors import InvalidLayer, InvalidSource
from layerstore_core.images.layer import places, tar_source
from layerstore_core.images.layer.builder import LayerBuilder
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.layers import TarLayer
from layerstore_core.view.tree import TreeView
from tests import tars

needs_root = pytest.mark.needs_root
SECOND = 1_000_000_000


@pytest.fixture
def driver() -> str:
    return "vfs"


@pytest.fixture
def builder() -> Iterator[LayerBuilder]:
    with LayerBuilder() as builder:
        yield builder


def bytes_of(builder: LayerBuilder, image: Any = None) -> bytes:
    with builder.open(image) as stream:
        return stream.read()


def entries(builder: LayerBuilder, image: Any = None) -> dict[str, tuple[Any, ...]]:
    """The entries of the tar, in order: type, mode, owner, time, and content or target."""
    found: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(bytes_of(builder, image))) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            what = file.read() if file is not None else member.linkname
            assert member.name not in found
            found[member.name] = (member.type.decode(), oct(member.mode), member.uid, member.gid, member.mtime, what)
    return found


#: The metadata of the directories of an image, and how `entries` shows it.
OF_IMAGE = {"mode": 0o711, "uid": 3, "gid": 4, "mtime_ns": 5 * SECOND, "xattrs": {b"user.of": b"image"}}
KEPT = ("5", "0o711", 3, 4, 5, "")


class Tree:
    """The tree of an image: `/` for a directory, `-` for a file, else the target of a link; `__` is a slash.

    A directory `?` is one that no layer describes.
    """

    def __init__(self, **paths: str) -> None:
        self.root = SimpleNamespace(type=EntryType.DIR, linkname=b"", children={}, implied=False, **OF_IMAGE)
        for path, what in paths.items():
            kind = {"/": EntryType.DIR, "?": EntryType.DIR, "-": EntryType.FILE}.get(what, EntryType.SYMLINK)
            *parents, base = path.encode().split(b"__")
            here = self.root
            for parent in parents:
                here = here.children[parent]
            here.children[base] = SimpleNamespace(
                type=kind, linkname=what.encode(), children={}, implied=what == "?", **OF_IMAGE
            )


def test_entries_are_sorted_with_owner_mode_and_time(builder: LayerBuilder, tmp_path: Path) -> None:
    (tmp_path / "app").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "app").chmod(0o750)
    os.utime(tmp_path / "app", ns=(0, 7 * SECOND))
    builder.add_symlink("/bin", "usr/bin")
    builder.add_file("/usr/bin/app", tmp_path / "app")
    builder.add_directory("usr", mode=0o700, owner=(1, 2), mtime_ns=SECOND)
    builder.add_file("etc/motd", b"hello\n", mode=0o600, xattrs={b"user.a": b"b"})
    builder.add_whiteout("etc/old")
    builder.add_directory("srv", opaque=True)
    builder.add_hard_link("bin-app", "usr/bin/app")
    found = entries(builder)
    assert list(found) == [
        "bin", "bin-app", "etc/.wh.old", "etc/motd", "srv", "srv/.wh..wh..opq", "usr", "usr/bin/app",
    ]  # fmt: skip
    assert found["bin"] == ("2", "0o777", 0, 0, 0, "usr/bin")
    assert found["bin-app"] == ("0", "0o750", 0, 0, 7, b"#!/bin/sh\n")
    assert found["usr/bin/app"] == ("1", "0o750", 0, 0, 7, "bin-app")
    assert found["usr"] == ("5", "0o700", 1, 2, 1, "")
    assert found["etc/motd"] == ("0", "0o600", 0, 0, 0, b"hello\n")
    assert len(builder) == len(found)


def test_the_store_registers_it(store: LayerStore, builder: LayerBuilder) -> None:
    builder.add_file("etc/motd", b"hello\n")
    with builder.open() as stream, store.register(stream) as layer:
        with layer.tar_stream() as tar:
            assert tar.read() == bytes_of(builder)
        with store.create_rw_layer("rw", layer) as rw, rw.mounted() as path:
            assert Path(path, "etc/motd").read_bytes() == b"hello\n"


def test_the_order_of_calls_does_not_change_the_bytes() -> None:
    def build(order: int) -> bytes:
        with LayerBuilder(mtime_ns=5) as builder:
            for name in ("a", "b/c", "b-c", "d")[::order]:
                builder.add_file(name, name.encode())
            return bytes_of(builder)

    assert build(1) == build(-1)


def test_a_stream_can_be_read_again_from_any_position(builder: LayerBuilder) -> None:
    builder.add_file("a", bytes(range(256)) * 4000)
    whole = bytes_of(builder)
    with builder.open() as stream:
        assert stream.read(10) == whole[:10]
        assert stream.seek(5000) == stream.tell() == 5000
        assert stream.read(100) == whole[5000:5100]
        assert stream.seek(3) == 3
        assert stream.read() == whole[3:]
        assert stream.tell() == len(whole)
        with pytest.raises(io.UnsupportedOperation):
            stream.seek(0, os.SEEK_END)


def test_overrides_of_the_class_hold_for_everything(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(b"f")
    (tmp_path / "t" / "l").symlink_to("f")
    tar = tars.tar(tars.entry(b"x", b"x", uid=7, mode=0o4755, mtime=9), tars.directory(b"y"))
    with LayerBuilder(owner=(3, 4), mode=0o640, mtime_ns=8 * SECOND) as builder:
        builder.add_tree("t", tmp_path / "t", keep_owners=True)
        builder.add_tar("/", io.BytesIO(tar))
        builder.add_file("own", b"", mode=0o600, owner=(1, 1), mtime_ns=0)
        found = entries(builder)
    assert {value[1:5] for name, value in found.items() if name not in ("own", "t/l")} == {("0o640", 3, 4, 8)}
    assert found["t/l"][1:5] == ("0o777", 3, 4, 8)
    assert found["own"][1:5] == ("0o600", 1, 1, 0)


def test_a_tree_keeps_links_times_and_modes(builder: LayerBuilder, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "file").write_bytes(b"1234")
    os.link(tree / "d" / "file", tree / "d" / "again")
    (tree / "d" / "link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
    (tree / "d").chmod(0o2751)
    os.utime(tree / "d" / "file", ns=(0, 3 * SECOND))
    os.utime(tree / "d", ns=(0, 2 * SECOND))
    builder.add_tree("/opt/app", tree)
    found = entries(builder)
    assert list(found) == [
        "opt/app",
        "opt/app/d",
        "opt/app/d/again",
        "opt/app/d/file",
        "opt/app/d/link",
        "opt/app/fifo",
    ]
    assert found["opt/app/d"] == ("5", "0o2751", 0, 0, 2, "")
    assert found["opt/app/d/again"] == ("0", "0o644", 0, 0, 3, b"1234")
    assert found["opt/app/d/file"][0::5] == ("1", "opt/app/d/again")
    assert found["opt/app/d/link"][5] == "/etc/passwd"
    assert found["opt/app/fifo"][0] == "6"


@needs_root
def test_a_tree_keeps_owners_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    os.chown(tmp_path / "f", 5, 6)
    for keep, owner in ((False, (0, 0)), (True, (5, 6))):
        with LayerBuilder() as builder:
            builder.add_tree("/", tmp_path, keep_owners=keep)
            assert entries(builder)["f"][2:4] == owner


def test_directories_of_the_image_keep_their_metadata_in_a_tree(tmp_path: Path) -> None:
    (tmp_path / "etc" / "new").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "x").write_bytes(b"")
    with LayerBuilder(base=Tree(etc="/", lib="usr/lib", usr="/", usr__lib="/")) as builder:  # type: ignore[arg-type]
        builder.add_tree("/", tmp_path)
        found = entries(builder)
    assert list(found) == ["etc", "etc/new", "usr", "usr/lib", "usr/lib/x"]
    assert found["etc"] == found["usr/lib"] == KEPT
    assert found["etc/new"] != KEPT


def test_directories_above_names_of_the_layer_are_in_it_as_the_image_has_them() -> None:
    tree = Tree(tmp="/", opt="/", opt__old="/", opt__old__x="/", srv="/", unused="/", unknown="?", file="-")
    with LayerBuilder(owner=(1, 1), mode=0o600, mtime_ns=SECOND) as builder:
        builder.add_file("tmp/x", b"")
        builder.add_whiteout("opt/old")
        builder.add_file("srv/new/x", b"")
        builder.add_file("unknown/x", b"")
        builder.add_directory("unused/sub", opaque=True)
        assert "tmp" not in entries(builder)
        found = entries(builder, tree)
    assert [name for name, entry in found.items() if entry == KEPT] == ["opt", "srv", "tmp", "unused"]
    assert not {"unknown", "srv/new", "opt/old"} & set(found)
    with LayerBuilder(base=tree) as builder:  # type: ignore[arg-type]
        builder.add_whiteout("opt/old")
        builder.add_file("opt/old/x/y", b"")
        found = entries(builder)
        with tarfile.open(fileobj=builder.open()) as tar:
            assert tar.getmember("opt").pax_headers["SCHILY.xattr.user.of"] == "image"
    assert list(found) == ["opt", "opt/old", "opt/old/.wh..wh..opq", "opt/old/x", "opt/old/x/y"]
    assert [name for name, entry in found.items() if entry == KEPT] == ["opt"]


@pytest.mark.parametrize(
    ("path", "becomes"),
    [
        ("lib/x", "usr/lib/x"),
        ("abs/x", "usr/lib/x"),
        ("up/x", "etc/x"),
        ("chain/x", "usr/lib/x"),
        ("usr/lib/x", "usr/lib/x"),
        ("lib", "lib"),
        ("nowhere/x", "missing/x"),
    ],
)
def test_names_follow_the_links_of_the_image_within_its_root(path: str, becomes: str) -> None:
    tree = Tree(
        lib="usr/lib", usr="/", usr__lib="/", abs="/usr/lib", up="../../../etc", etc="/", chain="abs", nowhere="missing"
    )
    with LayerBuilder(base=tree) as builder:  # type: ignore[arg-type]
        builder.add_file(path, b"")
        parents = {"usr/lib/x": ["usr", "usr/lib"], "etc/x": ["etc"], "missing/x": ["missing"], "lib": []}
        assert list(entries(builder)) == [*parents[becomes], becomes]


def test_directories_that_the_image_lacks_get_entries() -> None:
    with LayerBuilder(base=Tree(etc="/"), owner=(1, 1), mtime_ns=SECOND) as builder:  # type: ignore[arg-type]
        builder.add_file("etc/a/b/c", b"")
        builder.add_file("etc/x", b"")
        found = entries(builder)
    assert list(found) == ["etc", "etc/a", "etc/a/b", "etc/a/b/c", "etc/x"]
    assert found["etc/a"] == found["etc/a/b"] == ("5", "0o755", 1, 1, 1, "")


def test_what_the_layer_deletes_or_replaces_is_no_longer_followed() -> None:
    with LayerBuilder(base=Tree(lib="usr/lib", usr="/", usr__lib="/", bin="usr/bin", usr__bin="/")) as builder:  # type: ignore[arg-type]
        builder.add_file("lib/before", b"")
        builder.add_whiteout("lib")
        builder.add_file("lib/after", b"")
        builder.add_directory("bin")
        builder.add_file("bin/x", b"")
        found = entries(builder)
    assert list(found) == ["bin", "bin/x", "lib", "lib/.wh..wh..opq", "lib/after", "usr", "usr/lib", "usr/lib/before"]


def test_names_follow_the_links_of_the_layer(builder: LayerBuilder) -> None:
    builder.add_file("lib/early", b"")
    builder.add_whiteout("lib")
    builder.add_symlink("lib", "usr/lib")
    builder.add_file("lib/late", b"")
    assert list(entries(builder)) == ["lib", "usr/lib/late"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../etc/x", "leave the root"),
        ("/a/../../x", "leave the root"),
        ("a/.wh.b", "means a deletion"),
        ("a/.wh..wh..opq", "means a deletion"),
        ("loop/x", "40 symbolic links"),
        ("file/x", "is a file"),
        ("/", "is a directory"),
        ("x" * 5000, "longer than 4095"),
        ("a\0b", "NUL"),
    ],
)
def test_names_that_cannot_be_used(path: str, message: str) -> None:
    with LayerBuilder(base=Tree(loop="loop", file="-")) as builder:  # type: ignore[arg-type]
        with pytest.raises(InvalidSource, match=message):
            builder.add_file(path, b"")
        assert len(builder) == 0


def test_a_name_that_is_added_again_replaces_what_it_was(builder: LayerBuilder) -> None:
    builder.add_file("a", b"1")
    builder.add_file("a", b"2")
    builder.add_file("d/below", b"")
    builder.add_file("d", b"file")
    assert {name: value[5] for name, value in entries(builder).items()} == {"a": b"2", "d": b"file"}
    builder.add_directory("d")
    builder.add_file("d/x", b"")
    assert list(entries(builder)) == ["a", "d", "d/.wh..wh..opq", "d/x"]
    builder.add_whiteout("d")
    assert list(entries(builder)) == [".wh.d", "a"]


def test_directories_that_are_made_have_the_owner_and_time_of_everything(image: TreeView) -> None:
    with LayerBuilder(base=image, owner=(5, 6), mode=0o600, mtime_ns=9 * SECOND) as builder:
        builder.add_file("new/deep/x", b"")
        builder.add_whiteout("single")
        builder.add_file("single/x", b"")
        assert {name: value[:5] for name, value in entries(builder).items()} == {
            "new": ("5", "0o755", 5, 6, 9),
            "new/deep": ("5", "0o755", 5, 6, 9),
            "new/deep/x": ("0", "0o600", 5, 6, 9),
            "single": ("5", "0o755", 5, 6, 9),
            "single/.wh..wh..opq": ("0", "0o600", 0, 0, 9),
            "single/x": ("0", "0o600", 5, 6, 9),
        }


@pytest.fixture
def image() -> Iterator[TreeView]:
    below = tars.tar(
        tars.directory(b"etc", mode=0o711),
        tars.entry(b"etc/passwd", b"users", uid=5, gid=6, mode=0o4711, mtime=7),
        tars.hard_link(b"etc/shadow", b"etc/passwd", uid=5, gid=6, mode=0o4711, mtime=7),
        tars.hard_link(b"gone", b"etc/passwd", uid=5, gid=6, mode=0o4711, mtime=7),
        tars.entry(b"single", b"1", mtime=8),
        tars.symlink(b"link", b"etc"),
    )
    with TreeView([TarLayer(partial(io.BytesIO, below))]) as view:
        yield view


def test_a_hard_link_to_a_file_of_the_image_brings_the_file_with_all_its_names(image: TreeView) -> None:
    """A program that keeps the files of each layer apart cannot link to a file of another layer."""
    with LayerBuilder(base=image) as builder:
        builder.add_whiteout("gone")
        builder.add_hard_link("copy", "link/passwd")
        builder.add_hard_link("second", "copy")
        builder.add_hard_link("sym", "link")
        assert entries(builder) == {
            ".wh.gone": ("0", "0o600", 0, 0, 0, b""),
            "copy": ("0", "0o4711", 5, 6, 7, b"users"),
            "etc": ("5", "0o711", 0, 0, 0, ""),
            "etc/passwd": ("1", "0o4711", 5, 6, 7, "copy"),
            "etc/shadow": ("1", "0o4711", 5, 6, 7, "copy"),
            "link": ("2", "0o777", 0, 0, 0, "etc"),
            "second": ("1", "0o4711", 5, 6, 7, "copy"),
            "sym": ("1", "0o777", 0, 0, 0, "link"),
        }


def test_a_hard_link_of_a_tar_to_a_file_of_the_image_sets_its_metadata(image: TreeView, tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(tars.tar(tars.hard_link(b"twin", b"single", uid=9, mode=0o600, mtime=10)))
    with LayerBuilder(base=image) as builder:
        builder.add_tar("/", tmp_path / "t.tar")
        assert entries(builder) == {
            "single": ("0", "0o600", 9, 0, 10, b"1"),
            "twin": ("1", "0o600", 9, 0, 10, "single"),
        }


def test_hard_links_that_lead_to_no_file_are_refused(builder: LayerBuilder, image: TreeView) -> None:
    with LayerBuilder(base=image) as with_image:
        for target, message in (("missing", "does not exist"), ("etc", "is a directory")):
            with pytest.raises(InvalidSource, match=message):
                with_image.add_hard_link("other", target)
        with_image.add_whiteout("etc/passwd")
        with pytest.raises(InvalidSource, match="does not exist"):
            with_image.add_hard_link("other", "etc/passwd")
    with pytest.raises(InvalidSource, match=r"not in the layer; .* with base="):
        builder.add_hard_link("other", "etc/passwd")
    builder.add_whiteout("etc/passwd")
    with pytest.raises(InvalidSource, match="does not exist"):
        builder.add_hard_link("other", "etc/passwd")
    assert list(entries(builder)) == ["etc/.wh.passwd"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_tar_is_unpacked_below_a_directory(builder: LayerBuilder, compress: Any, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    tar = tars.tar(
        tars.directory(b"./", mode=0o700),
        tars.entry(b"./b", content, uid=5, gid=6, mtime=7, mode=0o4711),
        tars.entry(b"a", typeflag=b"1", linkname=b"./b", uid=5, gid=6, mtime=7, mode=0o4711),
        tars.entry(b"d/.wh.gone", b""),
        tars.entry(b"d/.wh..wh..opq", b""),
        tars.entry(b"s", typeflag=b"2", linkname=b"d"),
        tars.entry(b"s/through", b"x"),
        tars.entry(b"b-later", b"1"),
        tars.entry(b"b-later", b"2"),
    )
    (tmp_path / "t.tar").write_bytes(compress(tar))
    builder.add_tar("/opt", tmp_path / "t.tar")
    found = entries(builder)
    assert found.pop("opt/a") == ("0", "0o4711", 5, 6, 7, content)
    assert found.pop("opt/b") == ("1", "0o4711", 5, 6, 7, "opt/a")
    assert found.pop("opt")[:2] == ("5", "0o700")
    assert {name: value[5] for name, value in found.items()} == {
        "opt/b-later": b"2",
        "opt/d/.wh..wh..opq": b"",
        "opt/d/.wh.gone": b"",
        "opt/d/through": b"x",
        "opt/s": "d",
    }


def test_a_sparse_file_of_a_tar_has_its_holes_as_zeros(builder: LayerBuilder, tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"data")
    subprocess.run(["tar", "-C", tmp_path, "-cSf", tmp_path / "t.tar", "f"], check=True)
    assert (tmp_path / "t.tar").stat().st_size < 1 << 20
    builder.add_tar("/", tmp_path / "t.tar")
    assert entries(builder)["f"][5] == (tmp_path / "f").read_bytes()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (tars.entry(b"../x", b""), "leaves the root"),
        (tars.entry(b"x/../../y", b""), "leaves the root"),
        (tars.entry(b"x", typeflag=b"1", linkname=b"../etc/passwd"), "not in the tar"),
        (tars.entry(b"x", typeflag=b"3"), "meaning of its own"),
        (tars.entry(b".wh..wh.aufs", b""), "meaning of its own"),
    ],
)
def test_a_hostile_tar_is_refused(builder: LayerBuilder, entry: bytes, message: str) -> None:
    with pytest.raises(InvalidSource, match=message):
        builder.add_tar("/", io.BytesIO(tars.tar(entry)))


def test_a_damaged_tar_and_one_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    whole = tars.tar(tars.entry(b"big", bytes(1 << 20)))
    limits = Limits(Limit(1 << 18, "max_spool_size", "a test"))
    with LayerBuilder(limits=limits, spool_dir=tmp_path) as builder:
        for data, message in (
            (whole[:5000], "cut off"),
            (b"no tar" * 200, "not a tar"),
            (b"", "empty"),
            (gzip.compress(whole), "max_spool_size"),
        ):
            with pytest.raises(InvalidLayer, match=message):
                builder.add_tar("/", io.BytesIO(data))
    assert os.listdir(tmp_path) == []


def test_the_number_of_names_is_limited(builder: LayerBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MAX_NAMES", 5)
    with pytest.raises(InvalidSource, match="more than 5 names"):
        builder.add_tar("/", io.BytesIO(tars.tar(*(tars.entry(b"%d" % n, b"") for n in range(7)))))


def test_many_deep_names_are_refused_before_they_take_the_memory(
    builder: LayerBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MAX_BYTES", 20 << 20)
    deep = b"/".join([b"d"] * 2000)
    added: list[int] = []

    def add_all() -> None:
        for number in range(1000):
            builder.add_file(b"%d/%b/file" % (number, deep), b"")
            added.append(number)

    tracemalloc.start()
    try:
        with pytest.raises(InvalidSource, match="more than 20 MiB"):
            add_all()
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert 0 < len(added) < 20


@pytest.mark.parametrize("how", ["longer", "other", "gone", "same size"])
def test_a_file_that_changes_before_it_is_read_is_an_error(builder: LayerBuilder, how: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for file in (tmp_path / "file", tmp_path / "tree" / "file"):
        file.write_bytes(b"old")
    builder.add_file("single", tmp_path / "file") if how != "gone" else None
    builder.add_tree("tree", tmp_path / "tree")
    for file in (tmp_path / "file", tmp_path / "tree" / "file"):
        if how in ("other", "gone"):
            file.unlink()
        if how != "gone":
            file.write_bytes(b"newer" if how == "longer" else b"new")
            os.utime(file, ns=(0, SECOND))
    with pytest.raises(OSError, match="file") as raised:
        bytes_of(builder)
    assert raised.value.errno == (errno.ENOENT if how == "gone" else errno.ESTALE)
    assert str(tmp_path) in str(raised.value)


def test_a_link_that_takes_the_place_of_a_directory_is_not_followed(builder: LayerBuilder, tmp_path: Path) -> None:
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "tree" / "d" / "f").write_bytes(b"inside")
    builder.add_tree("/", tmp_path / "tree")
    (tmp_path / "tree" / "d").rename(tmp_path / "moved")
    (tmp_path / "tree" / "d").symlink_to(tmp_path / "moved")
    with pytest.raises(NotADirectoryError):
        bytes_of(builder)


def test_sources_that_are_no_files(builder: LayerBuilder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for source in (tmp_path, tmp_path / "fifo", "/dev/null"):
        with pytest.raises(InvalidSource, match="no regular file"):
            builder.add_file("x", source)
    with pytest.raises(FileNotFoundError, match="missing"):
        builder.add_file("x", tmp_path / "missing")
    with pytest.raises(NotADirectoryError):
        builder.add_tree("x", tmp_path / "fifo")
    (tmp_path / "t" / ".wh.x").mkdir(parents=True)
    with pytest.raises(InvalidSource, match="means a deletion"):
        builder.add_tree("/", tmp_path / "t")
    (tmp_path / "above" / "store").mkdir(parents=True)
    status = (tmp_path / "above" / "store").stat()
    with pytest.raises(InvalidSource, match="is the store"):
        builder.add_tree("/", tmp_path / "above", forbidden={(status.st_dev, status.st_ino): "is the store"})


@needs_root
def test_a_device_that_means_a_deletion_is_refused(builder: LayerBuilder, tmp_path: Path) -> None:
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    with pytest.raises(InvalidSource, match="0:0"):
        builder.add_tree("/", tmp_path)


@pytest.mark.parametrize("owner", [(-1, 0), (0, 1 << 32), (1,), (1, 2, 3)])
def test_owners_that_no_tar_can_have(owner: Any) -> None:
    with pytest.raises(ValueError, match="an owner is"):
        LayerBuilder(owner=owner)
    with pytest.raises(ValueError, match="a mode is"):
        LayerBuilder(mode=0o10000)


def test_large_files_are_never_in_memory(builder: LayerBuilder, tmp_path: Path) -> None:
    size = 64 << 20
    with open(tmp_path / "large", "wb") as file:
        file.truncate(size)
        file.seek(size - 5)
        file.write(b"end..")
    builder.add_file("large", tmp_path / "large", mtime_ns=0)
    tracemalloc.start()
    try:
        count = 0
        with builder.open() as stream:
            while data := stream.read(1 << 20):
                count += len(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert count == size + 3 * 512


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_tar_is_told_from_other_files(compress: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data, expected in ((tars.tar(tars.entry(b"x", b"y")), True), (b"text" * 500, False), (b"short", False)):
        path.write_bytes(compress(data))
        assert tar_source.is_tar(str(path)) is expected
    path.write_bytes(b"\x1f\x8b\x08 not gzip after all" * 40)
    assert not tar_source.is_tar(str(path))
