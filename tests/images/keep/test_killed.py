"""A process that is killed at any step of loading or removing leaves nothing that `gc` does not find."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.base import inside
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.images.archives import tar_files
from tests.images.keep.layouts import image_for, multi_platform
from tests.images.keep.test_incoming import foreign_gzip
from tests.store.layers import BASE, TOP

FILES, INDEX = multi_platform(
    image_for("amd64", (BASE,), (foreign_gzip(BASE),)), image_for("arm64", (TOP,), (foreign_gzip(TOP),))
)
#: More steps than there are.
_MOST = 200


def open_store(root: Path) -> LayerStore:
    return LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none", keep_blobs="always"))


def load(root: Path) -> None:
    with open_store(root) as store:
        Images(store).load(io.BytesIO(tar_files(FILES)), all_platforms=True)


def remove(root: Path) -> None:
    with open_store(root) as store:
        Images(store).remove("app:1")


def killed_at(step: int, action: Callable[[Path], None], root: Path) -> bool:
    """Run an action in a process that is killed before its n-th change of a name; return whether there was one."""
    child = os.fork()
    if not child:
        left = step

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def change(*args: object, **options: object) -> object:
                nonlocal left
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return change

        for name in ("rename", "unlink"):
            setattr(inside, name, counted(getattr(inside, name)))
        try:
            action(root)
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def kept_files(root: Path) -> set[str]:
    homes = (root / "layerstore/manifests/vfs", root / "layerstore/blobs/vfs")
    return {str(path.relative_to(root)) for home in homes for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("action", [load, remove])
def test_nothing_is_left_that_gc_does_not_find(tmp_path: Path, action: Callable[[Path], None]) -> None:
    load(tmp_path / "whole")
    whole = kept_files(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "empty")
    remove(tmp_path / "empty")
    empty = kept_files(tmp_path / "empty")
    outcomes = set()
    for step in range(1, _MOST):
        root = tmp_path / "root"
        shutil.copytree(tmp_path / ("whole" if action is remove else "empty"), root)
        was_killed = killed_at(step, action, root)
        with open_store(root) as store:
            images = Images(store)
            collect_garbage(store)
            assert collect_garbage(store) == []
            assert check_store(store) == []
            names = [image.names for image in images.all()]
            if names:
                assert names == [("app:1",), ("app:1",)], step
                assert images.get("app:1", platform="arm64").chain_id
                assert store.context.kept.has(INDEX["digest"])
                assert kept_files(root) <= whole
            else:
                assert store.layers() == {}, step
                assert kept_files(root) <= empty, step
            outcomes.add(bool(names))
        if not was_killed:
            break
        shutil.rmtree(root)
    assert step > 10
    assert outcomes == {False, True}
