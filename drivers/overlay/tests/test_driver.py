"""The overlay2 driver: mounts, chains, removal, errors and status."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from layerstore_overlay.mount import MountMethod
from layerstore_overlay.mounts import is_mount_point, read_mounts

from layerstore_core.errors import ConfigError, MaxDepthExceeded

from .conftest import build, entry, make_driver, takes_single_lowers


def mounts_at(path):
    return [mount for mount in read_mounts() if mount.point == os.fsencode(path)]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def test_a_base_layer_is_its_own_directory_and_others_are_mounted(driver, place):
    build(driver, "base", "", entry("file", "below"))
    assert driver.get("base", "") == str(place / "overlay2/base/diff")
    driver.create_read_write("rw", "base", "", {})
    merged = driver.get("rw", "")
    assert merged == str(place / "overlay2/rw/merged")
    write(f"{merged}/file", "above")
    driver.put("rw")
    driver.put("base")
    driver.put("rw")
    driver.put("never-there")
    assert not os.path.exists(merged)
    assert (place / "overlay2/base/diff/file").read_text() == "below"
    assert (place / "overlay2/rw/diff/file").read_text() == "above"


@pytest.mark.parametrize("call", ["get", "metadata"])
def test_an_unknown_layer_is_refused(one_driver, call):
    with pytest.raises(FileNotFoundError, match="no such layer"):
        getattr(one_driver, call)("missing", *([""] if call == "get" else []))


def test_an_existing_mount_is_used_and_not_stacked(driver, place):
    build(driver, "base", "", "file")
    driver.create_read_write("rw", "base", "", {})
    merged = driver.get("rw", "")
    write(f"{merged}/mine", "x")
    other = make_driver(place)  # like another process, or a process after a crash
    assert other.get("rw", "") == merged
    assert len(mounts_at(merged)) == 1
    other.put("rw")
    assert not mounts_at(merged)
    assert other.get("rw", "") == merged
    assert sorted(os.listdir(merged)) == ["file", "mine"]
    other.put("rw")


def test_an_empty_mount_point_from_before_a_reboot_is_used(driver, place):
    build(driver, "base", "", "file")
    driver.create_read_write("rw", "base", "", {})
    (place / "overlay2/rw/merged").mkdir()
    assert os.listdir(driver.get("rw", "")) == ["file"]
    driver.put("rw")


def test_another_file_system_at_the_mount_point_is_refused(one_driver, disk):
    build(one_driver, "base", "", "file")
    one_driver.create_read_write("rw", "base", "", {})
    merged = disk / "overlay2/rw/merged"
    merged.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", merged], check=True)
    with pytest.raises(OSError, match=r"another file system \(tmpfs\)"):
        one_driver.get("rw", "")
    one_driver.remove("rw")
    assert not mounts_at(str(merged))


def test_a_parent_is_mounted_read_only_and_shows_its_files(driver):
    build(driver, "base", "", entry("file", "1"))
    driver.create_read_write("middle", "base", "", {})
    merged = driver.get("middle", "")
    write(f"{merged}/mine", "x")
    driver.put("middle")
    driver.create_read_write("child", "middle", "", {})
    merged = driver.get("middle", "")
    assert sorted(os.listdir(merged)) == ["file", "mine"]
    with pytest.raises(OSError, match="Read-only"):
        write(f"{merged}/more", "x")
    child = driver.get("child", "")
    write(f"{child}/more", "x")
    driver.put("middle")
    driver.put("child")


@pytest.mark.parametrize("method", [MountMethod.AUTO, MountMethod.CLASSIC])
def test_chains_of_the_declared_depth_are_mounted(place, method):
    driver = make_driver(place, method)
    depth = driver.capabilities().max_depth
    assert depth == (499 if method is MountMethod.AUTO and takes_single_lowers() else 125)
    below = ""
    for number in range(depth):
        build(driver, f"c{number}", below, f"file{number}")
        below = f"c{number}"
    driver.create_read_write("long-" * 11 + "-init", below, "", {})
    driver.create_read_write("long-" * 11, "long-" * 11 + "-init", "", {})
    merged = driver.get("long-" * 11, "")
    assert len(os.listdir(merged)) == depth
    write(f"{merged}/more", "x")
    driver.put("long-" * 11)
    assert [str(change) for change in driver.changes("long-" * 11, "long-" * 11 + "-init")] == ["A /more"]
    if depth == 499:
        with pytest.raises(MaxDepthExceeded, match="overlayfs mounts at most 500"):
            driver.create("too-deep", "long-" * 11, {})


def test_removal_of_a_layer_ends_its_mount_even_in_use(driver):
    build(driver, "base", "", entry("file", "text"))
    driver.create_read_write("rw", "base", "", {})
    merged = driver.get("rw", "")
    sleeper = subprocess.Popen(["sleep", "60"], cwd=merged)
    try:
        with open(f"{merged}/file") as held:
            driver.remove("rw")
            assert held.read() == "text"
        assert not mounts_at(merged)
        assert not driver.exists("rw")
        assert driver.layer_ids() == ["base"]
    finally:
        sleeper.kill()
        sleeper.wait()


def test_removal_of_a_layer_whose_mount_has_leaked_into_another_namespace(driver, place):
    build(driver, "base", "", "file")
    driver.create_read_write("rw", "base", "", {})
    merged = driver.get("rw", "")
    # Mounts of the other namespace are private: a mount that is removed here remains there until its mount point is
    # removed.
    sleeper = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE
    )
    try:
        sleeper.stdout.readline()
        assert merged in Path(f"/proc/{sleeper.pid}/mountinfo").read_text()
        driver.remove("rw")
        assert merged not in Path(f"/proc/{sleeper.pid}/mountinfo").read_text()
        assert driver.layer_ids() == ["base"]
        assert not os.path.exists(place / "overlay2/rw")
    finally:
        sleeper.kill()
        sleeper.communicate()


def test_removal_unmounts_file_systems_that_are_mounted_inside(one_driver, disk):
    build(one_driver, "base", "", "d/")
    one_driver.create_read_write("rw", "base", "", {})
    inside = disk / "overlay2/rw/diff/inside"
    inside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", inside], check=True)
    one_driver.remove("rw")
    assert one_driver.layer_ids() == ["base"]


def test_a_mount_that_fails_leaves_no_mount_point(one_driver, disk):
    build(one_driver, "base", "", "file")
    one_driver.create_read_write("rw", "base", "", {})
    # Machines that run this have no SELinux policy loaded: the label is passed to the kernel, which refuses it.
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number differs
        one_driver.get("rw", label)
    assert label in " ".join([str(caught.value), *caught.value.__notes__])
    assert "merged" not in os.listdir(disk / "overlay2/rw")


def test_a_label_of_a_layer_without_a_parent_is_refused(one_driver):
    build(one_driver, "base", "", "file")
    with pytest.raises(ConfigError, match="leave the mount label out"):
        one_driver.get("base", "system_u:object_r:container_file_t:s0:c1,c2")


def test_files_of_a_layer_are_opened_from_its_own_directory(driver):
    build(driver, "base", "", entry("file", "base"), "only-below")
    build(driver, "top", "base", entry("d/file", "top"), ".wh.only-below")
    files = driver.diff_getter("top")
    with files.open(b"d/file") as file:
        assert file.read() == b"top"
    for missing in b"file", b"only-below":
        with pytest.raises(FileNotFoundError):
            files.open(missing)
    files.close()


def test_metadata_and_status(driver, place):
    build(driver, "base", "", "file")
    build(driver, "top", "base", "file")
    home = place / "overlay2"
    assert driver.metadata("top") == {
        "LowerDir": str(home / "base/diff"),
        "MergedDir": str(home / "top/merged"),
        "UpperDir": str(home / "top/diff"),
        "WorkDir": str(home / "top/work"),
    }
    assert "LowerDir" not in driver.metadata("base")
    fields = dict(driver.status())
    assert fields["Backing Filesystem"] == ("tmpfs" if str(place).startswith("/dev/shm") else "extfs")
    assert fields["Supports d_type"] == fields["Native Overlay Diff"] == "true"
    assert fields["Using metacopy"] == fields["userxattr"] == "false"


def test_storage_options_that_are_unknown_are_refused(one_driver):
    with pytest.raises(ConfigError, match="no storage option colour"):
        one_driver.create_read_write("rw", "", "", {"colour": "red"})
    with pytest.raises(ConfigError, match="none for a read-only layer"):
        one_driver.create("base", "", {"size": "1G"})
    assert one_driver.layer_ids() == []


def test_many_threads_with_layers_of_their_own_over_one_base(driver, place):
    build(driver, "base", "", *(f"d/{number}" for number in range(20)))
    failures = []

    def work(number):
        try:
            for turn in range(4):
                name = f"rw{number}-{turn}"
                driver.create_read_write(name, "base", "", {})
                merged = driver.get(name, "")
                write(f"{merged}/d/{number}", "changed")
                driver.put(name)
                assert [str(c) for c in driver.changes(name, "base")] == ["C /d", f"C /d/{number}"]
                driver.remove(name)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert driver.layer_ids() == ["base"]
    assert len(os.listdir(place / "overlay2/l")) == 1
    assert not any(mount.point.startswith(os.fsencode(place)) for mount in read_mounts())
    assert not is_mount_point(str(place / "overlay2"))
