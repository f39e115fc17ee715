"""Size limits by project quota."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from layerstore_overlay import OverlayDriver, quota, syscalls
from layerstore_overlay.options import Options
from layerstore_overlay.quota import ProjectQuota
from loguru import logger

from layerstore_core import DriverContext
from layerstore_core.errors import ConfigError, DriverNotSupported

from .conftest import build, make_driver

MIB = 1 << 20


def lacking():
    if os.geteuid() != 0:
        return "mounting an image of a file system needs root"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed (package e2fsprogs)"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices here"
    return None


@pytest.fixture(params=["quotactl_fd", "quotactl"])
def limited(request, disk, monkeypatch):
    """An ext4 file system with project quota, in a file; by the newer system call, and by that before Linux 5.14."""
    reason = lacking()
    if reason:
        pytest.skip(reason)
    if request.param == "quotactl":
        monkeypatch.setattr("layerstore_overlay.quota._QUOTACTL_FD", 100_000)
    image, point = disk / "image", disk / "mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-O", "quota,project", image], check=True)
    if subprocess.run(["mount", "-o", "loop,prjquota", image, point], check=False, capture_output=True).returncode:
        pytest.skip("the kernel mounts no ext4 with project quota: it was built without CONFIG_QFMT_V2")
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)


def fill(directory, size):
    try:
        with open(f"{directory}/filling", "wb") as file:
            file.write(bytes(size))
            os.fsync(file.fileno())
    finally:
        # All blocks must be counted before a test reads the quota.
        os.sync()


@pytest.mark.kernel_option("CONFIG_QFMT_V2")
def test_a_layer_cannot_grow_beyond_its_size(limited):
    driver = make_driver(limited, size="16m")
    assert driver.capabilities().quota
    assert dict(driver.status())["Supports size"] == "true"
    build(driver, "base", "", "file")
    driver.create_read_write("small", "base", "", {"size": "2m"})
    driver.create_read_write("default", "base", "", {})
    small, default = driver.get("small", ""), driver.get("default", "")
    fill(small, MIB)
    with pytest.raises(OSError, match=r"quota|No space"):
        fill(small, 4 * MIB)
    fill(default, 4 * MIB)
    with pytest.raises(OSError, match=r"quota|No space"):
        fill(default, 20 * MIB)
    home = limited / "overlay2"
    projects = [quota._project(str(home / name)) for name in ("small", "default")]
    assert [hard_limit(home, project) for project in projects] == [2 * MIB, 16 * MIB]
    for name in "small", "default":
        driver.put(name)
        driver.remove(name)
    assert [hard_limit(home, project) for project in projects] == [0, 0]


def hard_limit(home, project):
    """Return the limit of a project from the kernel, in bytes; 0 for none."""
    data = ctypes.create_string_buffer(112)
    try:
        ProjectQuota(str(home))._quotactl(quota._Q_XGETQUOTA, project, data)
    except FileNotFoundError:
        return 0
    return struct.unpack_from("=Q", data, 8)[0] * 512


@pytest.mark.kernel_option("CONFIG_QFMT_V2")
def test_a_file_is_renamed_over_a_lower_file_within_one_project(limited):
    # overlayfs copies up in the working directory and renames from there: both must belong to the same project.
    driver = make_driver(limited)
    build(driver, "base", "", "d/file")
    driver.create_read_write("rw", "base", "", {"size": "4m"})
    merged = driver.get("rw", "")
    with open(f"{merged}/d/file", "w") as file:
        file.write("changed")
    os.rename(f"{merged}/d/file", f"{merged}/moved")
    driver.put("rw")


class Kernel:
    """A stand-in for the kernel on machines without quota: limits by project, and projects by directory.

    Sizes and places of the members are those of the kernel's headers (fs.h, dqblk_xfs.h).
    """

    def __init__(self, monkeypatch):
        self.limits = {}
        self.projects = {}
        self.state = 1 << 4 | 1 << 5
        self.used = set()
        real = syscalls.system_call
        monkeypatch.setattr(
            syscalls, "system_call", lambda *call: self.quotactl_fd(*call) if call[0] == 443 else real(*call)
        )
        monkeypatch.setattr("fcntl.ioctl", self.ioctl)

    def quotactl_fd(self, number, fd, command, project, data):
        assert command & 0xFF == 2
        call = command >> 8
        if call == 0x5805:
            data[2:4] = self.state.to_bytes(2, "little")
        elif call == 0x5803:
            if project not in self.used | set(self.limits):
                raise OSError(2, "No such file or directory")
            data[0:112] = struct.pack("=bbHI2Q4Q56x", 1, 2, 0, project, 0, 0, 0, 0, 8, 1)
        else:
            assert call == 0x5804
            version, flags, mask, identity, hard, soft = struct.unpack("=bbHIQQ", data.raw[:24])
            assert (version, flags, mask, identity) == (1, 2, 12, project)
            assert hard == soft
            assert len(data.raw) == 112
            self.limits[project] = hard * 512
            if not hard:
                del self.limits[project]
        return 0

    def ioctl(self, fd, request, argument):
        path = os.readlink(f"/proc/self/fd/{fd}")
        flags, project = self.projects.get(path, (0, 0))
        if request == 0x401C5820:
            flags, _, _, project, _ = struct.unpack("=5I8x", argument)
            self.projects[path] = flags, project
        else:
            assert request == 0x801C581F
        return struct.pack("=5I8x", flags, 0, 0, project, 0)


def test_a_limit_is_set_before_files_are_made_and_removed_with_the_layer(disk, monkeypatch):
    kernel = Kernel(monkeypatch)
    driver = make_driver(disk, size="1m")
    assert driver.capabilities().quota
    driver.create("base", "", {})
    driver.create_read_write("default", "base", "", {})
    driver.create_read_write("own", "base", "", {"size": "3M"})
    assert sorted(kernel.limits.values()) == [MIB, 3 * MIB]
    projects = {path.rpartition("/")[2]: project for path, project in kernel.projects.items()}
    assert sorted(projects) == ["default", "own"]
    for flags, project in projects.values():
        assert flags == 0x200  # new files in the directory inherit the project
        assert project in kernel.limits
    driver.remove("own")
    driver.remove("base")
    assert list(kernel.limits.values()) == [MIB]
    driver.remove("default")
    assert kernel.limits == {}


def test_a_failed_creation_removes_its_limit(disk, monkeypatch):
    kernel = Kernel(monkeypatch)
    driver = make_driver(disk)
    monkeypatch.setattr("os.symlink", lambda *args, **named: os.mkdir("/proc/nowhere"))
    with pytest.raises(OSError, match="nowhere"):
        driver.create_read_write("rw", "", "", {"size": "3M"})
    assert kernel.limits == {}
    assert driver.layer_ids() == []


def test_a_project_id_in_use_is_not_chosen(disk, monkeypatch):
    kernel = Kernel(monkeypatch)
    drawn = iter([5, 5, 7])
    monkeypatch.setattr("secrets.randbelow", lambda limit: next(drawn))
    kernel.used = {(1 << 20) + 5}
    ProjectQuota(str(disk)).limit(str(disk), MIB)
    assert list(kernel.limits) == [(1 << 20) + 7]


def test_accounting_without_enforcement_is_not_enough(disk, monkeypatch):
    Kernel(monkeypatch).state = 1 << 4
    assert "project quota is off" in ProjectQuota(str(disk)).unavailable()


def test_a_size_is_refused_without_project_quota_and_nothing_is_left(place):
    if ProjectQuota(str(place)).unavailable() is None:
        pytest.skip("there is project quota here")
    driver = make_driver(place)
    assert ProjectQuota(str(place)).unavailable()
    assert not driver.capabilities().quota
    with pytest.raises(ConfigError, match=r"size: .* has no project quota .*prjquota"):
        driver.create_read_write("rw", "", "", {"size": "1G"})
    assert driver.layer_ids() == []
    with pytest.raises(DriverNotSupported, match=r"driver option size: .*no project quota"):
        make_driver(place, size="1G")
    with pytest.raises(DriverNotSupported, match=r"driver option size: .*no project quota"):
        OverlayDriver.probe(DriverContext(place / "overlay2", logger, Options(size=1 << 30)))
    OverlayDriver.probe(DriverContext(place / "overlay2", logger, Options()))
