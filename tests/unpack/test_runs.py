"""Making of runs by the kernels: the same trees, sizes, facts and errors as entry by entry."""

from __future__ import annotations

import io
import os
import resource
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base import threads
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar import scanner
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tree.idmap import IDMapping, IDRange
from layerstore_core.unpack import runs
from layerstore_core.unpack.create import Creator
from layerstore_core.unpack.unpacker import unpack_layer
from tests import tars
from tests.across.test_properties import empty_root, entries, good_entries
from tests.conftest import needs_root
from tests.tree_state import contents, paths
from tests.without_kernels import needs_kernels, plain_way

pytestmark = needs_kernels

#: The root's default access list: new files get one that names user 7.
DEFAULT_ACL = bytes.fromhex(
    "02000000 01000700ffffffff 0200050007000000 04000500ffffffff 10000500ffffffff 20000500ffffffff"
)


#: Entries have earlier times.
STARTED = time.time() - 100


def state(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return all facts of a tree that a layer determines, including the hard links."""
    found: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[int, bytes] = {}
    for path in [b".", *paths(root)]:
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        content = b""
        if stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(full)
        xattrs = {name: os.getxattr(full, name, follow_symlinks=False) for name in _xattrs(full)}
        is_directory = stat.S_ISDIR(status.st_mode)
        found[path] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_rdev),
            # That of a directory without an entry is the current one.
            0 if is_directory and status.st_mtime > STARTED else status.st_mtime_ns,
            b"" if is_directory else first_names.setdefault(status.st_ino, path),
            *(content, xattrs),
        )
    return found


def _xattrs(path: bytes) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def unpacked(
    layers: list[bytes], piece: int = 1 << 20, root_acl: bytes = b"", *, link_parent: bool = False
) -> list[object]:
    """Unpack layers into one root. Return the sizes, and the tree or the error.

    Args:
        layers: the tars.
        piece: how many bytes are read at a time.
        root_acl: a default access list of the root.
        link_parent: give the last layer a tree whose files are hard links to the parent's, which must not change.
    """
    results: list[object] = []
    with empty_root() as root, empty_root() as parent:
        if root_acl:
            os.setxattr(root, "system.posix_acl_default", root_acl)
        for number, tar in enumerate(layers):
            options = {}
            if link_parent and number == len(layers) - 1:
                parent, root = root, parent
                before = state(parent)
                shutil.copytree(parent, root, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
                options["break_links"] = True
            file = io.BytesIO(tar)
            diff = LayerStream(TarScanner(lambda file=file: file.read(piece)))  # type: ignore[misc]
            try:
                results += [unpack_layer(diff, str(root), **options), diff.displaced]
            except InvalidLayer as error:
                return [*results, str(error)]
            except OSError as error:
                return [*results, error.errno, [note.replace(str(root), "ROOT") for note in error.__notes__]]
            if options:
                assert state(parent) == before
        return [*results, state(root)]


def in_both_ways(layers: list[bytes], **options: object) -> list[object]:
    """Unpack layers with the kernels and without; return what both have led to."""
    with plain_way():
        expected = unpacked(layers, **options)  # type: ignore[arg-type]
    assert unpacked(layers, **options) == expected  # type: ignore[arg-type]
    return expected


@contextmanager
def small_jobs(entries: int, directories: int) -> Iterator[None]:
    """Limit runs to so many entries, and jobs to so many directories."""
    with (
        mock.patch.object(scanner, "_RUN_ENTRIES", entries),
        mock.patch.object(runs, "_MAX_DIRECTORIES", directories),
    ):
        yield


@contextmanager
def left_to_python() -> Iterator[list[bytes]]:
    """Yield a list of the paths of entries of runs that are applied one by one: the first file is, as an example."""
    left: list[bytes] = []
    real = runs.RunMaker._apply

    def apply(self: runs.RunMaker, run: runs.Run, index: int, *, is_new: bool = False) -> None:
        left.append(run.path(index))
        real(self, run, index, is_new=is_new)

    with mock.patch.object(runs.RunMaker, "_apply", apply):
        yield left


names = st.sampled_from(
    [b"a", b"b", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"d/e/b", b"e/a", b"l", b"l/a", b"l/b", b"d/l", b"d/l/a"]
)
targets = st.sampled_from([b"a", b"d", b"d/e", b"/d", b"..", b"../d", b"e", b"l", b"d/a", b"b", b"nowhere", b"/"])
metadata = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from([0o644, 0o600, 0o4755, 0o2755, 0o777, 0o1777, 0]),
        "uid": st.sampled_from([0] * 20 + [7] * 5 + [(1 << 32) - 1] * 4 + [1 << 40]),
        "gid": st.sampled_from([0, 0, 7, (1 << 32) - 1]),
        "mtime": st.sampled_from([0, 1_700_000_000, -1]),
    },
)
records = st.lists(
    st.sampled_from(
        [
            *[(b"mtime", b"1700000000.123456789")] * 4,
            (b"mtime", b"-1.5"),
            *[(b"uid", b"70000")] * 2,
            *[(b"SCHILY.xattr.user.x", b"value")] * 3,
            (b"SCHILY.xattr.trusted.y", b""),
            (b"SCHILY.xattr.security.capability", bytes.fromhex("0100000200200000000000000000000000000000")),
            (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
            (b"SCHILY.xattr.system.posix_acl_access", DEFAULT_ACL),
            (b"SCHILY.xattr.nonsense", b"value"),
        ]
    ),
    max_size=2,
    unique_by=lambda one: one[0],
)


@st.composite
def plain_entries(draw: st.DrawFn) -> bytes:
    """Draw an entry that the kernels read, and mostly make, or a whiteout among them."""
    name, options = draw(names), draw(metadata)
    before = tars.pax(draw(records)) if draw(st.integers(0, 3)) == 0 else b""
    kind = draw(st.sampled_from(["file", "file", "file", "symlink", "hard link", "hard link", "directory", "whiteout"]))
    if kind == "file":
        return before + tars.entry(name, draw(st.sampled_from([b"", b"x", b"y" * 600])), **options)
    if kind == "symlink":
        return before + tars.symlink(name, draw(targets), **options)
    if kind == "hard link":
        return before + tars.hard_link(name, draw(names), **options)
    if kind == "directory":
        return before + tars.directory(name, **options)
    above, _, base = name.rpartition(b"/")
    base = draw(st.sampled_from([b".wh." + base, b".wh..wh..opq"]))
    return tars.entry(above + b"/" + base if above else base)


random_layers = st.lists(
    st.lists(plain_entries(), max_size=14).map(lambda parts: tars.tar(tars.entry(b"first", b"1"), *parts)),
    min_size=1,
    max_size=3,
)
limits = st.sampled_from([(1, 1), (2, 1), (3, 2), (64, 1), (64, 16)])
pieces = st.sampled_from([700, 3000, 1 << 20])


@needs_root
@given(random_layers, limits, pieces, st.booleans(), st.sampled_from([b"", b"", DEFAULT_ACL]))
def test_random_layers_are_the_same_by_the_kernels_and_without(
    layers: list[bytes], limit: tuple[int, int], piece: int, link_parent: bool, root_acl: bytes
) -> None:
    with small_jobs(*limit):
        in_both_ways(layers, piece=piece, root_acl=root_acl, link_parent=link_parent)


@given(
    st.lists(st.lists(st.one_of(good_entries, entries()), max_size=12).map(lambda parts: tars.tar(*parts)), max_size=3),
    limits,
)
def test_random_layers_of_all_dialects_are_the_same_by_the_kernels_and_without(
    layers: list[bytes], limit: tuple[int, int]
) -> None:
    with small_jobs(*limit):
        in_both_ways(layers)


@st.composite
def many_directories(draw: st.DrawFn) -> bytes:
    """Draw a layer with more directories than the kernels keep open, and entries in all of them."""
    count = draw(st.integers(1, 90))
    directories = [b"d%d" % number if number % 3 else b"top/%d/e" % number for number in range(count)]
    parts = [FIRST, *(tars.directory(name, mtime=number) for number, name in enumerate(directories))]
    for number in range(draw(st.integers(0, 60))):
        above = draw(st.sampled_from(directories))
        name = above + b"/%d" % number
        kind = draw(st.integers(0, 19))
        if kind < 9:
            parts.append(tars.entry(name, b"x", mtime=number))
        elif kind < 12:
            parts.append(tars.directory(name, mtime=number))
            parts.append(tars.entry(name + b"/f", b"x"))
        elif kind < 14:
            parts.append(tars.entry(name + b"/f", b"in a directory without an entry"))
        elif kind < 16:
            parts.append(tars.hard_link(name, b"first"))
        elif kind < 17:
            parts.append(tars.directory(above, mtime=1000 + number, mode=draw(st.sampled_from([0o755, 0o2755]))))
        elif kind < 18:
            parts.append(tars.entry(name, typeflag=b"6"))  # a fifo
        elif kind < 19:
            parts.append(tars.entry(above, b"in the place of a directory"))
            parts.append(tars.directory(above, mtime=number))
        else:
            parts.append(tars.entry(above + b"/.wh.%d" % draw(st.integers(0, 60))))
    return tars.tar(*parts)


@needs_root
@given(many_directories(), limits)
def test_many_directories_are_the_same_by_the_kernels_and_without(layer: bytes, limit: tuple[int, int]) -> None:
    with small_jobs(*limit):
        in_both_ways([layer])


FIRST = tars.entry(b"first", b"1")
MANY = [tars.entry(b"d%d/f%d" % (number % 7, number), b"x" * (number % 50 + 1)) for number in range(400)]


def unpack(tar: bytes, root: Path) -> int:
    return unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), str(root))


def test_plain_entries_are_left_to_the_kernels(root: Path) -> None:
    parts = [
        FIRST,
        tars.directory(b"d"),
        tars.entry(b"d/a", b"1", mode=0o4711, uid=7),
        tars.pax([(b"mtime", b"1.5"), (b"SCHILY.xattr.user.x", b"value")]) + tars.entry(b"d/b", b"22"),
        tars.symlink(b"implied/l", b"nowhere"),
        tars.hard_link(b"implied/h", b"./d/b", mtime=1),
        tars.entry(b"e", b""),
    ]
    with left_to_python() as left:
        assert unpack(tars.tar(*parts), root) == 11
    assert left == [b"first"]
    assert contents(root) == {
        "first": b"1",
        "d": "d",
        "d/a": b"1",
        "d/b": b"22",
        "e": b"",
        "implied": "d",
        "implied/l": "-> nowhere",
        "implied/h": b"22",
    }


def test_directories_are_left_to_the_kernels(root: Path) -> None:
    """Their times are set after the last entry in them, whatever makes it."""
    parts = [
        FIRST,
        *(
            tars.directory(b"d%d" % number, mode=0o750 | number % 8, uid=number % 3, mtime=number)
            for number in range(99)
        ),
        tars.pax([(b"SCHILY.xattr.user.x", b"value"), (b"mtime", b"-0.5")]) + tars.directory(b"d5/e"),
        *(tars.entry(b"d%d/f" % number, b"1") for number in range(0, 99, 7)),
        tars.entry(b"d5/e/implied/f", b"1"),
        tars.entry(b"d98/implied/f", b"1"),
        tars.hard_link(b"d97/h", b"d0/f"),
        tars.entry(b"d97/fifo", typeflag=b"6"),
        tars.entry(b"d96/" + b"n" * 255, b"1"),
        tars.entry(b"d5/e/late", b"1"),
    ]
    with mock.patch.object(Creator, "directory", side_effect=AssertionError("made by Python")):
        unpack(tars.tar(*parts), root)
    for number in range(99):
        status = (root / f"d{number}").stat()
        assert (status.st_mtime, stat.S_IMODE(status.st_mode)) == (number, 0o750 | number % 8)
        assert os.geteuid() or status.st_uid == number % 3
    assert (root / "d5/e").stat().st_mtime == -0.5
    assert os.getxattr(root / "d5/e", "user.x") == b"value"


def test_a_directory_with_a_set_group_id_bit_gives_its_group_to_what_is_in_it() -> None:
    parts = [
        FIRST,
        tars.directory(b"d", mode=0o2755, gid=7, mtime=7),
        tars.directory(b"d/e"),
        tars.entry(b"d/e/f", b"1"),
    ]
    in_both_ways([tars.tar(*parts)])


def test_a_parents_file_is_replaced_by_the_kernels(root: Path) -> None:
    unpack(tars.tar(tars.entry(b"a", b"old"), tars.symlink(b"b", b"a"), tars.entry(b"c", b"old")), root)
    parts = [FIRST, tars.entry(b"a", b"new"), tars.entry(b"b", b"new"), tars.symlink(b"c", b"new")]
    with left_to_python() as left:
        unpack(tars.tar(*parts), root)
    assert left == [b"first"]
    assert contents(root) == {"first": b"1", "a": b"new", "b": b"new", "c": "-> new"}


def test_a_parents_directory_in_the_way_is_left_to_python(root: Path) -> None:
    unpack(tars.tar(tars.entry(b"a/b/c", b"old"), tars.entry(b"d", b"old")), root)
    with left_to_python() as left:
        unpack(tars.tar(FIRST, tars.entry(b"z", b"1"), tars.entry(b"a", b"new"), tars.entry(b"d", b"new")), root)
    assert left == [b"first", b"a"]
    assert contents(root) == {"first": b"1", "z": b"1", "a": b"new", "d": b"new"}


def test_entries_of_a_parents_directories_are_applied_while_files_are_planned(root: Path) -> None:
    unpack(tars.tar(*[tars.entry(b"%d/old" % number, b"old") for number in range(9)]), root)
    parts = [(tars.directory(b"%d" % number, mtime=7), tars.entry(b"%d/new" % number, b"new")) for number in range(9)]
    with left_to_python() as left:
        unpack(tars.tar(FIRST, *(part for pair in parts for part in pair)), root)
    assert left == [b"first"]
    assert contents(root) == {
        "first": b"1",
        **{f"{number}": "d" for number in range(9)},
        **{f"{number}/old": b"old" for number in range(9)},
        **{f"{number}/new": b"new" for number in range(9)},
    }
    assert {path.stat().st_mtime for path in root.iterdir() if path.is_dir()} == {7}


def test_a_small_layer_needs_no_thread(root: Path) -> None:
    with mock.patch.object(threads.Lane, "put", side_effect=AssertionError("put into a lane")):
        unpack(tars.tar(FIRST, tars.entry(b"a", b"1"), tars.directory(b"d"), tars.entry(b"d/a", b"1")), root)
    assert contents(root) == {"first": b"1", "a": b"1", "d": "d", "d/a": b"1"}


@pytest.mark.parametrize("jobs", [(1, 1), (3, 2), (1000, 16)])
@pytest.mark.parametrize("before", [0, 10, 300])
def test_an_error_in_a_run_names_its_entry(before: int, jobs: tuple[int, int], root: Path) -> None:
    """It takes precedence over the error of a later entry."""
    bad = tars.entry(b"d1/" + b"n" * 256, b"x")
    tar = tars.tar(*MANY[: before + 1], bad, *MANY[before + 1 :], tars.entry(b"../x"))
    with small_jobs(*jobs), pytest.raises(InvalidLayer, match="component of its name is too long") as caught:
        unpack(tar, root)
    assert caught.value.offset == tar.index(b"d1/nnn") - 512
    assert caught.value.entry is not None
    assert caught.value.entry.endswith(b"n" * 256)


@pytest.mark.parametrize(
    "later",
    [tars.entry(b"../x", b"1"), tars.entry(b"dir/y", b"1", uid=1 << 40), b"no header" * 99, tars.header(b"y", size=9)],
)
@pytest.mark.parametrize("between", [b"", tars.directory(b"other")])
def test_the_error_of_an_earlier_file_takes_precedence(between: bytes, later: bytes) -> None:
    bad = tars.entry(b"dir/" + b"n" * 256, b"x")
    found = in_both_ways([tars.tar(FIRST, tars.entry(b"dir/x", b"1"), bad, between, later)])
    assert "component of its name is too long" in str(found)


@pytest.mark.parametrize("others", [0, 30, 70])
@pytest.mark.parametrize("inner", [b"", b"/s"])
def test_a_file_that_replaces_an_open_directory(inner: bytes, others: int) -> None:
    """Later entries under it find no directory, even if a directory under it is still open."""
    tar = tars.tar(
        FIRST,
        tars.entry(b"x" + inner + b"/a", b"1"),
        *[tars.entry(b"o%d/f" % number, b"1") for number in range(others)],
        tars.entry(b"x", b"2"),
        tars.entry(b"x" + inner + b"/b", b"3"),
    )
    assert "something on its path is no directory" in str(in_both_ways([tar])[-1])


def test_directories_stay_open_while_files_in_them_are_planned() -> None:
    """Removing a directory of this layer opens so many others that the current one could be closed."""
    tar = tars.tar(
        FIRST,
        *[tars.entry(b"x/%d/f" % number, b"1") for number in range(100)],
        tars.symlink(b"link", b"first"),
        tars.entry(b"y/first", b"1"),
        tars.entry(b"x", b"in the place of a directory"),
        tars.entry(b"y/second", b"another"),
    )
    in_both_ways([tar])


def test_a_directory_in_a_directory_that_is_replaced() -> None:
    """The directory is not open, but its parent is."""
    inner = tars.tar(tars.entry(b"x/s/f", b"inner"))
    tar = tars.tar(FIRST, tars.entry(b"x/f", b"2"), tars.entry(b"x", b"3"), tars.entry(b"x/s/g", b"4"))
    in_both_ways([inner, tar])


def test_a_link_to_a_directory_that_a_planned_file_will_replace() -> None:
    """The file is planned when the link to the parent's directory of its name is met."""
    parent = tars.tar(tars.entry(b"usr/lib/old", b"1"), tars.symlink(b"lib", b"usr/lib"))
    in_both_ways([parent, tars.tar(FIRST, tars.entry(b"usr/lib", b"2"), tars.entry(b"lib/new", b"3"))])


def test_a_link_that_is_planned_is_followed() -> None:
    tar = tars.tar(FIRST, tars.directory(b"real"), tars.symlink(b"l", b"real"), tars.entry(b"l/a", b"1"))
    assert b"real/a" in in_both_ways([tar])[-1]  # type: ignore[operator]


def test_metadata_of_a_directory_applies_to_files_after_its_entry() -> None:
    """The second entry of a directory waits for the files before it, which get the group of the process."""
    tar = tars.tar(
        FIRST,
        tars.directory(b"d", gid=7),
        *[tars.entry(b"d/%d" % number, b"1") for number in range(50)],
        tars.directory(b"d", gid=8, mode=0o2755),
        *[tars.entry(b"d/late%d" % number, b"1") for number in range(50)],
    )
    in_both_ways([tar])


@needs_root
def test_a_hard_link_keeps_capabilities_that_its_entry_lacks(root: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    tar = tars.tar(
        FIRST,
        tars.pax([(b"SCHILY.xattr.security.capability", capability)]) + tars.entry(b"a", b"1", uid=7),
        tars.hard_link(b"b", b"a", uid=8, mtime=5),
    )
    with left_to_python() as left:
        unpack(tar, root)
    assert left == [b"first"]
    assert os.getxattr(root / "b", "security.capability") == capability
    assert ((root / "a").stat().st_uid, (root / "a").stat().st_mtime) == (8, 5)


@needs_root
def test_ids_are_shifted_by_the_kernels(root: Path) -> None:
    mapping = IDMapping([IDRange(0, 1000, 100)], [IDRange(0, 2000, 100)])
    parts = [FIRST, tars.entry(b"a", b"1", uid=5, gid=6), tars.symlink(b"l", b"a", uid=7), tars.hard_link(b"h", b"a")]
    with left_to_python() as left:
        unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*parts)).read)), str(root), id_mapping=mapping)
    assert left == [b"first"]
    owners = {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in root.iterdir()}
    assert owners == {"first": (1000, 2000), "a": (1000, 2000), "l": (1007, 2000), "h": (1000, 2000)}


@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["put", "drain"])
def test_an_exception_of_a_signal_handler_while_the_lane_is_waited_for(
    where: str, error: type[BaseException], root: Path
) -> None:
    """What is planned is not made, and nothing stays open."""
    before, alive = set(os.listdir("/proc/self/fd")), threading.active_count()

    def interrupted(*_: object) -> None:
        raise error

    with small_jobs(20, 3), mock.patch.object(threads.Lane, where, interrupted), pytest.raises(error):
        unpack(tars.tar(*MANY), root)
    made = len(list(root.glob("*/*")))
    assert made < 400
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() <= max(alive, 1 + threads.cores())


def test_a_file_larger_than_allowed_fails_with_its_name(root: Path) -> None:
    """So would one on a full disk. Nothing of it is left by the kernel, and Python says what is wrong."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    tar = tars.tar(FIRST, tars.entry(b"small", b"1"), tars.entry(b"large", b"x" * 5000), tars.entry(b"other", b"1"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(InvalidLayer, match="cannot hold a file so large") as caught:
            unpack(tar, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.entry == b"large"
    assert not (root / "other").exists()


def test_open_directories_are_bounded(root: Path) -> None:
    """Those with planned files stay open: so many that not all could be open at once are no problem."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    tar = tars.tar(FIRST, *[tars.entry(b"d%d/f" % number, b"1") for number in range(1000)])
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 200, hard))
    try:
        unpack(tar, root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list(root.glob("*/f"))) == 1000


def test_open_directories_with_entries_are_bounded(root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    parts = [(tars.directory(b"d%d" % number, mtime=7), tars.entry(b"d%d/f" % number, b"1")) for number in range(1000)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 150, hard))
    try:
        with left_to_python() as left:
            unpack(tars.tar(FIRST, *(part for pair in parts for part in pair)), root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert left == [b"first"]
    assert len(list(root.glob("*/f"))) == 1000
    assert {path.stat().st_mtime for path in root.glob("d*")} == {7}


def test_memory_of_planned_files_is_bounded(root: Path) -> None:
    """Small files that are far apart in the tar each keep their piece of the tar in memory."""
    large = tars.header(b"big", size=4 << 20) + bytes(4 << 20)
    tar = tars.tar(*(part for number in range(10) for part in (tars.entry(b"s%d" % number, b"x"), large)))
    most = 0
    real = runs.RunMaker._put

    def watching(self: runs.RunMaker) -> None:
        nonlocal most
        real(self)
        most = max(most, len(self._planned))

    source = io.BytesIO(tar)
    with mock.patch.object(runs.RunMaker, "_put", watching):
        unpack_layer(LayerStream(TarScanner(lambda: source.read(1 << 20))), str(root))
    assert 0 < most <= runs._MAX_JOBS + 1
