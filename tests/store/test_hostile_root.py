"""A root whose owner is hostile: a link, a FIFO or another kind of file in the place of each component.

The test fills a store. Then it moves each of its directories and files in turn out of the root, and puts another kind
of file in its place: for example a link to the new place, which works for code that follows links. Then it runs all
operations. Files outside of the root must stay as they are, no operation may hang, and an operation that cannot be
done must raise an error that names the component.

Without LAYERSTORE_RELIABILITY=1, links replace only one component of each kind: of the equal files of the store's
layers, those of one layer. What the drivers have in common is replaced with one of them, in turn, since the same code
uses it. The thorough form replaces all components with all drivers.
"""

from __future__ import annotations

import io
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore
from layerstore_core.errors import LayerStoreError
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import mounts_below
from tests.images.archives import ImageSpec, docker_archive
from tests.in_gate import RUN_DRIVERS
from tests.reliability.thorough import THOROUGH
from tests.store.layers import BASE, MIDDLE, TOP, export, names_of, register, tar_of

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: an ordinary user could not do the damage that is tested for"
)

ARCHIVE = docker_archive(ImageSpec([BASE, MIDDLE], names=["demo:1"]))
OTHER = docker_archive(ImageSpec([tar_of({"other": b"image"})], names=["other:1"]))
#: Directories whose entries are files of layers; this test does not go into them.
TREES = ("diff", "work", "merged", "dir", "subvolumes")
#: In seconds. An operation that takes longer hangs; on a loaded machine a sound one has taken over 30.
TIMEOUT = 120
#: What differs in the names of components of one kind: layers' IDs, and overlay2's short names.
IDS = re.compile(r"[0-9a-f]{64}|\b[A-Z0-9]{26}\b")


def fill(open_store: Callable[..., LayerStore]) -> None:
    """Fill a store with one of each kind: image, layer, pin, writable layer, unexpected entry, scratch directory."""
    with open_store() as store:
        Images(store).load(io.BytesIO(ARCHIVE))
        with register(store, TOP, names_of(BASE, MIDDLE)[-1]) as top:
            store.pin(top)
            rw = store.create_rw_layer("box", top.chain_id, init=lambda path: Path(path, "init").write_bytes(b"init"))
        with rw.mounted() as path:
            Path(path, "new").write_bytes(b"new")
        unexpected = store.context.db.path / "sha256" / "unexpected-entry"
        unexpected.mkdir()
        repair(store, check_store(store))
        store.context.scratch_directory()


def components(root: Path, top: Path | None = None) -> Iterator[Path]:
    """Yield the files and directories below a root, except the files of layers."""
    for path in sorted((top or root).iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink() and (top or root).name not in TREES:
            yield from components(root, path)


def places_for_links(root: Path, driver: str) -> list[Path]:
    """Return the components to replace by links. In the short form they are the driver's share of one of each kind."""
    found = list(components(root))
    if THOROUGH:
        return found
    kinds: dict[str, list[Path]] = {}
    for path in found:
        kinds.setdefault(IDS.sub("*", str(path.relative_to(root))), []).append(path)
    own = sorted(kind for kind in kinds if kind.startswith(driver))
    common = sorted(kinds.keys() - set(own))
    which = RUN_DRIVERS.index(driver)
    return [kinds[kind][which % len(kinds[kind])] for kind in own + common[which :: len(RUN_DRIVERS)]]


def plant_link(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def plant_link_to_directory(place: Path, outside: Path) -> None:
    place.symlink_to(outside.parent)


def plant_fifo(place: Path, outside: Path) -> None:
    os.mkfifo(place)


def plant_directory(place: Path, outside: Path) -> None:
    place.mkdir()


def plant_file(place: Path, outside: Path) -> None:
    place.write_bytes(b"")


PLANTED = [plant_link, plant_link_to_directory, plant_fifo, plant_directory, plant_file]


def state(path: Path) -> list[tuple[Any, ...]]:
    """Return all facts about the files outside of the root that an operation could change."""
    found = []
    for one in sorted([path, *path.rglob("*")]):
        status = one.lstat()
        content = one.read_bytes() if stat.S_ISREG(status.st_mode) else os.readlink(one) if one.is_symlink() else b""
        found.append((str(one), status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content))
    return found


@contextmanager
def time_limit() -> Iterator[None]:
    """Fail after `TIMEOUT` seconds in a `with` block."""

    def hangs(*_: object) -> None:
        raise AssertionError("the operation hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(TIMEOUT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def use_rw(store: LayerStore) -> None:
    rw = store.create_rw_layer("another", names_of(BASE, MIDDLE)[-1])
    with rw.mounted() as path:
        Path(path, "written").write_bytes(b"written")
    rw.changes()
    store.release_rw_layer(rw)


def use_box(store: LayerStore) -> None:
    rw = store.get_rw_layer("box")
    with rw.mounted() as path:
        Path(path, "written").write_bytes(b"written")
    rw.changes()
    store.release_rw_layer(rw)


OPERATIONS: dict[str, Callable[[LayerStore], object]] = {
    "list": lambda store: (store.layers(), store.rw_layers(), Images(store).all()),
    "check": check_store,
    "check in full": lambda store: check_store(store, full=True),
    "export": lambda store: [export(layer) for layer in store.layers().values()],
    "register": lambda store: register(store, tar_of({"more": b"more"}), names_of(BASE)[0]).close(),
    "load": lambda store: Images(store).load(io.BytesIO(OTHER)),
    "rw": use_rw,
    "repair": lambda store: repair(store, check_store(store, full=True)),
    "collect": collect_garbage,
    "rw rm": use_box,
    "rmi": lambda store: Images(store).remove("demo:1"),
    "unpin": lambda store: store.unpin(names_of(BASE, MIDDLE, TOP)[-1]),
    "collect again": collect_garbage,
}


def try_all(open_store: Callable[..., LayerStore]) -> dict[str, str]:
    """Run all operations and return the error messages of those that were refused."""
    refused = {}
    for name, operation in OPERATIONS.items():
        with time_limit():
            try:
                with open_store() as store:
                    operation(store)
            except (LayerStoreError, OSError) as error:
                refused[name] = str(error)
    return refused


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "planted" in metafunc.fixturenames:
        kinds = [kind if kind is plant_link else pytest.param(kind, marks=pytest.mark.nightly) for kind in PLANTED]
        metafunc.parametrize("planted", kinds, ids=lambda planted: planted.__name__[6:])


def test_no_operation_follows_what_replaces_a_component(open_store, store_root, tmp_path, planted, driver):
    """One test for all components of a store: they are known only after the store was filled."""
    fill(open_store)
    assert len(list(components(store_root))) > 50
    # Each component of the list is replaced by a link. The other kinds replace only some, because each takes a while.
    number = PLANTED.index(planted)
    step = 1 if planted is plant_link else 2 * len(PLANTED)
    while True:
        places = places_for_links(store_root, driver) if planted is plant_link else list(components(store_root))
        if number >= len(places):
            break
        place = places[number]
        number += step
        if planted is plant_directory and place.is_dir():
            continue
        if planted is plant_file and not place.is_dir():
            continue
        outside = store_root.parent / "outside" / place.name
        outside.parent.mkdir()
        place.rename(outside)
        planted(place, outside)
        before = state(outside.parent)
        refused = try_all(open_store)
        assert state(outside.parent) == before, (place, refused)
        first = next(iter(refused.values()), str(place))
        assert place.name in first or "layer" in first, (place, refused)
        remove_all(store_root, outside.parent)
        fill(open_store)
    remove_all(store_root)
    assert number > 15


def remove_all(*paths: Path) -> None:
    """Unmount and remove paths; rm(1) also removes subvolumes, and anything in their place."""
    for path in paths:
        for point in mounts_below(path):
            subprocess.run(["umount", "--lazy", point], check=True)
        subprocess.run(["rm", "-rf", path], check=True)
