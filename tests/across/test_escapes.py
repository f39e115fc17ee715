"""Nothing is written, read or changed outside the root, whatever links are in a path, even if they change meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from layerstore_core.errors import InvalidLayer
from layerstore_core.tree.files import TreeFiles
from tests import tars
from tests.pipeline import round_trip, unpack_tar
from tests.tree_state import contents


def links_to(outside: Path) -> dict[str, bytes]:
    """Return link targets that lead from the root to `outside`, as the kernel would follow them."""
    absolute = os.fsencode(outside)
    return {
        "relative": b"../outside",
        "far up": b"../" * 40 + absolute.lstrip(b"/"),
        "absolute": absolute,
        "roundabout": b"./sub/../../outside/.",
    }


TRICKS = {
    "a file below": [tars.entry(b"link/file", b"evil"), tars.entry(b"link/new", b"evil")],
    "a directory below": [tars.directory(b"link/dir", mode=0o700), tars.entry(b"link/dir/inner", b"evil")],
    "a link below": [tars.symlink(b"link/link", b"evil"), tars.symlink(b"link/new", b"/")],
    "a fifo below": [tars.entry(b"link/fifo", typeflag=b"6")],
    "a whiteout below": [tars.entry(b"link/.wh.file"), tars.entry(b"link/.wh.dir")],
    "an opaque below": [tars.entry(b"link/.wh..wh..opq")],
    "an opaque below the directory": [tars.entry(b"link/dir/.wh..wh..opq")],
    "metadata by a directory entry": [tars.directory(b"link", mode=0o700, uid=5, mtime=5)],
    "metadata with a slash": [tars.directory(b"link/.", mode=0o700, uid=5, mtime=5)],
    "content in its place": [tars.entry(b"link", b"evil")],
    "through a second link": [tars.symlink(b"second", b"link/dir"), tars.entry(b"second/inner", b"evil")],
    "dots behind it": [tars.entry(b"link/../outside/file", b"evil"), tars.entry(b"link/./dir/../file", b"evil")],
}
LINKING_TRICKS = {
    "a hard link out": [tars.hard_link(b"mine", b"link/file", mode=0o600, mtime=5)],
    "a hard link out, then written": [tars.hard_link(b"mine", b"link/file"), tars.entry(b"mine", b"evil")],
    "a hard link with dots": [tars.hard_link(b"mine", b"link/../outside/file")],
}


@pytest.mark.parametrize("target", ["relative", "far up", "absolute", "roundabout"])
@pytest.mark.parametrize("trick", [*TRICKS, *LINKING_TRICKS])
def test_links_do_not_lead_out_of_the_root(trick: str, target: str, root: Path, canary: Path) -> None:
    parts = [tars.directory(b"sub"), tars.symlink(b"link", links_to(canary)[target])]
    tar = tars.tar(*parts, *(TRICKS.get(trick) or LINKING_TRICKS[trick]))
    if trick in LINKING_TRICKS:
        with pytest.raises(InvalidLayer, match="hard link"):
            unpack_tar(tar, root)
    else:
        round_trip(tar, root)


def test_absolute_links_are_relative_to_the_root(root: Path) -> None:
    tar = tars.tar(
        tars.directory(b"real"),
        tars.symlink(b"absolute", b"/real"),
        tars.symlink(b"real/up", b".."),
        tars.symlink(b"real/over", b"../../../../real"),
        tars.symlink(b"chain", b"real/up/absolute/over"),
        tars.entry(b"absolute/a", b"a"),
        tars.entry(b"real/up/b", b"b"),
        tars.entry(b"real/over/c", b"c"),
        tars.entry(b"chain/d", b"d"),
        tars.symlink(b"dangling", b"made/of/nothing"),
        tars.entry(b"dangling/e", b"e"),
    )
    round_trip(tar, root)
    found = contents(root)
    assert {path: found[path] for path in ("real/a", "b", "real/c", "real/d", "made/of/nothing/e")} == {
        "real/a": b"a",
        "b": b"b",
        "real/c": b"c",
        "real/d": b"d",
        "made/of/nothing/e": b"e",
    }


@pytest.mark.parametrize("length", [39, 40, 41, 200])
def test_chains_of_links_up_to_the_kernels_limit(length: int, root: Path) -> None:
    parts = [tars.symlink(b"l%d" % number, b"l%d" % (number + 1)) for number in range(length)]
    tar = tars.tar(tars.directory(b"l%d" % length), *parts, tars.entry(b"l0/f", b"x"))
    if length <= 40:  # the kernel's limit
        round_trip(tar, root)
        assert (root / f"l{length}/f").exists()
    else:
        with pytest.raises(InvalidLayer, match="form a loop"):
            unpack_tar(tar, root)


def test_directories_that_become_links_do_not_lead_out_of_the_root(root: Path, canary: Path) -> None:
    out = os.fsencode(canary)
    parts = []
    for number in range(5):
        parts += [tars.directory(b"d"), tars.entry(b"d/file", b"%d" % number), tars.entry(b"d/dir/inner", b"x")]
        parts += [tars.symlink(b"d", out), tars.entry(b"d/file", b"evil"), tars.entry(b"d/dir/new", b"evil")]
    round_trip(tars.tar(*parts), root)


def test_names_of_entries_do_not_lead_out_of_the_root(root: Path, canary: Path) -> None:
    """An absolute name is relative to the root, and `..` stops at the root."""
    names = [os.fsencode(canary / "file"), b"/../outside/file", b"//..//../outside/file", b"/x/../../outside/file"]
    round_trip(tars.tar(*(tars.entry(name, b"evil") for name in names)), root)
    assert (root / "outside/file").read_bytes() == b"evil"


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize(
    "names",
    [
        # The directory of the last file stays open, so that the next name can be looked up from there.
        [b"a/f", b"up1/f", b"up2/outside/file"],
        [b"a/f", b"up1/f", b"up2/file"],
        [b"a/f", b"to-file"],
        [b"up3/outside/file"],
        [b"a/../../outside/file"],
    ],
)
def test_reading_does_not_leave_the_root(names: list[bytes], root: Path) -> None:
    (root / "a").mkdir()
    (root / "a/f").write_bytes(b"x")
    (root / "f").write_bytes(b"x")
    (root / "up1").symlink_to("a/..")
    (root / "up2").symlink_to("a/../..")
    (root / "up3").symlink_to("a/../../..")
    (root / "to-file").symlink_to("a/../../outside/file")
    files = TreeFiles(root)
    try:
        for name in names[:-1]:
            files.open(name).close()
        with pytest.raises(FileNotFoundError):
            files.open(names[-1])
    finally:
        files.close()


def test_reading_through_links_with_dots_does_not_leave_the_root(root: Path, canary: Path) -> None:
    """The last component is a link whose target has `..`. Directories opened before must not let it leave the root."""
    (root / "a/b").mkdir(parents=True)
    (root / "f").write_bytes(b"x")
    links = [f"{'a/' * one}{'../' * two}" for one in range(2) for two in range(5)]
    for number, link in enumerate(links):
        (root / f"f{number}").symlink_to(f"{link}f")
        (root / f"o{number}").symlink_to(f"{link}outside/file")
    files = TreeFiles(root)
    try:
        for _ in range(2):
            for number in range(len(links)):
                try:
                    with files.open(b"f%d" % number) as file:
                        assert file.read() == b"x"
                except FileNotFoundError:
                    pass
                with pytest.raises(FileNotFoundError):
                    files.open(b"o%d" % number)
    finally:
        files.close()


def test_directories_swapped_for_links_do_not_lead_out_of_the_root(root: Path, canary: Path) -> None:
    """A path with a swapped directory may lead to another place inside the root, or fail, but no more."""
    names = [b"d%d/e%d" % (one, two) for one in range(4) for two in range(4)]
    parts = [tars.entry(name + b"/f%d" % number, b"x") for number in range(10) for name in names]
    parts += [tars.directory(name, mode=0o700, mtime=5) for name in names]
    parts += [tars.entry(name + b"/.wh.f1") for name in names] + [tars.entry(b"d1/.wh..wh..opq"), tars.entry(b".wh.d2")]
    tar = tars.tar(*parts)
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = root / (f"d{number % 4}" if number % 3 else f"d{number % 4}/e{number // 4 % 4}")
            try:
                os.rename(path, f"{path}-aside")
                os.symlink(canary, path)
                os.unlink(path)
                os.rename(f"{path}-aside", path)
            except OSError:
                pass

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(15):
            try:
                unpack_tar(tar, root)
            except (InvalidLayer, OSError):
                pass
    finally:
        stop.set()
        thread.join()


def test_extraction_into_a_root_that_is_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    round_trip(tars.tar(tars.entry(b"f", b"x")), link)
    assert (root / "f").read_bytes() == b"x"
