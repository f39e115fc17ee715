"""Mount instructions of the driver, mounted as an engine does it: marks, notes, odd paths, long chains."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layerstore_overlay.mounts import is_mount_point

from layerstore_core import BadRecord, compare_trees
from layerstore_core.conformance.groups.engine import mounted_by_engine
from layerstore_core.errors import MaxDepthExceeded

from .conftest import build, entry, layer, make_driver, unmount_below
from .trees import chains, edit, edits, listing

_numbers = itertools.count()


@pytest.fixture
def target(place):
    (place / "target").mkdir()
    return place / "target"


def tree(path):
    return {os.fsdecode(name): found for name, found in listing(path).items()}


def shown(driver, layer_id, target, *, read_only=True):
    with mounted_by_engine(driver.mounts(layer_id, read_only), target) as path:
        return tree(path)


def through_get(driver, layer_id):
    try:
        return tree(driver.get(layer_id, ""))
    finally:
        driver.put(layer_id)


def lowers(mounts):
    (mount,) = mounts
    (option,) = [option for option in mount.options if option.startswith("lowerdir=")]
    return option.removeprefix("lowerdir=").split(":")


def test_the_forms_of_instructions(one_driver, disk):
    home = f"{disk}/overlay2"
    build(one_driver, "base", "", "file")
    build(one_driver, "top", "base", "more")
    one_driver.create_read_write("rw", "top", "", {})
    (bound,) = one_driver.mounts("base", read_only=True)
    assert (bound.type, bound.source, bound.options) == ("bind", f"{home}/base/diff", ("ro", "rbind"))
    one_driver.create_read_write("rw-base", "", "", {})
    (bound,) = one_driver.mounts("rw-base", read_only=False)
    assert (bound.source, bound.options) == (f"{home}/rw-base/diff", ("rw", "rbind"))
    (view,) = one_driver.mounts("top", read_only=True)
    assert (view.type, view.source) == ("overlay", "overlay")
    assert view.options[:2] == ("ro", "index=off")
    assert not [option for option in view.options if option.startswith(("upperdir", "workdir"))]
    (active,) = one_driver.mounts("rw", read_only=False)
    assert active.options[:3] == ("index=off", f"workdir={home}/rw/work", f"upperdir={home}/rw/diff")
    names = {name: (disk / "overlay2" / name / "link").read_text() for name in ("base", "top")}
    assert lowers([view]) == lowers([active]) == [home + "/l/" + names["top"], home + "/l/" + names["base"]]


@pytest.mark.parametrize("layer_id", ["top", "rw"])
def test_notes_are_applied_before_the_mount(driver, target, layer_id):
    """Layers that were applied before their parents leave notes for their first use: here it is an engine's mount."""
    driver.create("base", "", {})
    driver.create("middle", "base", {})
    driver.create("top", "middle", {})
    driver.apply_diff("top", "middle", layer("own/", "own/.wh.idle", "file"))
    driver.apply_diff("middle", "base", layer("more"))
    driver.apply_diff("base", "", layer(entry("./", mode=0o700, uid=7)))
    home = target.parent / "overlay2"
    assert (home / "top/unsettled").exists()
    if layer_id == "rw":
        driver.create_read_write("rw", "top", "", {})
    found = shown(driver, layer_id, target, read_only=layer_id == "top")
    assert found["."][:2] == (oct(0o40700), 7)
    assert found.keys() == {".", "own", "file", "more"}
    assert not (home / "top/unsettled").exists()
    assert found == through_get(driver, layer_id)


@pytest.mark.parametrize("read_only", [True, False])
def test_opaque_roots_hide_what_is_below(driver, target, read_only):
    build(driver, "base", "", "hidden", "d/", "d/hidden")
    build(driver, "opaque", "base", ".wh..wh..opq", "own", "d/", "d/own")
    build(driver, "top", "opaque", "d/more")
    driver.create_read_write("rw", "top", "", {})
    driver.create_read_write("on-opaque", "opaque", "", {})
    for layer_id, names in (("opaque", {"own", "d", "d/own"}), ("top", {"own", "d", "d/own", "d/more"})):
        assert shown(driver, layer_id, target).keys() - {"."} == names
    for layer_id in ("rw", "on-opaque"):
        wanted = through_get(driver, layer_id)
        assert shown(driver, layer_id, target, read_only=read_only) == wanted
        assert "hidden" not in wanted


def test_a_writable_layer_with_an_opaque_root(driver, target):
    build(driver, "base", "", "hidden")
    driver.create_read_write("rw", "base", "", {})
    driver.apply_diff("rw", "base", layer(".wh..wh..opq", "own"))
    with mounted_by_engine(driver.mounts("rw", read_only=False), target) as path:
        (path / "written").write_text("x")
    driver.seal("rw")
    assert shown(driver, "rw", target).keys() == {".", "own", "written"}
    build(driver, "child", "rw", "more")
    assert shown(driver, "child", target) == through_get(driver, "child")


@pytest.mark.parametrize("name", ["with, comma", "with:colon", "back\\slash", "all:of,them\\:", 'quo"te', "ends\\"])
def test_odd_names_above_the_home(place, target, name):
    (place / name).mkdir()
    driver = make_driver(place / name)
    try:
        build(driver, "base", "", entry("file", "below"))
        build(driver, "top", "base", entry("more", "above"))
        driver.create_read_write("rw", "top", "", {})
        with mounted_by_engine(driver.mounts("rw", read_only=False), target) as path:
            assert sorted(os.listdir(path)) == ["file", "more"]
            (path / "written").write_text("x")
        assert shown(driver, "rw", target) == through_get(driver, "rw")
        assert (place / name / "overlay2/rw/diff/written").read_text() == "x"
    finally:
        unmount_below(str(place / name))


def test_128_lower_layers_of_a_home_with_a_long_path(disk):
    place = disk / ("x" * 100) / ("y" * 60)
    place.mkdir(parents=True)
    (disk / "target").mkdir()
    driver = make_driver(place)
    below = ""
    for number in range(128):
        name = f"{number:064}"
        driver.create_read_write(name, below, "", {})
        with open(place / "overlay2" / name / "diff" / f"f{number}", "w"):
            pass
        driver.seal(name)
        below = name
    driver.create_read_write("f" * 64, below, "", {})
    mounts = driver.mounts("f" * 64, read_only=False)
    assert len(os.fsencode(",".join(mounts[0].options))) > 2 * 4096
    with mounted_by_engine(mounts, disk / "target") as path:
        assert len(os.listdir(path)) == 128
        (path / "written").write_text("x")
    with mounted_by_engine(driver.mounts(below, read_only=True), disk / "target") as path:
        assert len(os.listdir(path)) == 128
    driver.seal("f" * 64)
    for number in range(30):
        name = f"more-{number}"
        driver.create_read_write(name, below, "", {})
        driver.seal(name)
        below = name
    driver.create_read_write("last", below, "", {})
    with pytest.raises(MaxDepthExceeded, match=r"with 158 lower layers needs options of \d+ bytes.*at most 4095"):
        driver.mounts(below, read_only=True)
    with pytest.raises(MaxDepthExceeded):
        driver.mounts("last", read_only=False)
    with open(os.path.join(driver.get("last", ""), "written"), "w"):  # not given, so still writable here
        pass
    driver.put("last")


def test_a_layer_that_is_mounted_here_is_not_given_writable(driver, target):
    build(driver, "base", "", "file")
    driver.create_read_write("rw", "base", "", {})
    merged = driver.get("rw", "")
    with pytest.raises(OSError, match="only one mount may be writable") as refused:
        driver.mounts("rw", read_only=False)
    assert (refused.value.errno, refused.value.filename) == (errno.EBUSY, merged)
    driver.put("rw")
    told = driver.mounts("rw", read_only=False)
    with mounted_by_engine(told, target) as path:
        (path / "first").write_text("1")
        merged = driver.get("rw", "")
        assert sorted(os.listdir(merged)) == ["file", "first"]
        with pytest.raises(OSError, match="Read-only"), open(f"{merged}/second", "w"):
            pass
        assert driver.mounts("rw", read_only=False) == told
        driver.put("rw")
        (path / "file").unlink()  # needs the working directory, which a second writable mount would have removed
    assert through_get(driver, "rw").keys() == {".", "first"}


def test_sealed_layers_and_parents_are_given_read_only_only(driver, target):
    build(driver, "base", "", "file")
    driver.create_read_write("rw", "base", "", {})
    driver.seal("rw")
    driver.create_read_write("child", "rw", "", {})
    for name in ("base", "rw"):
        with pytest.raises(OSError, match="sealed or has children") as refused:
            driver.mounts(name, read_only=False)
        assert refused.value.errno == errno.EROFS
        assert driver.mounts(name, read_only=True)
    merged = driver.get("rw", "")
    with pytest.raises(OSError, match="Read-only"), open(f"{merged}/new", "w"):
        pass
    driver.put("rw")


def test_a_sealed_layer_survives_damage_as_others_do(driver, target):
    build(driver, "base", "", "file")
    driver.create_read_write("rw", "base", "", {})
    with mounted_by_engine(driver.mounts("rw", read_only=False), target) as path:
        (path / "written").write_text("x")
    driver.seal("rw")
    build(driver, "child", "rw", "more")
    before = through_get(driver, "child")
    home = target.parent / "overlay2"
    os.unlink(home / "rw/lower")
    assert driver.check_layer("rw", "base")
    assert driver.parent_of("rw", "base") is None
    with pytest.raises(BadRecord, match="it is missing, but the layer has a parent"):
        driver.mounts("rw", read_only=True)
    assert driver.repair_layer("rw", "base", proved=True)
    assert driver.check_layer("rw", "base") == []
    assert driver.parent_of("rw", "base") == "base"
    assert shown(driver, "child", target) == before


def test_a_short_name_that_leads_elsewhere_is_refused(driver, target):
    build(driver, "base", "", "file")
    build(driver, "top", "base", "more")
    home = target.parent / "overlay2"
    link = home / "l" / (home / "base/link").read_text()
    link.unlink()
    link.symlink_to("/etc")
    with pytest.raises(BadRecord, match="a short name leads to"):
        driver.mounts("top", read_only=True)
    link.unlink()
    link.symlink_to("../base/diff")
    (home / "top/link").write_text("../../../etc")
    (mount,) = driver.mounts("top", read_only=True)
    assert lowers([mount])[0] == f"{home}/top/diff"


def test_removal_while_somebody_else_has_a_mount(driver, target):
    """The layers go away, as was asked; what an engine has mounted inside of the tree stays."""
    volume = target.parent / "volume"
    volume.mkdir()
    (volume / "precious").write_text("x")
    build(driver, "base", "", "d/")
    driver.create_read_write("rw", "", "", {})
    (target.parent / "overlay2/rw/diff/data").mkdir()
    subprocess.run(["mount", "--bind", volume, target.parent / "overlay2/rw/diff/data"], check=True)
    driver.remove("rw")
    assert not driver.exists("rw")
    assert (volume / "precious").read_text() == "x"
    driver.create_read_write("over", "base", "", {})
    with mounted_by_engine(driver.mounts("over", read_only=False), target) as path:
        (path / "d/file").write_text("x")
        driver.remove("over")
        assert os.path.ismount(path)
    assert driver.layer_ids() == ["base"]
    assert not is_mount_point(str(target))


@given(chain=chains, written=st.lists(edits, min_size=2, max_size=3))
@settings(max_examples=max(1, settings.default.max_examples // 3))
def test_an_engine_sees_and_makes_the_same_trees(chain, written, shared_driver, tmp_path_factory):
    """Layers of tars, and on them layers that an engine has written and sealed: as through `get`."""
    driver, target, below = shared_driver, tmp_path_factory.mktemp("target"), ""
    made = []
    for entries in [[entry("a/"), entry("a/b", "0"), entry("b/"), entry("c", "1")], *chain]:
        layer_id = f"i{next(_numbers)}"
        try:
            build(driver, layer_id, below, *entries)
        except Exception:  # not all that hypothesis makes is a valid layer
            driver.remove(layer_id)
            continue
        made.append(layer_id)
        below = layer_id
        assert shown(driver, below, target) == through_get(driver, below)
    for steps in written:
        layer_id = f"{below}-s"
        driver.create_read_write(layer_id, below, "", {})
        made.append(layer_id)
        with mounted_by_engine(driver.mounts(layer_id, read_only=False), target) as path:
            edit(path, steps)
            wanted = tree(path)
            assert through_get(driver, layer_id) == wanted
        lower, merged = driver.get(below, ""), driver.get(layer_id, "")
        expected = compare_trees(merged, lower)
        driver.put(layer_id)
        driver.put(below)
        native = driver.changes(layer_id, below)
        assert native is None or [str(one) for one in native] == [str(one) for one in expected]
        driver.seal(layer_id)
        assert through_get(driver, layer_id) == shown(driver, layer_id, target) == wanted
        assert driver.check_layer(layer_id, below) == []
        below = layer_id
    for layer_id in reversed(made):
        driver.remove(layer_id)
