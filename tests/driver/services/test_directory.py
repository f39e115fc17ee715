"""`DirectoryDriver`: drivers that keep each layer in a plain directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from layerstore_core import ConfigError, DriverContext, IDMapping, IDRange
from layerstore_core.driver.hookspecs import REQUIRED_HOOKS
from layerstore_core.log import driver_logger
from layerstore_core.sdk import DirectoryDriver

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes owners")


def context_at(home: Path, id_mapping: IDMapping | None = None) -> DriverContext:
    return DriverContext(home, driver_logger(home.name, __package__), id_mapping=id_mapping or IDMapping())


@pytest.fixture
def driver(tmp_path: Path) -> DirectoryDriver:
    return DirectoryDriver(context_at(tmp_path / "root" / "plain"))


class Nested(DirectoryDriver):
    """A driver with the tree next to a mark, inside the layer's directory."""

    def tree(self, layer_id: str) -> Path:
        return self.layer_directory(layer_id) / "files"

    def fill(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        super().fill(layer_id, parent_id, writable=writable)
        (self.layer_directory(layer_id) / ("writable" if writable else "read-only")).touch()


def test_the_required_hooks_are_implemented_and_marked() -> None:
    for hook in (*REQUIRED_HOOKS, "layer_ids"):
        assert hasattr(getattr(DirectoryDriver, hook), "layerstore_impl"), hook


def test_nothing_is_made_before_the_first_layer(driver: DirectoryDriver) -> None:
    assert driver.layer_ids() == []
    assert not driver.exists("a")
    driver.remove("a")
    driver.put("a")
    assert not driver.context.home.exists()


def test_a_child_begins_as_a_copy_of_its_parent(driver: DirectoryDriver) -> None:
    driver.create("a", "", {})
    base = Path(driver.get("a"))
    (base / "file").write_text("content")
    driver.create_read_write("b", "a", "", {})
    child = Path(driver.get("b"))
    assert child == driver.context.home / "b"
    assert (child / "file").read_text() == "content"
    (child / "file").write_text("changed")
    assert (base / "file").read_text() == "content"
    assert driver.layer_ids() == ["a", "b"]
    driver.remove("b")
    assert not driver.exists("b")
    assert driver.layer_ids() == ["a"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_modes_of_directories_do_not_depend_on_the_umask(driver: DirectoryDriver, umask: int) -> None:
    before = os.umask(umask)
    try:
        driver.create("a", "", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(driver.get("a")).stat().st_mode) == 0o755
    assert stat.S_IMODE(driver.context.home.stat().st_mode) == 0o710


@needs_root
def test_the_root_of_a_tree_belongs_to_the_mapped_root_user(tmp_path: Path) -> None:
    mapping = IDMapping((IDRange(0, 100_000, 65536),), (IDRange(0, 200_000, 65536),))
    driver = Nested(context_at(tmp_path / "nested", mapping))
    driver.create("a", "", {})
    status = Path(driver.get("a")).stat()
    assert (status.st_uid, status.st_gid) == (100_000, 200_000)
    assert driver.layer_directory("a").stat().st_uid == 0


@pytest.mark.parametrize("kind", [DirectoryDriver, Nested])
def test_a_missing_parent_leaves_nothing(kind: type[DirectoryDriver], tmp_path: Path) -> None:
    driver = kind(context_at(tmp_path / "plain"))
    with pytest.raises(FileNotFoundError):
        driver.create("b", "a", {})
    assert driver.layer_ids() == []
    with pytest.raises(FileNotFoundError):
        driver.get("b")


@pytest.mark.parametrize("kind", [DirectoryDriver, Nested])
def test_an_id_in_use_is_refused_and_its_layer_kept(kind: type[DirectoryDriver], tmp_path: Path) -> None:
    driver = kind(context_at(tmp_path / "plain"))
    driver.create("a", "", {})
    (Path(driver.get("a")) / "file").touch()
    with pytest.raises(FileExistsError):
        driver.create("a", "", {})
    assert (Path(driver.get("a")) / "file").exists()


def test_a_fill_that_fails_leaves_nothing(driver: DirectoryDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.create("a", "", {})

    def fail(source: Path, target: Path) -> None:
        (target / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("layerstore_core.tree.copy_tree.copy_tree", fail)
    with pytest.raises(OSError, match="No space"):
        driver.create("b", "a", {})
    assert driver.layer_ids() == ["a"]


def test_a_tree_inside_the_layer_s_directory(tmp_path: Path) -> None:
    driver = Nested(context_at(tmp_path / "nested"))
    driver.create("a", "", {})
    (Path(driver.get("a")) / "file").write_text("content")
    driver.create_read_write("b", "a", "", {})
    assert driver.get("b") == str(tmp_path / "nested" / "b" / "files")
    assert sorted(os.listdir(driver.layer_directory("b"))) == ["files", "writable"]
    assert (Path(driver.get("b")) / "file").read_text() == "content"
    driver.remove("b")
    assert os.listdir(tmp_path / "nested") == ["a"]


def test_unknown_storage_options_and_mount_labels_are_refused(driver: DirectoryDriver) -> None:
    with pytest.raises(ConfigError, match="the plain driver knows no storage option 'colour', 'size'"):
        driver.create("a", "", {"size": "1G", "colour": "red"})
    with pytest.raises(ConfigError, match="storage option 'size'"):
        driver.create_read_write("a", "", "", {"size": "1G"})
    with pytest.raises(ConfigError, match="SELinux"):
        driver.create_read_write("a", "", "system_u:object_r:container_file_t:s0", {})
    assert not driver.exists("a")


def test_no_link_in_the_place_of_a_layer_is_followed(driver: DirectoryDriver, tmp_path: Path) -> None:
    driver.create("a", "", {})
    (tmp_path / "outside").mkdir()
    driver.remove("a")
    (driver.context.home / "a").symlink_to(tmp_path / "outside")
    assert not driver.exists("a")
    with pytest.raises(Exception, match="symbolic link"):
        driver.get("a")
