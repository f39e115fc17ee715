"""The btrfs driver: layout, life cycle, mount labels and errors."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tarfile

import pytest
from layerstore_btrfs import BtrfsDriver, ioctl, subvolumes
from loguru import logger

from layerstore_core import DriverContext, IDMapping, IDRange
from layerstore_core.errors import ConfigError, DriverNotSupported

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def tree(driver, layer_id):
    path = driver.get(layer_id)
    found = sorted(
        os.path.relpath(os.path.join(top, name), path) for top, dirs, files in os.walk(path) for name in dirs + files
    )
    driver.put(layer_id)
    return found


def test_the_layout_is_dockers(driver, home):
    old = os.umask(0o077)
    try:
        driver.create("base", "", {})
    finally:
        os.umask(old)
    assert sorted(os.listdir(home)) == ["subvolumes"]
    assert (mode_of(home / "subvolumes"), mode_of(home / "subvolumes/base")) == (0o710, 0o755)
    assert (home / "subvolumes/base").stat().st_ino == 256
    assert driver.get("base") == str(home / "subvolumes/base")


def test_the_home_is_made_with_dockers_mode_and_the_layers_owner(home):
    mapping = IDMapping(uids=(IDRange(0, 100_000, 65536),), gids=(IDRange(0, 200_000, 65536),))
    driver = BtrfsDriver(DriverContext(home=home / "new/btrfs", logger=logger, id_mapping=mapping))
    driver.create("base", "", {})
    for path, expected in (
        (home / "new/btrfs", (0, 200_000, 0o710)),
        (home / "new/btrfs/subvolumes", (0, 200_000, 0o710)),
        (home / "new/btrfs/subvolumes/base", (100_000, 200_000, 0o755)),
    ):
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == expected
    driver.remove("base")


def test_a_layer_from_creation_to_removal(driver, layer_stream):
    driver.create("c1", "", {})
    assert driver.apply_diff("c1", "", layer_stream({"etc": None, "etc/hosts": b"localhost", "gone": b"soon"})) == 13
    driver.create("c2", "c1", {})
    assert driver.apply_diff("c2", "c1", layer_stream({".wh.gone": b"", "etc/passwd": b"root"})) == 4
    driver.create_read_write("m-init", "c2", "", {})
    driver.create_read_write("m", "m-init", "", {})
    path = driver.get("m")
    assert tree(driver, "m") == ["etc", "etc/hosts", "etc/passwd"]
    os.remove(f"{path}/etc/hosts")
    with open(f"{path}/new", "w") as file:
        file.write("data")
    driver.put("m")
    assert [str(change) for change in driver.changes("m", "m-init")] == ["C /etc", "D /etc/hosts", "A /new"]
    with driver.diff("m", "m-init") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        assert [member.name for member in tar] == ["etc", "etc/.wh.hosts", "new"]
    assert driver.changes("c2", "c1") is not None
    for layer_id in ("m", "m-init", "c2", "c1"):
        assert driver.exists(layer_id)
        driver.remove(layer_id)
        assert not driver.exists(layer_id)
    assert driver.layer_ids() == []


def test_siblings_and_their_parent_do_not_see_each_others_files(driver):
    driver.create("parent", "", {})
    (open(f"{driver.get('parent')}/shared", "w")).close()
    for layer_id in ("one", "two"):
        driver.create_read_write(layer_id, "parent", "", {})
        open(f"{driver.get(layer_id)}/{layer_id}", "w").close()
    assert [tree(driver, layer_id) for layer_id in ("parent", "one", "two")] == [
        ["shared"],
        ["one", "shared"],
        ["shared", "two"],
    ]
    # Making snapshots of a parent and using it do not change its other children.
    assert [str(change) for change in driver.changes("one", "parent")] == ["A /one"]


def test_a_chain_of_125_layers(driver, layer_stream):
    parent = ""
    for number in range(125):
        driver.create(str(number), parent, {})
        driver.apply_diff(str(number), parent, layer_stream({f"f{number}": b"x"}))
        parent = str(number)
    assert len(tree(driver, "124")) == 125
    assert [str(change) for change in driver.changes("124", "123")] == ["A /f124"]
    # The records do not show changes to an ancestor that is not the parent: the core compares all files.
    assert driver.changes("124", "100") is None
    assert driver.diff("124", "100") is None
    assert driver.changes("124", "") is None


def test_ids_in_use_and_missing_layers_are_named_in_errors(driver, home):
    driver.create("one", "", {})
    marker = home / "subvolumes/one/marker"
    marker.touch()
    for parent in ("", "one"):
        with pytest.raises(FileExistsError) as exists:
            driver.create("one", parent, {})
        assert exists.value.filename == str(home / "subvolumes/one")
    assert marker.exists()
    with pytest.raises(FileNotFoundError) as missing:
        driver.create("two", "none", {})
    assert missing.value.filename == str(home / "subvolumes/none")
    for call in (lambda: driver.get("none"), lambda: driver.metadata("none")):
        with pytest.raises(FileNotFoundError) as missing:
            call()
        assert missing.value.filename == str(home / "subvolumes/none")
    assert driver.layer_ids() == ["one"]
    driver.put("none")
    driver.remove("none")


def test_unknown_storage_options_leave_nothing(driver):
    with pytest.raises(ConfigError, match="'speed'"):
        driver.create("one", "", {"speed": "1"})
    assert driver.layer_ids() == []


def test_a_failed_create_leaves_nothing(driver, monkeypatch):
    driver.create("base", "", {})

    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("layerstore_btrfs.driver.write_file", fail)
    with pytest.raises(OSError, match="Input/output"):
        driver.create_read_write("rw", "base", "", {"size": "100M"})
    assert driver.layer_ids() == ["base"]


def test_incomplete_layers_after_a_crash_are_listed_and_removed(driver, home):
    driver.create_read_write("rw", "", "", {"size": "100M"})
    # Killed after the subvolume was deleted, but not its limit; and a plain directory among the subvolumes.
    with subvolumes.opened(home / "subvolumes") as directory:
        subvolumes.delete(directory, b"rw")
    (home / "subvolumes/plain/d").mkdir(parents=True)
    assert driver.layer_ids() == ["plain", "rw"]
    assert not driver.exists("rw")
    for layer_id in driver.layer_ids():
        driver.remove(layer_id)
    assert driver.layer_ids() == []


def test_cleanup_removes_only_limits_without_a_layer(driver, home):
    for layer_id in ("stays", "goes"):
        driver.create_read_write(layer_id, "", "", {"size": "100M"})
    with subvolumes.opened(home / "subvolumes") as directory:
        subvolumes.delete(directory, b"goes")
    driver.cleanup()
    assert os.listdir(home / "quotas") == ["stays"]
    assert driver.layer_ids() == ["stays"]


def test_removal_deletes_subvolumes_inside_of_the_layer(driver, home):
    driver.create_read_write("rw", "", "", {})
    with subvolumes.opened(home / "subvolumes/rw") as directory:
        ioctl.subvol_create(directory, b"inner")
    assert driver.changes("rw", "") is None
    driver.remove("rw")
    assert driver.layer_ids() == []


def test_a_mount_label_is_set_on_every_file_and_is_no_change(driver):
    driver.create("base", "", {})
    path = driver.get("base")
    os.makedirs(f"{path}/d/e")
    os.symlink("nowhere", f"{path}/d/link")
    os.mkfifo(f"{path}/d/fifo")
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    try:
        driver.create_read_write("rw", "base", label, {})
    except DriverNotSupported as error:
        pytest.skip(f"labels cannot be set here: {error}")
    path = driver.get("rw")
    for name in ("", "d", "d/e", "d/link", "d/fifo"):
        assert os.getxattr(f"{path}/{name}", "security.selinux", follow_symlinks=False) == label.encode() + b"\0"
    assert driver.changes("rw", "base") == []


def test_a_label_that_cannot_be_set_is_an_error_and_leaves_nothing(driver, monkeypatch):
    # Not every kernel forbids this to an ordinary user. Kernels with SELinux refuse a label that they do not know.
    def refuse(path, *args, **options):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(
        DriverNotSupported, match=r"the SELinux label 'x_u:x_r:x_t:s0' cannot be set on .*subvolumes/rw"
    ):
        driver.create_read_write("rw", "", "x_u:x_r:x_t:s0", {})
    assert driver.layer_ids() == []


def test_an_ordinary_user_creates_changes_and_removes_layers(context, home, ordinary_user, layer_stream):
    home.chmod(0o777)
    with ordinary_user():
        driver = BtrfsDriver(context())
        driver.create("base", "", {})
        path = driver.get("base")
        os.mkdir(f"{path}/d")
        driver.create_read_write("rw", "base", "", {})
        open(f"{driver.get('rw')}/d/f", "w").close()
        assert driver.changes("rw", "base") is None
        for layer_id in ("rw", "base"):
            driver.remove(layer_id)
        assert driver.layer_ids() == []


def test_status_capabilities_and_metadata(driver):
    driver.create("one", "", {})
    driver.create("two", "one", {})
    status = dict(driver.status())
    assert list(status)[:2] == ["Btrfs", "Library Version"]
    assert status["Diff"] == "by generation"
    assert driver.capabilities().quota
    assert not driver.capabilities().parallel_apply
    one, two = driver.metadata("one"), driver.metadata("two")
    assert "ParentUUID" not in one
    assert two["ParentUUID"] == one["UUID"]


def test_a_sealed_layer_is_a_read_only_subvolume(driver, home):
    driver.create("base", "", {})
    driver.create_read_write("rw", "base", "", {"size": "100M"})
    path = home / "subvolumes/rw"
    (path / "file").write_text("x")
    assert driver.seal("rw")
    with pytest.raises(OSError, match="Read-only"):
        (path / "other").write_text("x")
    assert driver.seal("rw")
    with pytest.raises(OSError, match="the layer is sealed") as refused:
        driver.mounts("rw", False)
    assert (refused.value.errno, refused.value.filename) == (errno.EROFS, str(path))
    assert driver.get("rw") == str(path)  # which sets the limit again
    assert driver.check_layer("rw") == []
    assert driver.parent_of("rw", "base") == "base"
    assert [str(change) for change in driver.changes("rw", "base")] == ["A /file"]
    driver.create_read_write("child", "rw", "", {})
    (home / "subvolumes/child/file").write_text("changed")
    assert [str(change) for change in driver.changes("child", "rw")] == ["C /file"]
    driver.remove("child")
    driver.remove("rw")
    assert driver.layer_ids() == ["base"]


def test_an_ordinary_user_seals_its_own_layers(context, home, ordinary_user):
    home.chmod(0o777)
    with ordinary_user():
        driver = BtrfsDriver(context())
        driver.create_read_write("own", "", "", {})
        os.makedirs(f"{driver.get('own')}/d/e")
        assert driver.seal("own")
        driver.create_read_write("child", "own", "", {})
        os.rmdir(f"{driver.get('child')}/d/e")
        driver.remove("child")
    driver.create_read_write("roots", "", "", {})
    with ordinary_user():
        assert driver.seal("roots")  # it may not, and the layer is like those that `create` makes
        driver.remove("own")
    (home / "subvolumes/roots/file").write_text("x")
    assert driver.layer_ids() == ["roots"]


def test_a_sealed_layer_with_subvolumes_inside_is_removed(driver, home):
    driver.create_read_write("rw", "", "", {})
    os.mkdir(home / "subvolumes/rw/d")
    with subvolumes.opened(home / "subvolumes/rw/d") as directory:
        ioctl.subvol_create(directory, b"inner")
    (home / "subvolumes/rw/d/inner/file").write_text("x")
    assert driver.seal("rw")
    driver.remove("rw")
    assert driver.layer_ids() == []


def test_removal_deletes_nothing_that_is_mounted_in_a_layer(driver, home, tmp_path):
    (tmp_path / "precious").write_text("x")
    driver.create_read_write("rw", "", "", {})
    os.mkdir(home / "subvolumes/rw/data")
    subprocess.run(["mount", "--bind", tmp_path, home / "subvolumes/rw/data"], check=True)
    driver.remove("rw")
    assert driver.layer_ids() == []
    assert (tmp_path / "precious").read_text() == "x"
