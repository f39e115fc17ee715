"""The driver's files on disk."""

from __future__ import annotations

import os
import re
import stat

import pytest
from layerstore_overlay.layout import Layout

from layerstore_core import IDMapping, IDRange

from .conftest import build, make_driver


def described(path):
    """Return type, mode and owner of each entry in a layer's directory."""
    found = {}
    for name in os.listdir(path):
        status = os.lstat(os.path.join(path, name))
        kind = "dir" if stat.S_ISDIR(status.st_mode) else "file"
        found[name] = (kind, oct(stat.S_IMODE(status.st_mode)), status.st_uid, status.st_gid)
    return found


def test_a_layer_on_disk_is_as_docker_makes_it(driver, place):
    old = os.umask(0o077)  # the modes are Docker's, independent of the umask
    try:
        driver.create("base", "", {})
        driver.create("child", "base", {})
        driver.create_read_write("top", "child", "", {})
    finally:
        os.umask(old)
    home = place / "overlay2"
    assert stat.S_IMODE(home.stat().st_mode) == 0o710
    assert stat.S_IMODE((home / "l").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "base").stat().st_mode) == 0o710
    diff, link = ("dir", "0o755", 0, 0), ("file", "0o644", 0, 0)
    work, committed = ("dir", "0o700", 0, 0), ("file", "0o600", 0, 0)
    assert described(home / "base") == {"diff": diff, "link": link, "committed": committed}
    assert described(home / "child") == {
        "diff": diff,
        "link": link,
        "lower": link,
        "work": work,
        "committed": committed,
    }
    assert described(home / "top") == {"diff": diff, "link": link, "lower": link, "work": work}
    links = {name: (home / name / "link").read_text() for name in ("base", "child", "top")}
    for name, text in links.items():
        assert re.fullmatch("[A-Z2-7]{26}", text)
        assert os.readlink(home / "l" / text) == f"../{name}/diff"
    assert (home / "child" / "lower").read_text() == f"l/{links['base']}"
    assert (home / "top" / "lower").read_text() == f"l/{links['child']}:l/{links['base']}"
    assert (home / "base" / "committed").read_text() == ""
    driver.get("top", "")
    assert described(home / "top")["merged"][0] == "dir"
    driver.put("top")
    assert "merged" not in os.listdir(home / "top")


def test_with_an_id_mapping_the_roots_of_layers_belong_to_its_root(disk):
    mapping = IDMapping((IDRange(0, 100_000, 65536),), (IDRange(0, 200_000, 65536),))
    driver = make_driver(disk, id_mapping=mapping)
    build(driver, "base", "", "dir/")
    driver.create_read_write("top", "base", "", {})
    home = disk / "overlay2"
    assert (home.stat().st_uid, home.stat().st_gid) == (0, 200_000)
    assert described(home / "top")["diff"][2:] == described(home / "top")["work"][2:] == (100_000, 200_000)
    assert os.lstat(home / "base/diff/dir").st_uid == 100_000
    merged = driver.get("top", "")
    assert (os.stat(merged).st_uid, os.stat(merged).st_gid) == (100_000, 200_000)
    driver.put("top")


def test_creation_refuses_ids_in_use_and_missing_parents_and_leaves_nothing(one_driver, disk):
    one_driver.create("base", "", {})
    before = sorted(p.name for p in (disk / "overlay2").rglob("*"))
    with pytest.raises(FileExistsError):
        one_driver.create("base", "", {})
    with pytest.raises(FileNotFoundError):
        one_driver.create("child", "missing", {})
    with pytest.raises(FileExistsError):
        one_driver.create("l", "", {})
    assert sorted(p.name for p in (disk / "overlay2").rglob("*")) == before


@pytest.mark.parametrize(
    "step",
    [
        "os.symlink",
        "layerstore_core.base.inside.mkdir",
        "layerstore_core.base.inside.write",
        "layerstore_overlay.layout.Layout.commit",
    ],
)
def test_a_creation_that_fails_at_any_step_leaves_nothing(one_driver, disk, monkeypatch, step):
    one_driver.create("base", "", {})
    before = sorted(p.name for p in (disk / "overlay2").rglob("*"))

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="No space"):
        one_driver.create("child", "base", {})
    monkeypatch.undo()
    assert sorted(p.name for p in (disk / "overlay2").rglob("*")) == before


def test_incomplete_layers_after_a_crash_are_listed_and_removed(one_driver, disk):
    home = disk / "overlay2"
    layout = Layout(str(home), (0, 0))
    layout.make_directory("begun")  # a crash during its creation
    build(one_driver, "half", "", "file")
    (home / "l" / (home / "half" / "link").read_text()).unlink()  # a crash during its removal
    (home / "half" / "link").unlink()
    assert one_driver.layer_ids() == ["begun", "half"]
    assert not one_driver.exists("begun")
    assert not one_driver.exists("half")
    for name in "begun", "half", "never-there":
        one_driver.remove(name)
    assert one_driver.layer_ids() == []


def test_cleanup_removes_stale_links_and_nothing_else(one_driver, disk):
    one_driver.create("base", "", {})
    links = disk / "overlay2" / "l"
    (links / ("A" * 26)).symlink_to("../gone/diff")
    one_driver.cleanup()
    assert [p.name for p in links.iterdir()] == [(disk / "overlay2/base/link").read_text()]


def test_the_directory_of_short_names_is_no_layer(one_driver):
    assert not one_driver.exists("l")
    one_driver.remove("l")
    one_driver.put("l")
    one_driver.create("base", "", {})
    assert one_driver.layer_ids() == ["base"]
