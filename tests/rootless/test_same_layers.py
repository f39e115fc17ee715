"""The same images are made with different rights and drivers: the same layers, byte for byte, and the same IDs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import tars
from tests.driver_roots import DRIVERS, remove_root, why_not
from tests.ordinary_users import OrdinaryUsers

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]

T = 1_600_000_000
#: An access list: user 33 may read, and user 70000, whom few namespaces have, may execute.
ACCESS = bytes.fromhex(
    "02000000 01000600ffffffff 0200040021000000 0200010070110100 04000400ffffffff 10000500ffffffff 20000000ffffffff"
)
BASE = tars.tar(
    tars.directory(b"etc/", mtime=T),
    tars.entry(b"etc/shadow", b"root:*:", mode=0o640, gid=42, mtime=T),
    tars.entry(b"etc/gone", b"x", uid=9, mtime=T),
    tars.entry(b"etc/old-name", b"content", uid=7, gid=8, mode=0o4755, mtime=T),
    tars.pax([(b"SCHILY.xattr.system.posix_acl_access", ACCESS)])
    + tars.entry(b"etc/listed", b"x", mode=0o650, uid=33, mtime=T),
    tars.directory(b"etc/private/", mode=0o700, uid=100, gid=65534, mtime=T),
    tars.entry(b"etc/private/key", b"secret", mode=0o600, uid=100, gid=65534, mtime=T),
    tars.directory(b"moved/", uid=33, gid=33, mtime=T),
    tars.entry(b"moved/inner", b"inner", uid=34, gid=70000, mtime=T),
    tars.directory(b"var/", uid=1, mtime=T),
    tars.entry(b"var/high", b"high", uid=70000, gid=70000, mtime=T),
    tars.symlink(b"var/link", b"high", uid=5, gid=5, mtime=T),
)
CHANGE = """
cd "$1"
echo more >>etc/shadow
echo more >>etc/private/key
echo more >>var/high
chmod 644 etc/listed
rm etc/gone
mv etc/old-name etc/new-name
mv moved var/moved
mkdir var/new; echo new >var/new/file; ln -s file var/new/link
touch -h -d @1700000000 etc/shadow etc/private/key var/high var/new/file var/new/link
touch -d @1700000000 etc etc/private var var/new .
"""
#: Commands, in one process: starting Python for each would take most of the test's time.
MAKE = """
import os, subprocess, sys
from layerstore_core import LayerStore
from layerstore_core.cli.app import cli

def layerstore(*words):
    assert cli.run(words) == 0, words

here = os.environ["HERE"]
layerstore("import", f"{here}/base.tar", "-t", "base:1", "--env", "A=b")
layerstore("rw", "create", "work", "--image", "base:1")
with LayerStore.open() as store, store.get_rw_layer("work") as rw, rw.mounted() as path:
    subprocess.run(["sh", "-e", f"{here}/change.sh", path], check=True)
layerstore("commit", "work", "app:1", "--entrypoint", '["/bin/app"]', "--message", "changed")
layerstore("append", "app:1", f"{here}/change.sh:/usr/bin/change", "-t", "app:2", "--mtime", "SOURCE_DATE_EPOCH")
layerstore("squash", "app:2", "-t", "app:3")
layerstore("import", "tree", "-t", "tree:1")
layerstore("export", "app:1", "-o", "commit.tar")
layerstore("rw", "rm", "work")
layerstore("check", "--full")
"""
#: A directory of the user's own, and then the commands.
SCRIPT = """
export SOURCE_DATE_EPOCH=1700000000
mkdir -m 755 tree tree/d; echo text >tree/d/file; chmod 640 tree/d/file; ln -s file tree/d/link
touch -h -d @1700000000 tree/d/file tree/d/link tree/d tree
"$PYTHON" "$HERE/make.py" >ids
rm -r tree
"""


def listing(tar: Path) -> str:
    """Return what is in a tar, for a message."""
    return subprocess.run(
        ["tar", "-tvf", tar, "--numeric-owner", "--full-time"], capture_output=True, text=True, check=True
    ).stdout


def made(directory: Path) -> list[str]:
    """Return the IDs of the images that the script has made."""
    return [line for line in (directory / "ids").read_text().splitlines() if line.startswith("sha256:")]


def test_images_are_the_same_for_all(users: OrdinaryUsers, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (users.directory / "base.tar").write_bytes(BASE)
    (users.directory / "change.sh").write_text(CHANGE)
    (users.directory / "make.py").write_text(MAKE)
    commits, ids = {}, {}
    for driver in DRIVERS:
        if why_not(driver):
            continue
        here = tmp_path / driver
        here.mkdir()
        root = Path(request.getfixturevalue("btrfs_mount") if driver == "btrfs" else here, "same-layers")
        environment = users.environment() | {"LAYERSTORE_DRIVER": driver, "LAYERSTORE_ROOT": str(root)}
        subprocess.run(["sh", "-ec", SCRIPT], cwd=here, env=environment, check=True)
        remove_root(root)
        commits[f"root, {driver}"] = here / "commit.tar"
        ids[f"root, {driver}"] = made(here)
    for who, names, driver in (
        ("subordinate IDs", ["first"], "overlay2"),
        ("a single user", [], "overlay2"),
        ("no namespace", [], "vfs"),
    ):
        users.give_ids(*names)
        users.run(SCRIPT, LAYERSTORE_DRIVER=driver, LAYERSTORE_ROOT=who)
        commits[who] = (users.home() / "commit.tar").rename(tmp_path / f"{who}.tar")
        ids[who] = made(users.home())
    first = commits["root, vfs"]
    for who, tar in commits.items():
        assert tar.read_bytes() == first.read_bytes(), f"{who}:\n{listing(tar)}\nroot, vfs:\n{listing(first)}"
    assert len(ids["root, vfs"]) == 5
    assert ids == dict.fromkeys(ids, ids["root, vfs"])
