"""Reading files in tars and directories: links, names, limits, spooling."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import cast

import pytest

from layerstore_core.base.limits import Limit, Limits
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import DirectoryContainer, TarContainer, open_container
from tests import tars

LIMITS = Limits(Limit(1 << 30, "max_spool_size", "default"))


def opened(tmp_path: Path, *parts: bytes, end: bytes = tars.END) -> TarContainer:
    path = tmp_path / "a.tar"
    path.write_bytes(tars.tar(*parts, end=end))
    container = open_container(path, spool_dir=tmp_path, limits=LIMITS)
    assert isinstance(container, TarContainer)
    return container


def content(container: TarContainer | DirectoryContainer, path: str) -> bytes:
    with container.open(path) as file:
        return file.read()


def test_members_are_found_and_read_in_place(tmp_path: Path) -> None:
    long = b"d/" + b"n" * 200
    with opened(
        tmp_path,
        tars.directory(b"./"),
        tars.entry(b"./one", b"1" * 700),
        tars.directory(b"d/"),
        tars.pax([(b"path", long)]) + tars.entry(b"short", b"2"),
        tars.entry(b"empty"),
    ) as container:
        assert content(container, "one") == content(container, "./d/../one") == b"1" * 700
        assert content(container, long.decode()) == b"2"
        assert (container.size("empty"), content(container, "empty")) == (0, b"")
        assert "one" in container and "two" not in container and "d" not in container
        with container.open("one") as first, container.open("one") as second:
            assert first.read(3) == second.read(3) == b"111"
            first.seek(699)
            assert (first.read(10), first.read(10)) == (b"1", b"")
        assert os.listdir(tmp_path) == ["a.tar"]


def test_links_lead_to_other_members(tmp_path: Path) -> None:
    with opened(
        tmp_path,
        tars.entry(b"1/layer.tar", b"x"),
        tars.symlink(b"2/layer.tar", b"../1/layer.tar"),
        tars.symlink(b"3/layer.tar", b"../2/layer.tar"),
        tars.hard_link(b"4", b"./1/layer.tar"),
        tars.symlink(b"dangling", b"nowhere"),
    ) as container:
        assert {content(container, name) for name in ("2/layer.tar", "3/layer.tar", "4")} == {b"x"}
        assert "dangling" not in container
        with pytest.raises(InvalidImage, match="nowhere, which dangling leads to, is missing"):
            container.open("dangling")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"no tar at all" * 100], "not a valid tar"),
        ([tars.header(b"x", size=1 << 40)], "cut off"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, parts: list[bytes], words: str) -> None:
    with pytest.raises(InvalidImage, match=words):
        opened(tmp_path, *parts)


@pytest.mark.parametrize(
    ("parts", "path", "words"),
    [
        ([tars.entry(b"../x", b"")], "../x", "leads out"),
        ([tars.entry(b"a/../../x", b"")], "x", "missing"),
        ([tars.symlink(b"x", b"/etc/passwd")], "x", "out of the archive"),
        ([tars.symlink(b"a/x", b"../../etc/passwd")], "a/x", "leads out"),
        ([tars.hard_link(b"x", b"../y")], "x", "leads out"),
        ([tars.sparse_pax(b"x", b"abc", [(0, 3)], "1.0")], "x", "sparse"),
        ([tars.entry(b"x", b"1"), tars.symlink(b"x", b"y")], "x", "y, which x leads to, is missing"),
        ([tars.entry(b"x", b"1"), tars.directory(b"x/")], "x", "x is missing"),
    ],
)
def test_a_malicious_member_is_refused_and_the_others_are_read(
    tmp_path: Path, parts: list[bytes], path: str, words: str
) -> None:
    with opened(tmp_path, *parts, tars.entry(b"good", b"1")) as container:
        assert content(container, "good") == b"1"
        assert path not in container
        with pytest.raises(InvalidImage, match=words):
            container.open(path)


def test_the_last_of_two_members_with_one_name_is_read(tmp_path: Path) -> None:
    with opened(
        tmp_path,
        tars.entry(b"x", b"1"),
        tars.symlink(b"y", b"x"),
        tars.entry(b"./x", b"2"),
        tars.entry(b"y", b"3"),
        tars.entry(b"/abs", b"4"),
    ) as container:
        assert [content(container, name) for name in ("x", "y", "abs", "/abs")] == [b"2", b"3", b"4", b"4"]


def test_the_bytes_of_all_names_are_limited(tmp_path: Path) -> None:
    """Many names of nearly the kernel's greatest length, in characters of four bytes.

    With PAX, each is a small part of a tar.
    """
    name = ("\U0001f600" * 1000).encode()
    parts = [tars.pax([(b"path", b"%d/%s" % (number, name))]) + tars.entry(b"short") for number in range(17_000)]
    with pytest.raises(InvalidImage, match="names in the archive take more than 64 MiB"):
        opened(tmp_path, *parts)


def test_messages_contain_no_control_characters(tmp_path: Path) -> None:
    container = opened(tmp_path, tars.symlink(b"a\x1b[2J\nb\xff", b"/x\x07"))
    with container, pytest.raises(InvalidImage) as caught:
        container.open(os.fsdecode(b"a\x1b[2J\nb\xff"))
    assert str(caught.value).isprintable()
    assert r"a\x1b[2J\nb\udcff" in str(caught.value)


def test_links_to_directories_lead_to_their_members(tmp_path: Path) -> None:
    with opened(
        tmp_path,
        tars.entry(b"1/a/layer.tar", b"x"),
        tars.symlink(b"2", b"1"),
        tars.symlink(b"3/b", b"../2/a"),
        tars.symlink(b"here", b"."),
        tars.symlink(b"deeper", b"deeper/x"),
        tars.symlink(b"4", b"1"),
        tars.entry(b"4/a/layer.tar", b"y"),
    ) as container:
        for path in ("2/a/layer.tar", "3/b/layer.tar", "here/2/a/layer.tar"):
            assert content(container, path) == b"x"
        assert content(container, "4/a/layer.tar") == b"y"
        assert "2/b" not in container
        with pytest.raises(InvalidImage, match="form a loop"):
            container.open("deeper/y")


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path, tars.symlink(b"a", b"b"), tars.symlink(b"b", b"a")) as container:
        assert "a" not in container
        with pytest.raises(InvalidImage, match="form a loop"):
            container.open("a")


def test_a_file_that_shrinks_while_it_is_read_is_an_os_error(tmp_path: Path) -> None:
    with opened(tmp_path, tars.entry(b"x", b"1" * 2000)) as container, container.open("x") as file:
        os.truncate(tmp_path / "a.tar", 1000)
        with pytest.raises(OSError, match="cut off"):
            file.readall()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["pipe", "memory", "compressed", "compressed pipe"])
def test_an_archive_that_cannot_be_read_in_place_is_spooled(tmp_path: Path, how: str) -> None:
    data = tars.tar(tars.entry(b"x", b"content" * 50_000))
    data = gzip.compress(data) if "compressed" in how else data
    path = tmp_path / "input"
    path.write_bytes(data)
    if how == "compressed":
        container = open_container(path, spool_dir=tmp_path, limits=LIMITS)
    elif how == "memory":
        container = open_container(io.BytesIO(data), spool_dir=tmp_path, limits=LIMITS)
    else:
        with os.popen(f"cat {path}") as pipe:
            container = open_container(pipe.buffer, spool_dir=tmp_path, limits=LIMITS)
    with container.open("x") as file:
        assert file.read(7) == b"content"
    container.close()
    assert os.listdir(tmp_path) == ["input"]


@pytest.mark.parametrize("how", ["pipe", "compressed"])
def test_the_size_of_the_spool_is_limited(tmp_path: Path, how: str) -> None:
    """A member larger than a layer may be is not kept, unless it is small enough for a document; the sum is limited."""
    layer = Limit(1 << 20, "max_layer_size", "argument")
    data = tars.tar(
        tars.entry(b"large", bytes(40 << 20)),
        tars.entry(b"document", b"d" * (2 << 20)),
        tars.entry(b"small", b"s" * 1000),
    )
    (tmp_path / "in").write_bytes(gzip.compress(data, 1))

    def read(limit: int) -> TarContainer:
        limits = Limits(Limit(limit, "max_spool_size", "file x"), layer)
        if how == "compressed":
            return cast("TarContainer", open_container(tmp_path / "in", spool_dir=tmp_path, limits=limits))
        with os.popen(f"zcat {tmp_path / 'in'}") as pipe:
            return cast("TarContainer", open_container(pipe.buffer, spool_dir=tmp_path, limits=limits))

    with read(1 << 30) as container:
        assert os.fstat(container._file.fileno()).st_size < 4 << 20
        assert (content(container, "document")[-1:], content(container, "small")) == (b"d", b"s" * 1000)
        with pytest.raises(InvalidImage, match=r"large has 41943040 bytes, more than .*max_layer_size, from argument"):
            container.open("large")
    with pytest.raises(InvalidImage, match=r"than the limit of 20971520 bytes \(setting max_spool_size, from file x\)"):
        read(20 << 20)
    assert os.listdir(tmp_path) == ["in"]


def test_bytes_after_the_archive_are_read_but_not_spooled(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(gzip.compress(tars.tar(tars.entry(b"x", b"1")) + bytes(30 << 20), 1))
    with cast("TarContainer", open_container(tmp_path / "in", spool_dir=tmp_path, limits=LIMITS)) as container:
        assert os.fstat(container._file.fileno()).st_size < 1 << 20
    (tmp_path / "in").write_bytes((tmp_path / "in").read_bytes()[:-5])
    with pytest.raises(InvalidImage, match="cut off"):
        open_container(tmp_path / "in", spool_dir=tmp_path, limits=LIMITS)


def test_a_damaged_compressed_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(tars.tar(tars.entry(b"x", os.urandom(5000))))[:-2000])
    with pytest.raises(InvalidImage, match="damaged"):
        open_container(tmp_path / "a", spool_dir=tmp_path, limits=LIMITS)


def test_an_open_file_is_read_from_its_position_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before" + tars.tar(tars.entry(b"x", b"1")))
    with open(path, "rb") as file:
        file.seek(6)
        container = open_container(file, spool_dir=tmp_path, limits=LIMITS)
        assert "x" in container
        container.close()
        assert not file.closed


def test_a_member_of_a_directory_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "one").write_bytes(b"1")
    with DirectoryContainer(tmp_path) as container, container.open("blobs/one") as file:
        assert (file.name, file.read()) == (str(tmp_path / "blobs" / "one"), b"1")


def test_links_in_a_directory_are_not_followed(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    (layout / "blobs").mkdir(parents=True)
    (layout / "blobs" / "x").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"secret")
    (layout / "file").symlink_to("../secret")
    (layout / "dir").symlink_to("blobs")
    os.mkfifo(layout / "fifo")
    with DirectoryContainer(layout) as container:
        assert content(container, "blobs/x") == b"1"
        assert container.size("blobs/x") == 1
        for path, words in {
            "file": "not followed",
            "dir/x": "missing",
            "fifo": "not a regular file",
            "blobs": "not a regular file",
            "none/x": "missing",
            "../secret": "leads out",
        }.items():
            assert path not in container
            with pytest.raises(InvalidImage, match=words):
                container.open(path)
