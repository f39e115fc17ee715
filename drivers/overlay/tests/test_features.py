"""Features of overlayfs, found by trial mounts, and the trial directories."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest
from layerstore_overlay import OverlayDriver, features
from layerstore_overlay.features import Features
from layerstore_overlay.lowers import TRUSTED, USER
from layerstore_overlay.mount import MountMethod
from layerstore_overlay.mounts import read_mounts

from layerstore_core import DriverContext
from layerstore_core.errors import DriverNotSupported

from .conftest import logger, make_driver, skip_unless_possible, takes_single_lowers


@pytest.mark.parametrize("method", list(MountMethod))
def test_features_are_tried_in_the_directory_and_nothing_is_left(place, method):
    skip_unless_possible(method)
    files = os.listdir("/proc/self/fd")
    found = Features(str(place), method)
    found.require()
    assert found.d_type
    assert found.whiteouts
    assert found.index
    assert not found.userxattr
    assert found.native_diff
    assert found.takes_single_lowers == (method is not MountMethod.CLASSIC and takes_single_lowers())
    assert not found.behaviour.redirect_dir
    assert not found.behaviour.metacopy
    assert list(place.iterdir()) == []
    # Other tests mount at the same time.
    assert not [mount for mount in read_mounts() if mount.point.startswith(os.fsencode(place) + b"/")]
    assert os.listdir("/proc/self/fd") == files


@pytest.mark.parametrize(
    ("option", "fact"), [("redirect_dir", "redirect_dir"), ("metacopy", "metacopy")], ids=["redirect_dir", "metacopy"]
)
def test_a_kernel_with_redirect_dir_or_metacopy_has_no_native_diff(disk, option, fact):
    found = Features(str(disk))
    # As if the kernel's default were on.
    found.__dict__["base_options"] = (("index", "off"), (option, "on"))
    assert getattr(found.behaviour, fact)
    assert not found.native_diff


def test_an_overlay_on_an_overlay_is_refused_with_reason_and_remedy(disk):
    for name in ("l", "u", "w", "m"):
        (disk / name).mkdir()
    options = f"lowerdir={disk}/l,upperdir={disk}/u,workdir={disk}/w"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", disk / "m"], check=True)
    with pytest.raises(
        DriverNotSupported,
        match=r"m \(overlay\).*keep the root on ext4, xfs, btrfs or tmpfs",
    ):
        make_driver(disk / "m")
    with pytest.raises(DriverNotSupported):
        OverlayDriver.probe(DriverContext(disk / "m" / "not" / "yet" / "made", logger))


@pytest.mark.parametrize(
    ("fact", "reason"),
    [("d_type", "does not store the types of directory entries"), ("whiteouts", "device 0:0.*layerstore unshare")],
)
def test_a_missing_feature_is_named(disk, fact, reason):
    found = Features(str(disk))
    found.__dict__[fact] = False
    with pytest.raises(DriverNotSupported, match=reason):
        found.require()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "may not mount.*layerstore unshare"),
        (19, "modprobe overlay"),
        (22, "no overlay can be mounted"),
        (30, "read-only"),
    ],
)
def test_a_refused_mount_is_reported_with_its_reason_and_remedy(disk, monkeypatch, code, reason):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Features, "_mount", refuse)
    with pytest.raises(DriverNotSupported, match=reason):
        Features(str(disk)).require()
    assert list(disk.iterdir()) == []


def test_a_kernel_without_index_and_volatile(disk, monkeypatch):
    mount = Features._mount

    def refuse(self, place, lower, options):
        if {"index", "volatile"} & {key for key, _ in options}:
            raise OSError(22, "Invalid argument")
        return mount(self, place, lower, options)

    monkeypatch.setattr(Features, "_mount", refuse)
    found = Features(str(disk))
    assert not found.index
    assert found.base_options == ()
    assert found.native_diff


def test_user_attributes_are_used_where_trusted_ones_cannot_be_set(disk, monkeypatch):
    real = os.setxattr

    def setxattr(path, name, *args, **kwargs):
        if name.startswith(denied):
            raise PermissionError(1, "Operation not permitted")
        real(path, name, *args, **kwargs)

    denied = "trusted."
    monkeypatch.setattr(os, "setxattr", setxattr)
    assert Features(str(disk)).xattrs is USER
    denied = ("trusted.", "user.")
    with pytest.raises(DriverNotSupported, match="extended attributes"):
        Features(str(disk)).require()
    denied = "none."
    assert Features(str(disk)).xattrs is TRUSTED


def test_cleanup_removes_trial_directories_that_no_process_has_locked(disk):
    driver = make_driver(disk)
    home = disk / "overlay2"
    old, used, young = (home / f"{features.TEMPORARY}{name}" for name in ("old", "used", "young"))
    for path, time in (old, 0), (used, 0), (young, 1 << 33):  # their age does not matter
        (path / "work").mkdir(parents=True)
        os.utime(path, (time, time))
    fd = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        driver.cleanup()
    finally:
        os.close(fd)
    assert not old.exists()
    assert used.exists()
    assert not young.exists()
    assert driver.layer_ids() == []


def test_a_trial_directory_that_was_taken_for_stale_is_made_again(disk, monkeypatch):
    """Another process may clean up after the directory is made and before it is locked."""
    real = fcntl.flock
    taken = []

    def flock(fd, how):
        if not taken and how == fcntl.LOCK_EX:
            taken.append(how)
            monkeypatch.setattr(fcntl, "flock", real)
            features.remove_stale_trial_directories(str(disk))
        return real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    Features(str(disk)).require()
    assert taken
    assert not list(disk.glob(".layerstore-*"))


def test_features_are_found_while_other_processes_clean_up(disk):
    """A trial directory that vanishes is not taken for a missing feature."""
    code = """
import sys
from layerstore_overlay import features
print(flush=True)
while True:
    features.remove_stale_trial_directories(sys.argv[1])
"""
    cleaners = [
        subprocess.Popen([sys.executable, "-c", code, disk], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for cleaner in cleaners:
            assert cleaner.stdout.readline() == b"\n"
        for _ in range(50):
            Features(str(disk)).require()
        assert [cleaner.poll() for cleaner in cleaners] == [None, None]
    finally:
        for cleaner in cleaners:
            cleaner.kill()
            cleaner.communicate()
    assert not list(disk.glob(".layerstore-*"))
