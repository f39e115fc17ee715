"""Changes and diffs from a layer's own directory: the same as from comparing the merged trees."""

from __future__ import annotations

import io
import itertools
import os
import tarfile

import pytest
from hypothesis import event, given
from layerstore_overlay.lowers import LowerLayers

from layerstore_core import compare_trees
from layerstore_core.sdk import changed_usage
from tests.without_kernels import plain_way

from .conftest import build, entry, stream
from .trees import chains, edit, edits, listing

_numbers = itertools.count()


@pytest.fixture
def edited(driver):
    """The mounted trees of a writable layer on two others, and of its parent."""
    build(driver, "base", "", "a/", "a/a/", entry("a/b", "1"), "a/a/c", "b/", entry("b/c", "2"), entry("c", "3"))
    build(driver, "second", "base", "a/", "a/c", ".wh.b", "b/", "b/new")
    driver.create_read_write("look", "second", "", {})
    driver.create_read_write("rw", "second", "", {})
    lower, merged = driver.get("look", ""), driver.get("rw", "")
    yield merged, lower
    driver.put("rw")
    driver.put("look")


def shown(changes):
    return [str(change) for change in changes]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("write", "new", "", 1)], ["A /new"]),
        ([("remove", "c", "", 0)], ["D /c"]),
        ([("remove", "a/a", "", 0)], ["C /a", "D /a/a"]),
        ([("write", "a/a/c", "", 1)], ["C /a", "C /a/a", "C /a/a/c"]),
        ([("write", "temporary", "", 1), ("remove", "temporary", "", 0)], []),
        ([("replace", "a", "", 0)], ["C /a", "D /a/a", "D /a/b", "D /a/c"]),
        ([("replace", "a", "", 0), ("mkdir", "a/a", "", 0)], ["C /a", "C /a/a", "D /a/a/c", "D /a/b", "D /a/c"]),
        ([("rename", "b/new", "moved", 0)], ["C /b", "D /b/new", "A /moved"]),
        ([("chmod", "c", "", 0), ("chmod", "c", "", 1)], ["C /c"]),
        ([("remove", "a", "", 0), ("write", "a", "", 1)], ["C /a"]),
        ([("remove", "c", "", 0), ("mkdir", "c", "", 0), ("write", "c/x", "", 0)], ["C /c", "A /c/x"]),
    ],
)
def test_changes_are_found_in_the_upper_directory_alone(driver, edited, steps, expected):
    edit(edited[0], steps)
    assert shown(driver.changes("rw", "second")) == expected


def test_a_file_copied_up_and_left_as_it_was_is_no_change(driver, edited):
    os.utime(f"{edited[0]}/c", ns=(0, os.stat(f"{edited[1]}/c").st_mtime_ns))
    assert os.listdir(driver.metadata("rw")["UpperDir"]) == ["c"]
    assert driver.changes("rw", "second") == []
    assert driver.diff_size("rw", "second") == 0


def test_an_opaque_directory_becomes_an_opaque_whiteout(driver, edited):
    merged, _ = edited
    edit(merged, [("replace", "a", "", 0), ("write", "a/b", "", 1), ("mkdir", "new", "", 0)])
    with driver.diff("rw", "second") as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        assert tar.getnames() == ["a", "a/.wh..wh..opq", "a/b", "new"]


def test_trees_are_compared_if_overlayfs_has_moved_files(driver, edited):
    merged, _ = edited
    edit(merged, [("chmod", "a", "", 0)])
    upper = driver.metadata("rw")["UpperDir"]
    os.setxattr(f"{upper}/a", "trusted.overlay.redirect", b"elsewhere")
    assert driver.changes("rw", "second") is None
    assert driver.diff("rw", "second") is None
    assert driver.diff_size("rw", "second") is None


def test_trees_are_compared_for_an_ancestor_that_is_not_the_parent(driver, edited):
    assert driver.changes("rw", "base") is None
    assert driver.changes("rw", "") is None


def test_trees_are_compared_if_one_of_several_hard_links_was_copied_up(driver):
    build(driver, "base", "", entry("one", "x"), entry("two", kind=tarfile.LNKTYPE, link="one"))
    driver.create_read_write("rw", "base", "", {})
    merged = driver.get("rw", "")
    os.utime(f"{merged}/two", ns=(0, os.stat(f"{merged}/two").st_mtime_ns))
    assert driver.changes("rw", "base") is None
    driver.put("rw")


def test_the_changes_of_a_base_layer_are_all_its_files(driver):
    build(driver, "base", "", "d/", entry("d/file", "four"), ".wh.nothing")
    assert shown(driver.changes("base", "")) == ["A /d", "A /d/file"]
    assert driver.diff_size("base", "") == 4


@given(chain=chains, steps=edits)
def test_changes_are_the_same_as_those_of_comparing_the_merged_trees(chain, steps, shared_driver, tmp_path_factory):
    driver, below = shared_driver, ""
    for entries in [[entry("a/"), entry("a/b", "0"), entry("b/"), entry("c", "1")], *chain]:
        layer_id = f"n{next(_numbers)}"
        try:
            build(driver, layer_id, below, *entries)
        except Exception:  # not all that hypothesis makes is a valid layer
            driver.remove(layer_id)
            continue
        below = layer_id
    look, top = f"{below}-look", f"{below}-rw"
    driver.create_read_write(look, below, "", {})
    driver.create_read_write(top, below, "", {})
    try:
        lower, merged = driver.get(look, ""), driver.get(top, "")
        edit(merged, steps)
        expected = compare_trees(merged, lower)
        native = driver.changes(top, below)
        event("native" if native is not None else "left to comparing trees")
        if native is None:
            return
        assert shown(native) == shown(expected)
        with plain_way():
            assert driver.changes(top, below) == native
        assert driver.diff_size(top, below) == changed_usage(merged, expected)[0]
        with driver.diff(top, below) as file:
            tar = file.read()
        # Applying the diff to the parent gives the same tree: in a layer of its own, and in the same directory.
        after = listing(merged)
        again = f"{below}-again"
        driver.create(again, below, {})
        driver.apply_diff(again, below, stream(tar))
        driver.create_read_write(f"{again}-look", again, "", {})
        assert unlinked(listing(driver.get(f"{again}-look", ""))) == unlinked(after)
        driver.put(f"{again}-look")
    finally:
        driver.put(top)
        driver.put(look)


def unlinked(tree):
    """Return a listing without the times of directories: a new time alone is no change."""
    return {path: (*one[:4], None if one[0].startswith("0o4") else one[4], *one[5:]) for path, one in tree.items()}


def test_only_changed_files_are_read(one_driver, monkeypatch):
    names = [f"{number // 100}/{number}" for number in range(2000)]
    build(one_driver, "base", "", *names)
    one_driver.create_read_write("rw", "base", "", {})
    merged = one_driver.get("rw", "")
    for name in names[::200]:
        with open(f"{merged}/{name}", "w") as file:
            file.write("changed")
    looked_at = []
    look_up = LowerLayers.look_up
    monkeypatch.setattr(LowerLayers, "look_up", lambda *args: looked_at.append(args[2]) or look_up(*args))
    with plain_way():
        assert len(one_driver.changes("rw", "base")) == 20
    assert len(looked_at) == 20
    looked_at.clear()
    assert len(one_driver.changes("rw", "base")) == 20
    assert len(looked_at) <= 20
    one_driver.put("rw")
