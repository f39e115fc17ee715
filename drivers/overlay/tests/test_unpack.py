"""Unpacking into a layer's own directory: whiteouts, inherited metadata, hard links to lower files."""

from __future__ import annotations

import itertools
import os
import stat
import tarfile
import threading

import pytest
from hypothesis import assume, given
from layerstore_overlay.lowers import TRUSTED, LowerLayers

from layerstore_core import unpack_layer
from layerstore_core.errors import InvalidLayer

from .conftest import MTIME, build, entry, layer
from .trees import chains, listing

_numbers = itertools.count()


def mounted_listing(driver, layer_id):
    # The layer is mounted as the parent of a new one, as users see it: a base layer itself is never mounted.
    driver.create_read_write(f"{layer_id}-look", layer_id, "", {})
    try:
        return listing(driver.get(f"{layer_id}-look", ""))
    finally:
        driver.put(f"{layer_id}-look")
        driver.remove(f"{layer_id}-look")


def upper(driver, layer_id):
    return driver.metadata(layer_id)["UpperDir"]


def is_whiteout(path):
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path):
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def test_whiteouts_and_opaque_directories_become_marks_and_hide_lower_files(driver):
    build(driver, "base", "", "keep", "gone", "dir/", "dir/old", "deep/", "deep/gone")
    build(driver, "top", "base", ".wh.gone", "dir/", "dir/new", "dir/.wh..wh..opq", "deep/.wh.gone")
    diff = upper(driver, "top")
    assert is_whiteout(f"{diff}/gone")
    assert is_whiteout(f"{diff}/deep/gone")
    assert is_opaque(f"{diff}/dir")
    assert not is_opaque(f"{diff}/deep")
    assert sorted(mounted_listing(driver, "top")) == [b".", b"deep", b"dir", b"dir/new", b"keep"]


def test_a_whiteout_in_a_base_layer_has_nothing_to_hide(driver):
    build(driver, "base", "", "gone", ".wh.gone", "dir/", "dir/.wh..wh..opq", "dir/new")
    assert sorted(listing(driver.get("base", ""))) == [b".", b"dir", b"dir/new"]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param((".wh.x", "x/", "x/new"), id="a directory after a whiteout of its name"),
        pytest.param((".wh.x", "x/new"), id="the same, implied by what is in it"),
        pytest.param(("x", "x/", "x/new"), id="a directory after a file of its name"),
        pytest.param(("x/", ".wh.x", "x/", "x/new"), id="a directory again after its whiteout"),
    ],
)
def test_a_directory_that_replaces_a_hiding_file_hides_the_lower_directory_too(driver, entries):
    build(driver, "base", "", "x/", "x/old")
    build(driver, "top", "base", *entries)
    assert sorted(mounted_listing(driver, "top")) == [b".", b"x", b"x/new"]


def test_an_opaque_root_hides_all_layers_below(driver):
    build(driver, "base", "", "old", "dir/", "dir/old")
    build(driver, "top", "base", ".wh..wh..opq", "new")
    build(driver, "child", "top", "child")
    assert sorted(mounted_listing(driver, "top")) == [b".", b"new"]
    assert sorted(mounted_listing(driver, "child")) == [b".", b"child", b"new"]
    assert sorted(listing(driver.get("top", ""))) == [b".", b"new"]  # committed: mounted read-only
    driver.put("top")
    assert [str(c) for c in driver.changes("top", "base")] == ["D /dir", "A /new", "D /old"]


def test_an_opaque_root_without_children_is_mounted_writable(driver):
    build(driver, "base", "", "old")
    build(driver, "top", "base", ".wh..wh..opq", "new")
    merged = driver.get("top", "")
    assert sorted(os.listdir(merged)) == ["new"]
    with open(f"{merged}/more", "w"):
        pass
    driver.put("top")
    assert [str(c) for c in driver.changes("top", "base")] == ["A /more", "A /new", "D /old"]


def test_implied_directories_inherit_the_metadata_of_the_lower_ones(driver):
    attributes = {"trusted.note": "kept"}
    build(driver, "base", "", entry("a/", mode=0o1777, uid=7, gid=8, mtime=MTIME - 5, xattrs=attributes), "a/b/")
    build(driver, "middle", "base", "a/b/file")
    build(driver, "top", "middle", "a/b/other", ".wh.unknown", "new/file")
    for directory in upper(driver, "top"), driver.get("top", ""):
        status = os.stat(f"{directory}/a")
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 7, 8)
        assert status.st_mtime == MTIME - 5
        assert os.getxattr(f"{directory}/a", "trusted.note") == b"kept"
        assert stat.S_IMODE(os.stat(f"{directory}/new").st_mode) == 0o755


def test_implied_directories_inherit_metadata_from_a_parent_that_is_applied_later(driver):
    # Layers of one image are applied at the same time; this is the worst order.
    driver.create("base", "", {})
    driver.create("middle", "base", {})
    driver.create("top", "middle", {})
    awaited = []

    def waiting(diff, apply_parent):
        def wait():
            if diff not in awaited:
                awaited.append(diff)
                apply_parent()

        diff._await_parents = wait
        return diff

    def apply_base():
        driver.apply_diff("base", "", layer(entry("a/", mode=0o700, uid=7), entry("a/b/", mode=0o711, mtime=MTIME - 9)))

    def apply_middle():
        driver.apply_diff("middle", "base", waiting(layer("a/middle"), apply_base))

    driver.apply_diff("top", "middle", waiting(layer("a/b/top"), apply_middle))
    assert len(awaited) == 2
    found = mounted_listing(driver, "top")
    assert found[b"a"][:2] == (oct(stat.S_IFDIR | 0o700), 7)
    assert found[b"a/b"][0] == oct(stat.S_IFDIR | 0o711)
    assert found[b"a/b"][4] == (MTIME - 9) * 10**9
    assert "unsettled" not in os.listdir(os.path.dirname(upper(driver, "top")))


def test_notes_are_not_applied_through_a_link_that_was_made_later(driver, place):
    outside = place / "outside"
    (outside / "d").mkdir(parents=True)
    os.mknod(outside / "d" / "gone", stat.S_IFCHR, 0)
    build(driver, "base", "", entry("x/", mode=0o700), entry("x/d/", mode=0o777, uid=7))
    link = entry("x", kind=tarfile.SYMTYPE, link=str(outside))
    build(driver, "top", "base", "x/d/file", "x/d/.wh.gone", link)
    mounted_listing(driver, "top")
    assert (outside / "d").stat().st_uid == 0
    assert os.listdir(outside / "d") == ["gone"]


def test_a_hard_link_to_a_lower_file_copies_it_up(driver):
    build(driver, "base", "", entry("d/file", "content", uid=7), entry("d/sym", kind=tarfile.SYMTYPE, link="x"))
    build(driver, "top", "base", entry("link", kind=tarfile.LNKTYPE, link="d/file", mode=0o600))
    diff = upper(driver, "top")
    assert os.path.samefile(f"{diff}/link", f"{diff}/d/file")
    assert mounted_listing(driver, "top")[b"d/file"][5] == b"content"


def test_a_hard_link_to_a_hard_linked_lower_file_copies_up_all_its_names(driver):
    def link(name, target):
        return entry(name, kind=tarfile.LNKTYPE, link=target)

    names = (
        "d/",
        "gone/",
        "d/1",
        link("2", "d/1"),
        link("d/3", "2"),
        link("gone/4", "2"),
        link("5", "2"),
        link("6", "2"),
    )
    build(driver, "base", "", *names)
    build(driver, "middle", "base", entry("5", "another"))
    build(driver, "top", "middle", ".wh.6", ".wh.gone", link("own", "d/3"), entry("new", "x"))
    driver.create_read_write("look", "top", "", {})
    merged = driver.get("look", "")
    linked = {name for name in ("own", "d/1", "2", "d/3", "5") if os.path.samefile(f"{merged}/{name}", f"{merged}/own")}
    assert linked == {"own", "d/1", "2", "d/3"}
    assert os.stat(f"{merged}/own").st_nlink == 4
    assert sorted(os.listdir(merged)) == ["2", "5", "d", "new", "own"]


def test_a_lower_layer_is_searched_only_once_for_hard_links(driver, monkeypatch):
    def link(name, target):
        return entry(name, kind=tarfile.LNKTYPE, link=target)

    count = 30
    files = [entry(f"d/{number}", "x") for number in range(count)]
    build(driver, "base", "", "d/", *files, *(link(f"twin{number}", f"d/{number}") for number in range(count)))
    searched, below = [], upper(driver, "base")
    scandir = os.scandir

    def counting(path):
        if not isinstance(path, int) and os.fsdecode(path).startswith(below):
            searched.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    build(driver, "top", "base", *(link(f"new{number}", f"d/{number}") for number in range(count)))
    assert len(searched) <= 2  # the root, and its directory
    top = upper(driver, "top")
    for number in range(count):
        names = [f"{top}/d/{number}", f"{top}/twin{number}", f"{top}/new{number}"]
        assert len({os.stat(name).st_ino for name in names}) == 1


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.BLKTYPE, tarfile.SYMTYPE])
def test_a_hard_link_to_a_lower_special_file_copies_it_up(driver, kind):
    build(driver, "base", "", entry("file", kind=kind, link="nowhere" if kind == tarfile.SYMTYPE else "", mode=0o640))
    build(driver, "top", "base", entry("link", kind=tarfile.LNKTYPE, link="file", mode=0o640))
    diff = upper(driver, "top")
    one, other, below = (os.lstat(path) for path in (f"{diff}/link", f"{diff}/file", f"{upper(driver, 'base')}/file"))
    assert os.path.samestat(one, other)
    assert (one.st_mode, one.st_rdev) == (below.st_mode, below.st_rdev)


def test_a_hard_link_to_a_lower_directory_is_refused(driver):
    build(driver, "base", "", "d/")
    driver.create("top", "base", {})
    with pytest.raises(InvalidLayer, match="hard link to a directory"):
        driver.apply_diff("top", "base", layer(entry("link", kind=tarfile.LNKTYPE, link="d")))


@pytest.mark.parametrize("target", ["missing", "gone", "hidden/file"])
def test_a_hard_link_to_a_missing_file_is_refused(driver, target):
    build(driver, "base", "", "gone", "hidden/file")
    driver.create("top", "base", {})
    link = entry("link", kind=tarfile.LNKTYPE, link=target)
    with pytest.raises(InvalidLayer, match="hard link"):
        driver.apply_diff("top", "base", layer(".wh.gone", "hidden/", "hidden/.wh..wh..opq", link))


@pytest.mark.parametrize("target", ["d/file", "again/file"])
def test_a_hard_link_in_place_of_the_directory_that_it_leads_through_is_refused(driver, target):
    """The link replaces a directory of the same layer, or of a lower one."""
    build(driver, "base", "", "d/", "d/file", entry("again", kind=tarfile.SYMTYPE, link="d"))
    driver.create("top", "base", {})
    with pytest.raises(InvalidLayer, match=r"hard link to .*, which"):
        driver.apply_diff("top", "base", layer(entry("d", kind=tarfile.LNKTYPE, link=target)))


def test_a_diff_is_applied_to_a_writable_layer_with_files(driver):
    build(driver, "base", "", "d/", "d/base", "gone")
    driver.create_read_write("rw", "base", "", {})
    merged = driver.get("rw", "")
    for name in "d/mine", "file":
        with open(f"{merged}/{name}", "w"):
            pass
    driver.put("rw")
    driver.apply_diff("rw", "base", layer("d/.wh..wh..opq", "d/new", ".wh.file", ".wh.gone"))
    assert sorted(listing(driver.get("rw", ""))) == [b".", b"d", b"d/new"]
    # The directories of a mounted overlay must not be changed directly.
    assert driver.apply_diff("rw", "base", layer("more")) is None
    driver.put("rw")


def test_layers_of_one_image_are_applied_at_the_same_time(driver):
    ids = [f"c{number}" for number in range(8)]
    for below, layer_id in zip(["", *ids], ids, strict=False):
        driver.create(layer_id, below, {})
    failures = []

    def apply(number):
        try:
            below = ids[number - 1] if number else ""
            driver.apply_diff(ids[number], below, layer("d/", f"d/{number}", f"d/.wh.{number - 1}"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=apply, args=(number,)) for number in reversed(range(8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(mounted_listing(driver, ids[-1])) == [b".", b"d", b"d/7"]


@given(chain=chains)
def test_a_mounted_chain_shows_the_same_tree_as_unpacking_into_one_directory(chain, shared_driver, tmp_path_factory):
    plain = str(tmp_path_factory.mktemp("plain"))
    os.chmod(plain, 0o755)
    below = ""
    for entries in chain:
        try:
            expected_size = unpack_layer(layer(*entries), plain)
        except InvalidLayer:
            # A layer's own directory does not show a lower file that is in the way of a directory. Docker's two
            # drivers differ in the same way.
            assume(False)
        layer_id = f"p{next(_numbers)}"
        assert build(shared_driver, layer_id, below, *entries) == expected_size
        below = layer_id
    if below:
        assert mounted_listing(shared_driver, below) == listing(plain)


@given(chain=chains)
def test_the_uppermost_layer_with_a_path_is_found_without_reading_the_others(chain, shared_driver):
    lowers = []
    below = ""
    for entries in chain:
        layer_id = f"f{next(_numbers)}"
        try:
            build(shared_driver, layer_id, below, *entries)
        except InvalidLayer:
            assume(False)
        lowers.insert(0, upper(shared_driver, layer_id))
        below = layer_id
    asked = []

    def roots():
        for lower in lowers:
            asked.append(os.fsencode(lower))
            yield lower

    for depth in (1, 2, 3):
        for names in itertools.product("abc", repeat=depth):
            path = "/".join(names).encode()
            asked.clear()
            first = LowerLayers(roots, TRUSTED).first(path)
            if first:
                assert first.path == os.path.join(asked[-1], path)
            found = LowerLayers(roots, TRUSTED).find(path)
            assert (first and (first.path, first.status)) == (found and (found.path, found.status))


def test_a_base_layer_has_no_lower_files(driver):
    build(driver, "base", "", "one/file", "two/file", "three/gone", "three/.wh.gone", "four/.wh.gone")
    below = LowerLayers(list, TRUSTED)
    for _ in range(2):
        assert below.first(b"one") is None
        assert below.find(b"one") is None
    assert {b"one/file", b"two/file"} < set(mounted_listing(driver, "base"))
