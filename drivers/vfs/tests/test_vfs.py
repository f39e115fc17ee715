"""The vfs driver: copies of trees, and the notes by which untouched files are not read."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from layerstore_vfs import VfsDriver
from layerstore_vfs.options import VfsOptions
from loguru import logger
from pydantic import ValidationError

import layerstore_core
from layerstore_core import ConfigError, DriverContext, IDMapping, IDRange, LayerStore, StoreConfig

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs the rights of root: owners, devices, trusted attributes"
)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "vfs"


@pytest.fixture
def driver(home):
    return VfsDriver(DriverContext(home, logger, VfsOptions()))


def write(path, name, content, mtime_ns=10**18 + 7):
    file = Path(path, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, ns=(mtime_ns, mtime_ns))
    return file


def layer(driver, layer_id, parent_id=""):
    driver.create(layer_id, parent_id, {})
    return Path(driver.get(layer_id))


def writable(driver, layer_id, parent_id):
    driver.create_read_write(layer_id, parent_id, "", {})
    return Path(driver.get(layer_id))


def test_the_layout_on_disk_is_that_of_docker(driver, home):
    layer(driver, "a")
    layer(driver, "b", "a")
    assert sorted(os.listdir(home / "dir")) == ["a", "b"]
    assert stat.S_IMODE((home / "dir" / "a").stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in (home, home / "dir", home / "copied")} == {0o710}
    assert (driver.exists("a"), driver.exists("c")) == (True, False)
    assert driver.layer_ids() == ["a", "b"]
    assert driver.metadata("a") == {"Directory": str(home / "dir" / "a")}


def test_nothing_is_made_before_the_first_layer(driver, home):
    assert driver.layer_ids() == []
    assert not driver.exists("a")
    driver.remove("a")
    driver.put("a")
    assert not home.exists()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_layer_s_root_has_its_mode_whatever_the_umask(driver, umask):
    before = os.umask(umask)
    try:
        path = layer(driver, "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_child_is_an_exact_copy(driver):
    base = layer(driver, "a")
    write(base, "d/file", b"content").chmod(0o4711)
    os.link(base / "d" / "file", base / "link")
    os.symlink("d/file", base / "symlink")
    os.mkfifo(base / "fifo", 0o640)
    os.setxattr(base / "d" / "file", "user.one", b"\0two")
    with open(base / "sparse", "wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"data")
    os.utime(base / "d", ns=(0, 123456789))
    os.utime(base / "symlink", ns=(0, 987654321), follow_symlinks=False)

    child = layer(driver, "b", "a")
    assert (child / "d" / "file").read_bytes() == b"content"
    assert (child / "d" / "file").stat().st_ino == (child / "link").stat().st_ino
    assert (child / "link").stat().st_nlink == 2
    assert stat.S_IMODE((child / "link").stat().st_mode) == 0o4711
    assert (child / "link").stat().st_mtime_ns == 10**18 + 7
    assert os.readlink(child / "symlink") == "d/file"
    assert (child / "symlink").lstat().st_mtime_ns == 987654321
    assert stat.S_ISFIFO((child / "fifo").lstat().st_mode)
    assert os.getxattr(child / "d" / "file", "user.one") == b"\0two"
    assert (child / "d").stat().st_mtime_ns == 123456789
    assert (child / "sparse").stat().st_size == 8 << 20
    assert (child / "sparse").stat().st_blocks * 512 < 1 << 20
    assert driver.changes("b", "a") == []

    (child / "link").write_bytes(b"changed")
    assert (base / "link").read_bytes() == b"content"
    assert [str(change) for change in driver.changes("b", "a")] == ["C /d", "C /d/file", "C /link"]


@needs_root
def test_owners_and_devices_are_copied(driver):
    base = layer(driver, "a")
    os.chown(write(base, "file", b"x"), 1234, 70000)
    os.mknod(base / "device", 0o600 | stat.S_IFBLK, os.makedev(7, 300))
    os.chmod(base / "device", 0o620)
    os.setxattr(base / "file", "trusted.x", b"1")
    child = layer(driver, "b", "a")
    assert ((child / "file").stat().st_uid, (child / "file").stat().st_gid) == (1234, 70000)
    assert (child / "device").stat().st_rdev == os.makedev(7, 300)
    assert stat.S_IMODE((child / "device").stat().st_mode) == 0o620
    assert os.getxattr(child / "file", "trusted.x") == b"1"


def test_a_change_that_keeps_size_and_time_is_not_missed(driver):
    base = layer(driver, "a")
    write(base, "file", b"one")
    child = writable(driver, "b", "a")
    assert driver.changes("b", "a") == []
    write(child, "file", b"two")
    assert [str(change) for change in driver.changes("b", "a")] == ["C /file"]


def test_a_change_is_found_after_the_clock_was_set_back(driver, home):
    """After the clock is set back, changes have times before the copy. Here the copy's moment is in the future."""
    base = layer(driver, "a")
    write(base, "file", b"one")
    child = writable(driver, "b", "a")
    head, stamps = (home / "copied" / "b").read_bytes().split(b"\n", 1)
    moment, parent = head.split()
    (home / "copied" / "b").write_bytes(b"%d %b\n%b" % (int(moment) + 3600 * 10**9, parent, stamps))
    write(child, "file", b"two")
    assert [str(change) for change in driver.changes("b", "a")] == ["C /file"]


def test_untouched_files_are_not_read(driver, home, monkeypatch):
    base = layer(driver, "a")
    for number in range(50):
        write(base, f"d{number}/file", b"x")
    child = writable(driver, "b", "a")
    # As if the copy had ended a moment earlier.
    stamps = layerstore_core.take_stamps(child, 1 << 62)
    (home / "copied" / "b").write_bytes(b"0 a\n" + stamps)
    write(child, "d7/file", b"y")
    # The parent never changes. If it does, that shows which files are read.
    status = (Path(base) / "d3/file").stat()
    write(base, "d3/file", b"z")
    os.utime(Path(base) / "d3/file", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [str(change) for change in driver.changes("b", "a")] == ["C /d7", "C /d7/file"]
    (home / "copied" / "b").unlink()
    assert "C /d3/file" in [str(change) for change in driver.changes("b", "a")]


@pytest.mark.parametrize(
    "note", ["missing", "", "garbage", "9" * 40, f"{9 * 10**18} a", f"{9 * 10**18} a\n", "1 other\n"]
)
def test_changes_are_the_same_without_a_note_or_with_a_damaged_one(driver, home, note):
    """With a note, untouched files are not read; without it, all files are compared."""
    base = layer(driver, "a")
    write(base, "same", b"same")
    write(base, "gone", b"gone")
    child = writable(driver, "b", "a")
    (child / "gone").unlink()
    write(child, "same", b"emas")
    write(child, "new", b"new")
    if note == "missing":
        (home / "copied" / "b").unlink()
    else:
        (home / "copied" / "b").write_text(note)
    assert [str(change) for change in driver.changes("b", "a")] == ["D /gone", "A /new", "C /same"]


def test_a_diff_is_the_changes_as_a_tar(driver):
    import io
    import tarfile

    base = layer(driver, "a")
    write(base, "gone", b"gone")
    child = layer(driver, "b", "a")
    (child / "gone").unlink()
    write(child, "new", b"new")
    with driver.diff("b", "a") as stream:
        data = stream.read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sorted(tar.getnames()) == [".wh.gone", "new"]
    stream = driver.diff("b", "")
    stream.close()


def test_an_id_in_use_is_refused(driver):
    write(layer(driver, "a"), "file", b"x")
    with pytest.raises(FileExistsError):
        driver.create("a", "", {})
    assert (Path(driver.get("a")) / "file").read_bytes() == b"x"


def test_a_missing_parent_leaves_nothing(driver, home):
    with pytest.raises(FileNotFoundError):
        driver.create("b", "a", {})
    assert os.listdir(home / "dir") == os.listdir(home / "copied") == []
    for use in (driver.get, driver.metadata):
        with pytest.raises(FileNotFoundError):
            use("b")


def test_a_copy_that_fails_leaves_nothing(driver, home, monkeypatch):
    write(layer(driver, "a"), "file", b"x")

    def fail(source, target):
        (Path(target) / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("layerstore_core.tree.copy_tree.copy_tree", fail)
    with pytest.raises(OSError, match="No space"):
        driver.create("b", "a", {})
    assert os.listdir(home / "dir") == ["a"]


def test_removal_of_missing_and_incomplete_layers(driver, home):
    layer(driver, "a")
    writable(driver, "b", "a")
    (home / "copied" / "b").unlink()
    for layer_id in ("b", "b", "a", "a"):
        driver.remove(layer_id)
    assert os.listdir(home / "dir") == os.listdir(home / "copied") == []


def test_size_is_refused_with_a_reason(driver, home):
    for make in (
        lambda: driver.create("a", "", {"size": "1G"}),
        lambda: driver.create_read_write("a", "", "", {"size": "1G"}),
    ):
        with pytest.raises(ConfigError, match=r"cannot limit a layer's size.*overlay2.*btrfs"):
            make()
    with pytest.raises(ConfigError, match="no storage option 'colour'"):
        driver.create("a", "", {"colour": "red"})
    with pytest.raises(ConfigError, match="SELinux"):
        driver.create_read_write("a", "", "system_u:object_r:container_file_t:s0", {})
    assert not driver.exists("a")


def test_the_driver_refuses_options():
    with pytest.raises(ValidationError, match="colour"):
        VfsOptions.model_validate({"colour": 1})


@needs_root
def test_the_root_of_a_layer_belongs_to_the_mapped_root_user(home):
    mapping = IDMapping((IDRange(0, 100_000, 65536),), (IDRange(0, 200_000, 65536),))
    driver = VfsDriver(DriverContext(home, logger, VfsOptions(), mapping))
    status = layer(driver, "a").stat()
    assert (status.st_uid, status.st_gid) == (100_000, 200_000)


@needs_root
def test_ids_are_mapped_when_registered_and_mapped_back_when_exported(tmp_path):
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.uid, info.gid = 5, 6
        tar.addfile(info)
    config = StoreConfig(
        root=tmp_path / "store",
        driver="vfs",
        durability="none",
        uid_map=("0:100000:65536",),
        gid_map=("0:200000:65536",),
    )
    with LayerStore.open(config) as store:
        stored = store.register(io.BytesIO(out.getvalue()))
        with store.driver.mounted(stored.cache_id) as path:
            assert (os.stat(f"{path}/file").st_uid, os.stat(f"{path}/file").st_gid) == (100_005, 200_006)
        with stored.tar_stream_from("") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            assert [(member.name, member.uid, member.gid) for member in tar] == [("file", 5, 6)]
        with stored.tar_stream() as stream:
            assert stream.read() == out.getvalue()


def test_a_sealed_layer_keeps_its_note(driver, home):
    base = layer(driver, "base")
    write(base, "old", b"1")
    path = writable(driver, "rw", "base")
    assert driver.mounts("rw", False)[0].source == str(path)
    write(path, "new", b"2")
    note = (home / "copied/rw").read_bytes()
    assert driver.seal("rw") is driver.seal("rw") is True
    assert (home / "copied/rw").read_bytes() == note
    assert driver.parent_of("rw") == "base"
    assert [str(change) for change in driver.changes("rw", "base")] == ["A /new"]
    child = writable(driver, "child", "rw")
    write(child, "new", b"3")
    assert [str(change) for change in driver.changes("child", "rw")] == ["C /new"]
    (home / "copied/rw").unlink()  # as a repair leaves it
    assert [str(change) for change in driver.changes("rw", "base")] == ["A /new"]
    with pytest.raises(FileNotFoundError):
        driver.seal("missing")


@needs_root
def test_removal_deletes_nothing_that_is_mounted_in_a_layer(driver, home, tmp_path):
    volume = tmp_path / "volume"
    write(volume, "precious", b"x")
    path = writable(driver, "rw", "")
    write(path, "own", b"x")
    (path / "data").mkdir()
    subprocess.run(["mount", "--bind", volume, path / "data"], check=True)
    try:
        with pytest.raises(OSError, match="mounted there, and is not removed; unmount it") as refused:
            driver.remove("rw")
    finally:
        subprocess.run(["umount", path / "data"], check=True)
    assert refused.value.filename == str(path / "data")
    assert (volume / "precious").read_bytes() == b"x"
    driver.remove("rw")
    assert driver.layer_ids() == []
