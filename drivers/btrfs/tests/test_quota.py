"""Size limits by quota groups of btrfs."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest
from layerstore_btrfs import BtrfsDriver, ioctl, quota, subvolumes
from loguru import logger

from layerstore_core.errors import ConfigError, DriverNotSupported

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]

MIB = 1 << 20


def write(path, size):
    """Write and flush until an error shows that the limit is reached."""
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())


def over_quota(path, size):
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what is asserted
        write(path, size)
    return caught.value.errno == errno.EDQUOT


def limit_of(path):
    out = subprocess.run(
        ["btrfs", "qgroup", "show", "--raw", "-r", "-f", path], check=True, capture_output=True, text=True
    ).stdout
    return out.splitlines()[-1].split()[3]


def test_a_layer_cannot_grow_beyond_its_size(driver, home):
    driver.create_read_write("rw", "", "", {"size": "16M"})
    path = driver.get("rw")
    write(f"{path}/fits", 8 * MIB)
    assert over_quota(f"{path}/does-not", 16 * MIB)
    assert (home / "quotas/rw").read_bytes() == b"16777216"
    assert (home / "quotas/rw").stat().st_mode & 0o7777 == 0o644
    assert (home / "quotas").stat().st_mode & 0o7777 == 0o700
    assert driver.metadata("rw")["Size"] == "16777216"
    assert dict(driver.status())["Quota"].startswith("enabled")


def test_the_files_of_the_parent_count(driver):
    driver.create("base", "", {})
    write(f"{driver.get('base')}/image", 12 * MIB)
    driver.create_read_write("rw", "base", "", {"size": "16M"})
    assert over_quota(f"{driver.get('rw')}/more", 12 * MIB)


def test_siblings_have_limits_of_their_own(driver):
    driver.create("base", "", {})
    driver.create_read_write("small", "base", "", {"size": "4M"})
    driver.create_read_write("free", "base", "", {})
    write(f"{driver.get('free')}/f", 8 * MIB)
    assert over_quota(f"{driver.get('small')}/f", 8 * MIB)


def test_get_sets_the_recorded_limit_again(driver, home, context):
    driver.create_read_write("rw", "", "", {"size": "16M"})
    with subvolumes.opened(home / "subvolumes/rw") as subvolume:
        ioctl.qgroup_limit(subvolume, 2**40)
    driver.get("rw")
    assert limit_of(home / "subvolumes/rw") == "16777216"
    # Docker's rule: a recorded limit that is smaller than the present min_space is not set again.
    with subvolumes.opened(home / "subvolumes/rw") as subvolume:
        ioctl.qgroup_limit(subvolume, 2**40)
    BtrfsDriver(context(min_space="32M")).get("rw")
    assert limit_of(home / "subvolumes/rw") == str(2**40)


def test_a_damaged_record_sets_no_limit(driver, home):
    driver.create_read_write("rw", "", "", {"size": "16M"})
    (home / "quotas/rw").write_text("lots")
    assert driver.get("rw") == str(home / "subvolumes/rw")
    assert "Size" not in driver.metadata("rw")


def test_removal_deletes_the_record_of_the_limit(driver, home):
    driver.create_read_write("rw", "", "", {"size": "16M"})
    driver.remove("rw")
    assert os.listdir(home / "quotas") == os.listdir(home / "subvolumes") == []


def test_inconsistent_counts_are_counted_again(make_filesystem):
    mount = make_filesystem("counted")
    with subvolumes.opened(mount) as top:
        assert quota.status(top) == quota.QuotaStatus(enabled=False)
        ioctl.subvol_create(top, b"s")
        write(mount / "s/f", 8 * MIB)
        with subvolumes.opened(mount / "s") as subvolume:
            quota.limit(subvolume, 12 * MIB, logger)
        assert quota.status(top) == quota.QuotaStatus(enabled=True)
        # Data that existed before count, too.
        assert over_quota(mount / "s/g", 8 * MIB)
        # The counts of a new parent group of a subvolume with shared files are wrong until all is counted again.
        subvolumes.snapshot(mount / "s", top, b"t")
        ioctl.sync(top)
        with subvolumes.opened(mount / "s") as subvolume:
            group = f"0/{ioctl.subvol_info(subvolume).tree_id}"
        subprocess.run(["btrfs", "qgroup", "create", "1/0", mount], check=True)
        subprocess.run(["btrfs", "qgroup", "assign", "--no-rescan", group, "1/0", mount], check=True)
        ioctl.sync(top)
        assert quota.status(top).inconsistent
        quota.limit(top, 2**40, logger)
        state = quota.status(top)
        assert (state.enabled, state.inconsistent, state.rescanning) == (True, False, False)


def test_simple_quota_is_used_if_it_is_on(make_filesystem):
    mount = make_filesystem("simple")
    with subvolumes.opened(mount) as top:
        ioctl.subvol_create(top, b"s")
        try:
            ioctl.quota_enable(top, simple=True)
        except OSError as error:
            pytest.skip(f"the kernel has no simple quota (Linux 6.7): {error}")
        with subvolumes.opened(mount / "s") as subvolume:
            quota.limit(subvolume, 12 * MIB, logger)
        assert str(quota.status(top)) == "enabled, simple"
        assert over_quota(mount / "s/f", 16 * MIB)


def test_a_size_below_min_space_is_refused(context, home):
    driver = BtrfsDriver(context(**{"btrfs.min_space": "1G"}))
    with pytest.raises(ConfigError, match="min_space"):
        driver.create_read_write("rw", "", "", {"size": "10M"})
    assert driver.layer_ids() == []
    assert dict(driver.status())["Minimum Space"] == str(1 << 30)


def test_an_ordinary_user_cannot_set_a_limit_and_nothing_is_left(context, home, ordinary_user):
    home.chmod(0o777)
    with ordinary_user():
        driver = BtrfsDriver(context())
        assert not driver.capabilities().quota
        with pytest.raises(DriverNotSupported, match="needs the rights of root"):
            driver.create_read_write("rw", "", "", {"size": "10M"})
        assert driver.layer_ids() == []
        assert dict(driver.status())["Quota"] == "unknown to this user"
