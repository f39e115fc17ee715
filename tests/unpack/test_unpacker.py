"""Unpacking of a layer: replaced files, whiteouts, hard links, metadata, refused entries, and the layer's size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from layerstore_core.errors import InvalidLayer
from layerstore_core.tree.idmap import IDMapping, IDRange
from tests import tars
from tests.conftest import needs_root
from tests.pipeline import round_trip, unpack_tar
from tests.tree_state import contents


def make_parent_files(root: Path, **files: str) -> None:
    """Make files of a parent layer; `__` in a name means a slash."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


FILE = tars.entry(b"x", b"file")
ENTRIES = {
    "file": FILE,
    "directory": tars.directory(b"x"),
    "symbolic link": tars.symlink(b"x", b"elsewhere"),
    "hard link": tars.entry(b"first", b"linked") + tars.hard_link(b"x", b"first"),
    "fifo": tars.entry(b"x", typeflag=b"6"),
}
RESULTS = {"file": b"file", "directory": "d", "symbolic link": "-> elsewhere", "hard link": b"linked", "fifo": "p"}


@pytest.mark.parametrize("new", ENTRIES)
@pytest.mark.parametrize("old", [*ENTRIES, "full directory"])
def test_an_entry_replaces_the_parents_file_of_its_name(old: str, new: str, root: Path) -> None:
    if old == "full directory":
        make_parent_files(root, x__a__b="parent's")
    else:
        unpack_tar(tars.tar(ENTRIES[old]), root)
    round_trip(tars.tar(ENTRIES[new]), root)
    if new == "directory" and old == "full directory":
        assert contents(root) == {"x": "d", "x/a": "d", "x/a/b": b"parent's"}
    else:
        found = contents(root)
        found.pop("first", None)
        assert found == {"x": RESULTS[new]}


@pytest.mark.parametrize("new", ENTRIES)
@pytest.mark.parametrize("old", ENTRIES)
def test_an_entry_replaces_an_earlier_entry_of_the_same_layer(old: str, new: str, root: Path) -> None:
    unpacked = round_trip(tars.tar(ENTRIES[old], ENTRIES[new]), root)
    assert contents(root)["x"] == RESULTS[new]
    assert unpacked.size == sum(
        {path.lstat().st_ino: path.lstat().st_size for path in root.iterdir() if not path.is_dir()}.values()
    )


@pytest.mark.parametrize(
    ("whiteout", "left"),
    [
        (b".wh.a", {"d": "d", "d/b": b"b", "d/c": "d", "d/c/e": b"e"}),
        (b"d/.wh.b", {"a": b"a", "d": "d", "d/c": "d", "d/c/e": b"e"}),
        (b"d/.wh.c", {"a": b"a", "d": "d", "d/b": b"b"}),
        (b".wh.d", {"a": b"a"}),
        (b".wh.absent", {"a": b"a", "d": "d", "d/b": b"b", "d/c": "d", "d/c/e": b"e"}),
        (b"d/.wh..wh..opq", {"a": b"a", "d": "d"}),
        (b".wh..wh..opq", {}),
        (b"./d//.wh..wh..opq", {"a": b"a", "d": "d"}),
        (b"/.wh.a", {"d": "d", "d/b": b"b", "d/c": "d", "d/c/e": b"e"}),
    ],
)
@pytest.mark.parametrize("kind", ["file", "hard link"])
def test_whiteouts_delete_the_parents_files(whiteout: bytes, left: dict[str, object], kind: str, root: Path) -> None:
    make_parent_files(root, a="a", d__b="b", d__c__e="e")
    # Docker once wrote its whiteouts as hard links to one file. Only the name makes them whiteouts.
    entry = tars.entry(whiteout) if kind == "file" else tars.hard_link(whiteout, b".wh..wh.aufs")
    assert round_trip(tars.tar(entry), root).size == 0
    assert contents(root) == left


@pytest.mark.parametrize("first", ["opaque", "content"])
def test_an_opaque_whiteout_hides_the_parents_files_wherever_in_the_tar_it_is(first: str, root: Path) -> None:
    make_parent_files(root, d__old="old", d__merged__old="old", d__implied__old="old", d__both="old")
    opaque = tars.entry(b"d/.wh..wh..opq")
    content = (
        tars.entry(b"d/new", b"new"),
        tars.directory(b"d/merged"),
        tars.entry(b"d/implied/new", b"new"),
        tars.entry(b"d/both", b"new"),
    )
    parts = (opaque, *content) if first == "opaque" else (*content, opaque)
    unpacked = round_trip(tars.tar(tars.directory(b"d"), *parts), root)
    assert contents(root) == {
        "d": "d",
        "d/new": b"new",
        "d/merged": "d",
        "d/implied": "d",
        "d/implied/new": b"new",
        "d/both": b"new",
    }
    assert unpacked.size == 9


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh.", b"d/.wh..", b"d/.wh...", b"./.wh.."])
def test_a_whiteout_without_a_file_name_is_refused(name: bytes, root: Path, canary: Path) -> None:
    make_parent_files(root, d__b="b")
    with pytest.raises(InvalidLayer, match="names no file") as caught:
        unpack_tar(tars.tar(tars.entry(name)), root)
    assert caught.value.entry is not None
    assert contents(root) == {"d": "d", "d/b": b"b"}


def test_a_whiteout_deletes_files_of_the_same_layer(root: Path) -> None:
    tar = tars.tar(
        tars.entry(b"d/a", b"aaa"), tars.hard_link(b"d/b", b"d/a"), tars.entry(b"d/c", b"c"), tars.entry(b".wh.d")
    )
    unpacked = round_trip(tar, root)
    assert contents(root) == {}
    assert unpacked.lines_rewritten
    assert unpacked.size == 0


def test_a_whiteout_keeps_other_hard_links_of_the_file(root: Path) -> None:
    tar = tars.tar(tars.entry(b"d/a", b"aaa"), tars.hard_link(b"b", b"d/a"), tars.entry(b".wh.d"))
    assert round_trip(tar, root).size == 3
    assert contents(root) == {"b": b"aaa"}


def test_whiteouts_below_a_symbolic_link_delete_in_its_target(root: Path) -> None:
    make_parent_files(root, real__a="a", real__b="b", real__sub__c="c")
    (root / "relative").symlink_to("real")
    (root / "absolute").symlink_to("/real/sub")
    tar = tars.tar(tars.entry(b"relative/.wh.a"), tars.entry(b"absolute/.wh..wh..opq"), tars.entry(b"relative/n", b"n"))
    round_trip(tar, root)
    assert contents(root) == {
        "real": "d",
        "real/b": b"b",
        "real/n": b"n",
        "real/sub": "d",
        "relative": "-> real",
        "absolute": "-> /real/sub",
    }


def test_a_whiteout_of_a_symbolic_link_keeps_its_target(root: Path) -> None:
    make_parent_files(root, real__a="a")
    (root / "link").symlink_to("real")
    round_trip(tars.tar(tars.entry(b".wh.link")), root)
    assert contents(root) == {"real": "d", "real/a": b"a"}


@pytest.mark.parametrize(
    "parts",
    [
        # A link of the parent layer leads to a file of this layer, and is then replaced or deleted.
        [tars.entry(b"link/f", b"content"), tars.symlink(b"link", b"elsewhere")],
        [tars.entry(b"link/f", b"content"), tars.entry(b".wh.link")],
        [tars.entry(b"chain/f", b"content"), tars.symlink(b"link", b"elsewhere")],
        [tars.entry(b"chain/f", b"content"), tars.entry(b".wh..wh..opq")],
        # The same file under two names, one of which is then replaced.
        [tars.entry(b"link/f", b"content"), tars.entry(b"real/f", b"newer")],
        [tars.entry(b"real/f", b"content"), tars.entry(b"chain/f", b"newer")],
        [tars.entry(b"real/f", b"content"), tars.entry(b"chain/.wh.f")],
        # Entries in a directory that is then removed or replaced by something else.
        [tars.entry(b"real/f", b"content"), tars.entry(b"real", b"a file now")],
        [tars.entry(b"n/f", b"content"), tars.symlink(b"n", b"real"), tars.entry(b"real/f", b"other")],
        [tars.entry(b"a", b"content"), tars.hard_link(b"b", b"a"), tars.entry(b"b", b"new"), tars.entry(b".wh.a")],
        [tars.entry(b"/a", b"content"), tars.entry(b"a", b"same name")],
        [tars.entry(b"a", b"one"), tars.entry(b"./a", b"two"), tars.entry(b"d/../a", b"three")],
    ],
)
def test_lines_are_rewritten_for_layers_that_overwrite_their_own_files(parts: list[bytes], root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    (root / "chain").symlink_to("link")
    unpacked = round_trip(tars.tar(*parts), root)
    assert unpacked.lines_rewritten


def test_lines_are_not_rewritten_for_layers_that_overwrite_only_the_parents_files(root: Path) -> None:
    make_parent_files(root, d__a="a", b="b")
    tar = tars.tar(
        tars.directory(b"d"), tars.entry(b"d/a", b"new"), tars.entry(b".wh.b"), tars.entry(b"d/.wh..wh..opq")
    )
    assert not round_trip(tar, root).lines_rewritten


@needs_root
def test_metadata_does_not_depend_on_the_umask(root: Path) -> None:
    old = os.umask(0o077)
    try:
        modes = {b"plain": 0o644, b"open": 0o666, b"setuid": 0o4755, b"setgid": 0o2711, b"none": 0, b"all": 0o7777}
        parts = [tars.entry(name, b"x", mode=mode, uid=12, gid=34, mtime=56) for name, mode in modes.items()]
        parts += [
            tars.directory(b"d-" + name, mode=mode, uid=12, gid=34, mtime=56) + tars.entry(b"d-" + name + b"/f", b"x")
            for name, mode in modes.items()
        ]
        round_trip(tars.tar(*parts), root)
    finally:
        os.umask(old)
    for name, mode in modes.items():
        for path in (root / name.decode(), root / f"d-{name.decode()}"):
            status = path.lstat()
            assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, 12, 34)
            assert status.st_mtime_ns == 56_000_000_000


def test_the_entry_of_the_root_sets_the_roots_metadata(root: Path) -> None:
    round_trip(tars.tar(tars.directory(b"./", mode=0o711, mtime=99), tars.entry(b"a", b"x")), root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o711
    assert root.stat().st_mtime == 99


@pytest.mark.parametrize("name", [b"", b".", b"./", b"/", b"//", b"./.", b"a/.."])
@pytest.mark.parametrize("kind", [b"0", b"1", b"2", b"3", b"6", b"7", b"Z"])
def test_an_entry_for_the_root_that_is_no_directory_is_skipped(name: bytes, kind: bytes, root: Path) -> None:
    root.chmod(0o750)
    nameless = tars.entry(name, b"data" if kind in b"07Z" else b"", typeflag=kind, linkname=b"x", mode=0o600, mtime=5)
    unpacked = round_trip(tars.tar(nameless, tars.entry(b"a", b"xy"), nameless), root)
    assert (os.listdir(root), unpacked.size) == (["a"], 2)
    assert stat.S_IMODE(root.stat().st_mode) == 0o750


def test_times_of_directories_are_set_last_and_other_directories_keep_theirs(root: Path) -> None:
    make_parent_files(root, kept__a="a", kept__b="b")
    os.utime(root / "kept", ns=(1, 2_000_000_003))
    os.utime(root, ns=(1, 4))
    parts = [tars.directory(b"d%d" % number, mtime=number) for number in range(200)]
    parts += [tars.entry(b"d%d/f" % number, b"x") for number in range(200)]
    parts += [tars.entry(b"kept/.wh.a"), tars.entry(b"kept/new", b"x")]
    round_trip(tars.tar(*parts), root)
    assert [(root / f"d{number}").stat().st_mtime for number in range(200)] == list(range(200))
    assert (root / "kept").stat().st_mtime_ns == 2_000_000_003
    assert root.stat().st_mtime_ns == 4


def test_missing_directories_are_made_with_mode_755(root: Path) -> None:
    old = os.umask(0o077)
    try:
        round_trip(tars.tar(tars.entry(b"a/b/c", b"x")), root)
    finally:
        os.umask(old)
    for path in (root / "a", root / "a/b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


MAPPING = IDMapping(uids=(IDRange(0, 100000, 1000),), gids=(IDRange(0, 200000, 1000),))


@needs_root
def test_user_and_group_ids_are_shifted(root: Path) -> None:
    parts = [
        tars.entry(b"implied/f", b"x", uid=5, gid=6),
        tars.directory(b"d", uid=7, gid=8),
        tars.symlink(b"l", b"f", uid=9, gid=10),
        tars.entry(b"fifo", typeflag=b"6", uid=11, gid=12),
    ]
    round_trip(tars.tar(*parts), root, id_mapping=MAPPING)
    owners = {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in root.rglob("*")}
    assert owners == {
        "implied": (100000, 200000),
        "f": (100005, 200006),
        "d": (100007, 200008),
        "l": (100009, 200010),
        "fifo": (100011, 200012),
    }


def test_an_id_outside_the_mapping_is_refused(root: Path) -> None:
    with pytest.raises(InvalidLayer, match=r"uid 1000 is in none.*entry 'f'"):
        unpack_tar(tars.tar(tars.entry(b"f", uid=1000)), root, id_mapping=MAPPING)


@pytest.mark.parametrize("uid", [1 << 32, -2, 1 << 40])
def test_an_id_that_no_file_can_have_is_refused(uid: int, root: Path) -> None:
    with pytest.raises(InvalidLayer, match="no file can belong to"):
        unpack_tar(tars.tar(tars.entry(b"f", uid=uid)), root)


@needs_root
@pytest.mark.parametrize("value", [-1, (1 << 32) - 1])
def test_the_id_minus_one_keeps_the_owner(value: int, root: Path) -> None:
    round_trip(tars.tar(tars.entry(b"f", b"x", uid=value, gid=7)), root)
    assert (root / "f").stat().st_uid == os.geteuid()
    assert (root / "f").stat().st_gid == 7


def test_hard_links_share_an_inode_with_the_last_entrys_metadata(root: Path) -> None:
    make_parent_files(root, lower="lower", d__f="f")
    (root / "link").symlink_to("/d")
    (root / "to-lower").symlink_to("lower")
    parts = [
        tars.entry(b"a", b"content", mtime=1),
        tars.hard_link(b"b", b"./a", mtime=2, mode=0o600),
        tars.hard_link(b"c", b"/b", mtime=3),
        tars.hard_link(b"lower2", b"lower", mtime=4),
        tars.hard_link(b"through", b"link/f", mtime=5),
        tars.hard_link(b"link2", b"to-lower"),
        tars.hard_link(b"x/y/z", b"a", mtime=6, mode=0o640),
        tars.hard_link(b"a", b"a"),
    ]
    unpacked = round_trip(tars.tar(*parts), root)
    assert len({(root / name).stat().st_ino for name in ("a", "b", "c", "x/y/z")}) == 1
    assert (root / "a").stat().st_mtime == 6
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o640
    assert (root / "lower2").samefile(root / "lower")
    assert (root / "through").samefile(root / "d/f")
    assert os.readlink(root / "link2") == "lower"
    assert unpacked.size == 7


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"absent", "does not exist"),
        (b"later", "does not exist"),
        (b"d", "to a directory"),
        (b"../outside/file", "not in the layer"),
        (b"..", "not in the layer"),
        (b".", "not in the layer"),
        (b"", "not in the layer"),
        (b"new", "does not exist"),
        (b"f/x", "no directory"),
        (b"loop/x", "form a loop"),
        (b".wh..wh.plnk/absent", "does not exist"),
        (b"/../outside/file", "does not exist"),
        (b"d/../../outside/file", "not in the layer"),
    ],
)
def test_impossible_hard_links_are_refused(target: bytes, reason: str, root: Path, canary: Path) -> None:
    make_parent_files(root, f="f", d__g="g")
    (root / "loop").symlink_to("loop")
    with pytest.raises(InvalidLayer, match=reason) as caught:
        unpack_tar(tars.tar(tars.hard_link(b"new", target), tars.entry(b"later", b"x")), root)
    assert caught.value.entry == b"new"
    assert caught.value.offset == 0


def test_hard_link_entries_with_content_become_files(root: Path) -> None:
    """pax writes such entries with `linkdata`. GNU tar and Docker cannot read them."""
    first = tars.entry(b"a", b"content")
    tar = tars.tar(first, tars.hard_link(b"b", b"a", b"content"), tars.entry(b"c", b"after"))
    unpacked = round_trip(tar, root)
    assert contents(root) == {"a": b"content", "b": b"content", "c": b"after"}
    assert unpacked.size == 12


def test_a_deep_link_target_does_not_close_the_directory_of_the_link(root: Path) -> None:
    """The target is so deep that, to open its directories, the link's own directory would be closed first."""
    deep = b"/".join([b"d"] * 200)
    parts = [
        tars.long_name(deep + b"/target") + tars.entry(b"x", b"t"),
        *(tars.entry(b"other%d/f" % n, b"x") for n in range(100)),
    ]
    parts.append(tars.long_name(deep + b"/target", b"K") + tars.hard_link(b"here/link", b"x"))
    round_trip(tars.tar(*parts), root)
    assert (root / "here/link").read_bytes() == b"t"
    assert (root / "here").is_dir()


@pytest.mark.parametrize("last", [tars.entry(b"dir/x", b"file"), tars.entry(b"dir/.wh.x"), tars.entry(b".wh..wh..opq")])
def test_removing_a_deep_tree_does_not_close_its_parent_directory(last: bytes, root: Path) -> None:
    deep = b"dir/x/" + b"/".join([b"d"] * 200) + b"/f"
    wide = [tars.entry(b"dir/x/%d/f" % number, b"x") for number in range(100)]
    start = tars.long_name(deep) + tars.entry(b"x", b"deep")
    unpacked = round_trip(tars.tar(start, *wide, tars.entry(b"dir/kept", b"k"), last), root)
    assert unpacked.size == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert (root / "dir/kept").exists()


@pytest.mark.parametrize("links", [0, 1, 2])
def test_hard_links_into_the_directory_of_aufs(links: int, root: Path) -> None:
    """aufs kept hard-linked files in a directory of its own. Layers made with it link into that directory."""
    parts = [tars.entry(b".wh..wh.aufs"), tars.directory(b".wh..wh.plnk"), tars.directory(b".wh..wh.orph")]
    parts += [tars.entry(b".wh..wh.plnk/1.2", b"overwritten"), tars.entry(b".wh..wh.plnk/1.2", b"shared")]
    parts += [tars.entry(b".wh..wh.orph/x", b"orphan")]
    parts += [tars.hard_link(b"dir/%d" % number, b".wh..wh.plnk/1.2", mode=0o640) for number in range(links)]
    unpacked = round_trip(tars.tar(*parts), root)
    assert contents(root) == ({"dir": "d"} if links else {}) | {f"dir/{number}": b"shared" for number in range(links)}
    assert unpacked.size == (6 if links else 0)


def test_entries_of_unknown_types_become_files(root: Path) -> None:
    tar = tars.tar(tars.entry(b"u", b"unknown", typeflag=b"Z"), tars.entry(b"c", b"contiguous", typeflag=b"7"))
    unpacked = round_trip(tar, root)
    assert contents(root) == {"u": b"unknown", "c": b"contiguous"}
    assert unpacked.size == 17


def test_entries_without_a_file_are_skipped(root: Path) -> None:
    tar = tars.tar(
        tars.entry(b"label", typeflag=b"V"),
        tars.pax([(b"path", b"../x"), (b"uid", b"9")], typeflag=b"g", name=b"pax_global_header"),
        tars.entry(b"continued", b"rest of a file", typeflag=b"M"),
        tars.pax([(b"comment", b"c")], typeflag=b"g", name=b"pax_global_header"),
        tars.entry(b"f", b"x"),
    )
    round_trip(tar, root)
    assert contents(root) == {"f": b"x"}
    assert (root / "f").stat().st_uid == os.geteuid()


OBSTACLES = {
    "a file": [tars.entry(b"a", b"x")],
    "a fifo": [tars.entry(b"a", typeflag=b"6")],
    "a link to a file": [tars.symlink(b"a", b"t"), tars.entry(b"t", b"t")],
    "a link to nothing": [tars.symlink(b"a", b"t")],
    "a link to a link to nothing": [tars.symlink(b"a", b"b"), tars.symlink(b"b", b"t")],
    "a loop": [tars.symlink(b"a", b"b"), tars.symlink(b"b", b"a")],
    "a hard-linked file": [tars.entry(b"t", b"t"), tars.hard_link(b"a", b"t")],
}
ENTRIES_BELOW = {
    "a file": ([tars.entry(b"a/n", b"new")], {"a/n": b"new"}),
    "a file deep down": ([tars.entry(b"a/d/n", b"new")], {"a/d": "d", "a/d/n": b"new"}),
    "a directory": ([tars.directory(b"a/n")], {"a/n": "d"}),
    "a whiteout": ([tars.entry(b"a/.wh.n")], {}),
    "a whiteout device": ([tars.entry(b"a/n", typeflag=b"3", device=(0, 0))], {}),
    "an opaque whiteout": ([tars.entry(b"a/.wh..wh..opq")], {}),
    "a hard link": ([tars.entry(b"s", b"new"), tars.hard_link(b"a/n", b"s")], {"s": b"new", "a/n": b"new"}),
    "two files": ([tars.entry(b"a/n", b"new"), tars.entry(b"a/m", b"too")], {"a/n": b"new", "a/m": b"too"}),
}


@pytest.mark.parametrize("entries", ENTRIES_BELOW)
@pytest.mark.parametrize("old", OBSTACLES)
def test_a_parents_file_on_the_path_of_an_entry_is_replaced_by_a_directory(old: str, entries: str, root: Path) -> None:
    unpack_tar(tars.tar(*OBSTACLES[old]), root)
    left = {name: what for name, what in contents(root).items() if name != "a"}
    new, wanted = ENTRIES_BELOW[entries]
    unpacked = round_trip(tars.tar(*new), root)
    assert contents(root) == {"a": "d", **left, **wanted}
    assert unpacked.size == sum(
        len(what) for what in {id(what): what for what in wanted.values() if what != "d"}.values()
    )
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o755


@pytest.mark.parametrize("target", [b"real", b"/real", b"real/../real/", b"other"])
@pytest.mark.parametrize("entries", ENTRIES_BELOW)
def test_a_symbolic_link_to_a_directory_is_followed(target: bytes, entries: str, root: Path) -> None:
    unpack_tar(tars.tar(tars.directory(b"real"), tars.symlink(b"other", b"real"), tars.symlink(b"a", target)), root)
    new, wanted = ENTRIES_BELOW[entries]
    round_trip(tars.tar(*new), root)
    through = {name.replace("a/", "real/"): what for name, what in wanted.items()}
    assert contents(root) == {"real": "d", "other": "-> real", "a": f"-> {target.decode()}", **through}


@pytest.mark.parametrize("entries", [name for name in ENTRIES_BELOW if name != "an opaque whiteout"])
@pytest.mark.parametrize("old", ["a file", "a fifo", "a link to a file", "a hard-linked file", "a loop"])
def test_an_entry_below_a_file_of_the_same_layer_is_refused(old: str, entries: str, root: Path) -> None:
    with pytest.raises(InvalidLayer, match=r"no directory|loop") as caught:
        unpack_tar(tars.tar(*OBSTACLES[old], *ENTRIES_BELOW[entries][0]), root)
    assert caught.value.entry is not None


@pytest.mark.parametrize("old", ["a file", "a fifo", "a link to a file"])
def test_an_opaque_whiteout_below_a_file_of_the_same_layer_hides_nothing(old: str, root: Path) -> None:
    round_trip(tars.tar(*OBSTACLES[old], tars.entry(b"a/.wh..wh..opq")), root)
    kept = contents(root)
    assert kept["a"] != "d"


def test_an_entry_below_a_link_to_a_parents_file_is_refused(root: Path) -> None:
    make_parent_files(root, t="t")
    with pytest.raises(InvalidLayer, match="no directory"):
        unpack_tar(tars.tar(tars.symlink(b"a", b"t"), tars.entry(b"a/n", b"x")), root)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (tars.entry(b"../x"), "leaves the layer's root"),
        (tars.entry(b".."), "leaves the layer's root"),
        (tars.entry(b"a/../../x"), "leaves the layer's root"),
        (tars.entry(b"../.wh.x"), "leaves the layer's root"),
        (tars.hard_link(b"y", b"f/below"), "no directory"),
        (tars.hard_link(b"y", b"loop/below"), "form a loop"),
        (tars.long_name(b"n" * 256) + tars.entry(b"n"), "too long"),
        (tars.long_name(b"n" * 256 + b"/x") + tars.entry(b"n"), "too long"),
        (tars.symlink(b"empty", b""), "without a target"),
    ],
)
def test_impossible_entries_are_refused(part: bytes, reason: str, root: Path, canary: Path) -> None:
    make_parent_files(root, f="f")
    os.mkfifo(root / "fifo")
    (root / "loop").symlink_to("loop")
    before = contents(root)
    with pytest.raises(InvalidLayer, match=reason) as caught:
        unpack_tar(tars.tar(tars.entry(b"before", b"x"), part), root)
    assert caught.value.offset == 1024
    assert contents(root) == before | {"before": b"x"}


@needs_root
@pytest.mark.parametrize("numbers", [(1 << 20, 5), (-1, 5), (5, 1 << 33), (4096, 1 << 20)])
def test_impossible_device_numbers_are_refused(numbers: tuple[int, int], root: Path) -> None:
    with pytest.raises(InvalidLayer, match="no device can have these numbers"):
        unpack_tar(tars.tar(tars.entry(b"dev", typeflag=b"3", device=numbers)), root)


@needs_root
@pytest.mark.parametrize(("flag", "test"), [(b"3", stat.S_ISCHR), (b"4", stat.S_ISBLK)])
def test_devices_get_their_numbers_and_metadata(flag: bytes, test: object, root: Path) -> None:
    parts = [
        tars.entry(b"dev", typeflag=flag, device=(300, 70000), mode=0o640, uid=1, gid=2, mtime=3),
        tars.hard_link(b"second", b"dev", mode=0o640, uid=1, gid=2, mtime=3),
    ]
    round_trip(tars.tar(*parts), root)
    status = (root / "dev").lstat()
    assert test(status.st_mode)  # type: ignore[operator]
    assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (300, 70000)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o640, 1, 2, 3)
    assert (root / "second").lstat().st_ino == status.st_ino


def test_a_file_too_large_for_the_file_system_makes_the_layer_invalid(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # as ext4 does; tmpfs would accept the size
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "truncate", refuse)
    size = b"%d" % ((1 << 63) - 1)
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", size)]
    part = tars.pax(records) + tars.entry(b"huge", tars.padded(b"0\n"))
    with pytest.raises(InvalidLayer, match="cannot hold a file so large"):
        unpack_tar(tars.tar(part), root)


def test_the_error_for_a_missing_root_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        unpack_tar(tars.tar(), tmp_path / "absent")
    assert "absent" in str(caught.value)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([tars.hard_link(b"lower", b"lower"), tars.directory(b"lower")], id="linked to itself"),
        pytest.param(
            [tars.hard_link(b"new", b"lower"), tars.entry(b".wh.lower"), tars.directory(b"new")], id="under a new name"
        ),
        pytest.param(
            [
                tars.directory(b"d"),
                tars.hard_link(b"d/new", b"lower"),
                tars.entry(b".wh.lower"),
                tars.entry(b"d", b"12345"),
            ],
            id="with its directory",
        ),
    ],
)
def test_removing_a_hard_linked_file_of_the_parent_does_not_reduce_the_layers_size(
    entries: list[bytes], root: Path
) -> None:
    make_parent_files(root, lower="seven b")
    unpacked = round_trip(tars.tar(*entries), root)
    assert unpacked.size == (5 if (root / "d").is_file() else 0)


@pytest.mark.parametrize("error", [TimeoutError, RuntimeError, KeyboardInterrupt])
def test_an_exception_of_a_signal_handler_while_files_are_made_is_raised(
    error: type[BaseException], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **_named: object) -> None:
        raise error

    tar = tars.tar(*(tars.entry(b"f%d" % number, b"abc") for number in range(5)))
    with monkeypatch.context() as patched:
        patched.setattr(os, "utime", interrupted)
        with pytest.raises(error):
            unpack_tar(tar, root)
