"""The same input and time give the same image ID: with each driver, as root and as an ordinary user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.driver_roots import remove_root, why_not
from tests.images.archives import ImageSpec, docker_archive
from tests.ordinary_users import OrdinaryUsers
from tests.store.layers import BASE, MIDDLE, tar_of

pytestmark = [pytest.mark.nightly, pytest.mark.needs_root, pytest.mark.needs_kernel]

OLD = ImageSpec([BASE, MIDDLE], ["old:1"], extra={"config": {"Env": ["A=1"], "Cmd": ["sh"]}})
NEW = ImageSpec([tar_of({"etc": None, "etc/hosts": b"new\n"})], ["new:1"], extra={"config": {"Env": ["A=2"]}})

#: Every command that makes an image, and the IDs of what they make. `$unshare` runs a command where mounts last.
SCRIPT = """
export SOURCE_DATE_EPOCH=1700000000
layerstore load archive.tar >log
layerstore rw create work --image old:1 >log
$unshare sh -ec '
    umask 022
    cd "$(layerstore rw mount work)"
    echo changed >>etc/hosts
    mkdir -p opt/new/deep
    echo new >opt/new/deep/file
    ln -s deep/file opt/new/link
    ln opt/new/deep/file opt/new/hard
    chmod 4750 opt/new/hard
    rm bin/sh
    touch -h -d @1600000000 opt/new/link
    touch -d @1600000000 etc/hosts opt/new/deep/file opt/new/deep opt/new opt etc bin .
    cd /
    layerstore rw umount work'
layerstore commit work committed --message hello --env B=2 --annotation x=y
layerstore commit work timed --mtime SOURCE_DATE_EPOCH
layerstore config committed -t configured --entrypoint /tool --label l=1
layerstore rebase configured --old old:1 --new new:1 -t rebased
layerstore rw create empty --image rebased >log
layerstore commit empty nothing
umask 022
mkdir -p src/sub
echo app >src/app
ln src/app src/sub/hard
ln -s app src/link
touch -h -d @1600000000 src/link
touch -d @1600000000 src/app src/sub src
layerstore append committed src:/srv src/app:/opt/new/ archive.tar:/kept -t appended \\
    --mtime SOURCE_DATE_EPOCH --chmod 755 --chown 5:6
layerstore import src -t imported
layerstore squash appended --keep 1 -t squashed
"""


@pytest.fixture(scope="module")
def expected(quick_program: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The IDs that vfs gives as root."""
    return as_root(tmp_path_factory.mktemp("vfs"), quick_program, "vfs")


def as_root(directory: Path, program: Path, driver: str) -> list[str]:
    """Run the script as root, with the program `layerstore` of a directory, and return the IDs."""
    directory.mkdir(exist_ok=True)
    (directory / "archive.tar").write_bytes(docker_archive(OLD, NEW))
    environment = {
        "PATH": f"{program}:{os.environ['PATH']}",
        "LAYERSTORE_DRIVER": driver,
        "LAYERSTORE_ROOT": str(directory / "store"),
        "LAYERSTORE_DURABILITY": "none",
        "HOME": str(directory),
        "unshare": "",
    }
    done = subprocess.run(
        ["sh", "-ec", SCRIPT], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    remove_root(directory / "store")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_script_makes_other_images_each_time(expected: list[str]) -> None:
    assert len(set(expected)) == len(expected) == 8
    assert all(len(image) == 71 for image in expected)


@pytest.mark.parametrize("driver", ["overlay2", "btrfs"])
def test_drivers_make_the_same_images(
    expected: list[str], driver: str, quick_program: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if reason := why_not(driver):
        pytest.skip(f"{driver}: {reason}")
    directory = tmp_path
    if driver == "btrfs":
        directory = request.getfixturevalue("btrfs_mount") / tmp_path.name
    assert as_root(directory, quick_program, driver) == expected


@pytest.mark.parametrize("driver", ["vfs", "overlay2"])
def test_an_ordinary_user_makes_the_same_images(expected: list[str], driver: str, users: OrdinaryUsers) -> None:
    archive = users.home() / "archive.tar"
    archive.write_bytes(docker_archive(OLD, NEW))
    archive.chmod(0o644)
    unshare = "layerstore unshare" if driver == "overlay2" else ""
    assert users.run(SCRIPT, LAYERSTORE_DRIVER=driver, unshare=unshare) == expected
