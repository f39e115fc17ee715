"""The images of writable layers: sound, damaged, and with names that lead elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore_core import ImageID
from layerstore_core.base import inside
from layerstore_core.records.rw_images import RWImages

IMAGE = ImageID.of(b"image")
MOUNT = "a" * 64


@pytest.fixture
def records(root: Path) -> RWImages:
    inside.guard(root)
    return RWImages(root, "vfs")


def test_what_is_set_is_there_until_it_is_removed(records: RWImages) -> None:
    assert (records.get(MOUNT), records.recorded()) == (None, [])
    records.set(MOUNT, IMAGE)
    records.set(MOUNT, ImageID.of(b"other"))
    records.set(MOUNT, IMAGE)
    assert (records.get(MOUNT), records.recorded()) == (IMAGE, [MOUNT])
    assert records.unused([MOUNT, "b"], [MOUNT]) == ["b"]
    records.remove(MOUNT)
    records.remove(MOUNT)
    assert (records.get(MOUNT), records.recorded()) == (None, [])


@pytest.mark.parametrize("name", ["../pins", "a/b", "", ".", "..", ".hidden", "a" * 300, "a\0b"])
def test_a_name_that_leads_elsewhere_has_no_record(records: RWImages, root: Path, canary: Path, name: str) -> None:
    records.set(MOUNT, IMAGE)
    records.set(name, IMAGE)
    assert records.get(name) is None
    records.remove(name)
    assert records.recorded() == [MOUNT]


def test_links_are_not_followed(records: RWImages, root: Path, canary: Path) -> None:
    records.set(MOUNT, IMAGE)
    path = records.path_of(MOUNT)
    path.unlink()
    path.symlink_to(canary / "file")
    assert records.get(MOUNT) is None
    records.remove(MOUNT)
    assert not path.is_symlink()
    path.parent.rmdir()
    path.parent.symlink_to(canary / "dir")
    assert records.recorded() == []
    assert records.get("inner") is None


def test_a_record_that_cannot_be_written_leaves_nothing(records: RWImages, root: Path) -> None:
    records.set(MOUNT, IMAGE)
    path = records.path_of("b" * 64)
    path.mkdir()
    with pytest.raises(Exception, match=r"directory|regular"):
        records.set("b" * 64, IMAGE)
