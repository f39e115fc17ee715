"""A closed root is copied with common programs: a full check finds what the copy has lost, and a repair rebuilds it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.conformance.trees import read_tree
from layerstore_core.maintenance.check import check_store, repair
from tests import tars
from tests.driver_roots import remove_root
from tests.store.layers import MTIME, chain, export

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to copy owners and attributes")

#: Commands that keep everything; `docs/reliability.md` names them.
WHOLE = {
    "cp -a": "cp -a {old} {new}",
    "rsync -aHAX": "rsync -aHAX --numeric-ids {old}/ {new}/",
    "tar": "mkdir {new} && tar -C {old} --format=posix --numeric-owner --acls --xattrs --xattrs-include='*' -cf - . "
    "| tar -C {new} --numeric-owner --acls --xattrs --xattrs-include='*' -xpf -",
}
#: Commands that lose attributes, times or hard links.
LOSSY = {
    "tar": "mkdir {new} && tar -C {old} -cf - . | tar -C {new} -xpf -",
    "tar --xattrs": "mkdir {new} && tar -C {old} --xattrs -cf - . | tar -C {new} --xattrs -xpf -",
    "rsync -a": "rsync -a {old}/ {new}/",
    "cp without attributes": "cp -R --preserve=mode,ownership,timestamps,links {old} {new}",
    "cp without times": "cp -R --preserve=mode,ownership,links,xattr {old} {new}",
}

LAYERS = [
    tars.tar(
        tars.directory(b"./", mtime=MTIME),
        tars.directory(b"o", mtime=MTIME),
        tars.entry(b"o/old", b"secret", mtime=MTIME),
        tars.pax([(b"SCHILY.xattr.user.kept", b"value"), (b"mtime", b"1700000000.123456789")]),
        tars.entry(b"o/file", b"content", uid=7, gid=8, mode=0o4755, mtime=MTIME),
        tars.hard_link(b"o/link", b"o/file", uid=7, gid=8, mode=0o4755, mtime=MTIME),
        tars.entry(b"gone", b"gone", mtime=MTIME),
    ),
    tars.tar(
        tars.directory(b"./", mtime=MTIME),
        tars.directory(b"o", mtime=MTIME),
        tars.entry(b"o/.wh..wh..opq", mtime=MTIME),
        tars.entry(b"o/new", b"new", mtime=MTIME),
        tars.pax([(b"SCHILY.xattr.user.kept", b"value"), (b"SCHILY.xattr.trusted.kept", b"value")]),
        tars.entry(b"more", b"more", mtime=MTIME),
        tars.entry(b".wh.gone", mtime=MTIME),
    ),
]


@pytest.fixture(params=["vfs", "overlay2"])
def driver(request):
    """Return the driver; btrfs is left out, because only `btrfs send` copies subvolumes."""
    return request.param


@pytest.fixture
def copied(open_store, store_root, tmp_path):
    """Return a function that fills a store and copies its closed root with a command.

    The function returns the new root, and the trees and tars of the layers.
    """

    def copy(command: str) -> tuple[Path, list[object]]:
        with open_store() as store:
            layers = chain(store, *LAYERS)
            store.pin(layers[1])
            seen = shown(store, [layer.chain_id for layer in layers])
        new = tmp_path / "new"
        if shutil.which(command.split(maxsplit=1)[0]) is None:
            pytest.skip(f"{command.split(maxsplit=1)[0]} is not installed")
        subprocess.run(command.format(old=store_root, new=new), shell=True, check=True)
        return new, seen

    yield copy
    remove_root(tmp_path / "new")


def shown(store, names):
    """Return the tree on a mount and the exported tar of each layer."""
    found = []
    for name in names:
        with store.driver.mounted(store.find(name).cache_id) as path:
            found += [read_tree(path), export(store.find(name))]
    return found


@pytest.mark.parametrize("how", WHOLE)
def test_the_documented_ways_of_copying_lose_nothing(copied, driver, how):
    root, seen = copied(WHOLE[how])
    with LayerStore.open(StoreConfig(root=root, driver=driver, durability="none")) as store:
        assert check_store(store, full=True) == []
        assert shown(store, sorted(store.layers(), key=lambda name: store.find(name).depth)) == seen


@pytest.mark.parametrize("how", LOSSY)
def test_losses_of_other_copies_are_found_and_repaired(copied, driver, how):
    root, seen = copied(LOSSY[how])
    with LayerStore.open(StoreConfig(root=root, driver=driver, durability="none")) as store:
        findings = check_store(store, full=True)
        assert {finding.code for finding in findings} == {"tree-differs"}
        assert repair(store, findings) == []
    with LayerStore.open(StoreConfig(root=root, driver=driver, durability="none")) as store:
        assert check_store(store, full=True) == []
        assert shown(store, sorted(store.layers(), key=lambda name: store.find(name).depth)) == seen
