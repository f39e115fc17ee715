"""The probe: where the btrfs driver can work, and what the errors say."""

from __future__ import annotations

import os
import subprocess

import pytest
from layerstore_btrfs import BtrfsDriver
from loguru import logger

from layerstore_core import DriverContext
from layerstore_core.errors import BadRecord, DriverNotSupported


def context_at(home):
    return DriverContext(home=home, logger=logger)


@pytest.mark.parametrize("ask", [BtrfsDriver.probe, BtrfsDriver])
def test_another_file_system_is_named(ask, tmp_path):
    type_here = subprocess.run(
        ["stat", "--file-system", "--format=%T", tmp_path], check=True, capture_output=True, text=True
    ).stdout.strip()
    if type_here == "btrfs":
        pytest.skip("the temporary directory is on btrfs")
    with pytest.raises(
        DriverNotSupported, match=r"is on (ext|tmpfs|xfs|overlay|\w+).*, not btrfs; put the store's root"
    ):
        ask(context_at(tmp_path / "btrfs"))
    assert os.listdir(tmp_path) == []


@pytest.mark.needs_root
@pytest.mark.needs_kernel
class TestOnBtrfs:
    def test_the_probe_leaves_nothing(self, filesystem):
        before = os.listdir(filesystem)
        BtrfsDriver.probe(context_at(filesystem / "not/there/yet"))
        assert os.listdir(filesystem) == before

    def test_the_root_may_be_a_symbolic_link(self, home):
        (home / "real").mkdir()
        (home / "link").symlink_to("real")
        BtrfsDriver.probe(context_at(home / "link" / "btrfs"))
        driver = BtrfsDriver(context_at(home / "link" / "btrfs"))
        driver.create("one", "", {})
        assert driver.get("one") == str(home / "link/btrfs/subvolumes/one")
        driver.remove("one")

    def test_the_home_may_not_be_a_symbolic_link(self, home):
        (home / "real").mkdir()
        (home / "home").symlink_to("real")
        with pytest.raises(BadRecord, match="home: it is a symbolic link, not a directory"):
            BtrfsDriver(context_at(home / "home"))
        assert list((home / "real").iterdir()) == []

    def test_another_users_directory_is_refused(self, home, ordinary_user):
        with ordinary_user() as uid, pytest.raises(DriverNotSupported, match=rf"this user \(uid {uid}\) may not"):
            BtrfsDriver.probe(context_at(home))

    def test_an_ordinary_user_may_use_a_directory_of_its_own(self, home, ordinary_user):
        home.chmod(0o777)
        with ordinary_user():
            BtrfsDriver.probe(context_at(home))
        assert os.listdir(home) == []

    def test_a_file_system_mounted_read_only_is_refused(self, make_filesystem):
        mount = make_filesystem("read-only")
        driver = BtrfsDriver(context_at(mount / "btrfs"))
        driver.create("one", "", {})
        driver.create("two", "one", {})
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        with pytest.raises(DriverNotSupported, match="mounted read-only"):
            BtrfsDriver.probe(context_at(mount / "btrfs"))
        # Existing layers can still be read.
        driver = BtrfsDriver(context_at(mount / "btrfs"))
        assert driver.layer_ids() == ["one", "two"]
        assert driver.changes("two", "one") == []
        assert os.listdir(driver.get("two")) == []
        with pytest.raises(OSError, match="Read-only") as caught:
            driver.create("three", "one", {})
        assert caught.value.filename == str(mount / "btrfs/subvolumes/three")
