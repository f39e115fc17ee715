"""Mounting overlays by both methods."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest
from layerstore_overlay import syscalls
from layerstore_overlay.mount import Mounter, MountMethod, OverlaySpec
from layerstore_overlay.mounts import is_mount_point, mount_of, mounted_type, read_mounts, unmount_all

from .conftest import skip_unless_possible, takes_single_lowers

OPTIONS = (("index", "off"),)


@pytest.fixture(params=[MountMethod.FSOPEN, MountMethod.CLASSIC])
def method(request, overlay):
    skip_unless_possible(request.param)
    return request.param


def prepare(home, lowers=2):
    for name in ("upper", "work", "merged"):
        (home / name).mkdir(parents=True)
    names = []
    for number in range(lowers):
        diff = home / f"layer{number}"
        diff.mkdir()
        (diff / f"file{number}").write_text(str(number))
        names.append(diff.name)
    return names


@pytest.mark.parametrize("name", ["home", "x" * 200 + "/" + "y" * 100, "a,b:c\\d e=f", "caf\udce9"])
def test_a_home_with_special_characters_is_mounted_by_both_methods(place, method, name):
    home = place / name
    home.mkdir(parents=True)
    lowers = prepare(home)
    where = os.getcwd()
    Mounter(str(home), method).mount(OverlaySpec(lowers, "upper", "work", OPTIONS), "merged")
    merged = str(home / "merged")
    assert sorted(os.listdir(merged)) == ["file0", "file1"]
    Path(merged, "new").write_text("x")
    assert os.listdir(home / "upper") == ["new"]
    assert is_mount_point(merged)
    assert mounted_type(merged) == "overlay"
    assert mount_of(merged + "/new").point == os.fsencode(merged)
    assert unmount_all(merged)
    assert not is_mount_point(merged)
    assert mounted_type(merged) is None
    assert not unmount_all(merged)
    assert os.getcwd() == where


@pytest.mark.parametrize("upper", ["upper", None])
def test_read_only_mounts_refuse_writes(disk, method, upper):
    lowers = prepare(disk)
    Mounter(str(disk), method).mount(OverlaySpec(lowers, upper, upper and "work", OPTIONS, read_only=True), "merged")
    with pytest.raises(OSError, match="Read-only file system"):
        (disk / "merged" / "new").write_text("x")
    unmount_all(str(disk / "merged"))


def test_the_older_method_mounts_125_layers_and_the_newer_500(disk):
    lowers = prepare(disk, 500)
    merged = str(disk / "merged")
    ways = [(MountMethod.CLASSIC, 126)]
    if takes_single_lowers():
        ways.append((MountMethod.FSOPEN, 500))
    for method, count in ways:
        Mounter(str(disk), method).mount(OverlaySpec(lowers[:count], "upper", "work", OPTIONS), "merged")
        assert len(os.listdir(merged)) == count
        unmount_all(merged)
    with pytest.raises(OSError, match="do not fit into the 4095 bytes"):
        Mounter(str(disk), MountMethod.CLASSIC).mount(OverlaySpec(lowers, "upper", "work"), "merged")
    assert not is_mount_point(merged)


def test_a_refused_mount_names_the_mount_point_and_leaks_nothing(disk, method):
    lowers = prepare(disk)
    open_before, threads_before = os.listdir("/proc/self/fd"), threading.active_count()
    for options in ((("bogus", "1"),), (("context", "system_u:object_r:t:s0:c1,c2"),)):
        spec = OverlaySpec(lowers, "upper", "work", options)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number differs
            Mounter(str(disk), method).mount(spec, "merged")
        assert caught.value.filename == str(disk / "merged")
        assert "while mounting an overlay" in "".join(caught.value.__notes__)
        if method is MountMethod.FSOPEN:
            assert options[0][0] in str(caught.value)
    assert os.listdir("/proc/self/fd") == open_before
    assert threading.active_count() <= threads_before


def test_a_label_with_commas_is_quoted_for_the_older_method(disk, monkeypatch):
    lowers = prepare(disk)
    seen = []
    monkeypatch.setattr(syscalls, "mount", lambda *a, **k: seen.append(re.sub(rb"fd/[0-9]+", b"fd/7", a[1])))
    spec = OverlaySpec(lowers[:1], None, None, (("userxattr", None), ("context", "u:r:t:s0:c1,c2")))
    Mounter(str(disk), MountMethod.CLASSIC).mount(spec, "merged")
    assert seen == [b'userxattr,context="u:r:t:s0:c1,c2",lowerdir=/proc/self/fd/7']


@pytest.mark.parametrize("kernel", ["5.1, without the newer calls", "5.2, which takes any option", "6.7"])
def test_the_older_method_is_used_if_the_kernel_takes_no_single_lower_layers(disk, monkeypatch, kernel):
    real = syscalls.fsconfig_set

    def fsopen(*args):
        raise OSError(38, "Function not implemented")

    def fsconfig_set(fd, key, value):
        if "any option" in kernel:
            return
        real(fd, key, value)

    def fsconfig_set_directory(fd, key, directory):
        assert key == b"lowerdir+"
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(syscalls, "fsconfig_set", fsconfig_set)
    monkeypatch.setattr(syscalls, "fsconfig_set_directory", fsconfig_set_directory)
    if "without" in kernel:
        monkeypatch.setattr(syscalls, "fsopen", fsopen)
    lowers = prepare(disk)
    mounter = Mounter(str(disk), MountMethod.AUTO)
    assert mounter.takes_single_lowers
    mounter.mount(OverlaySpec(lowers, "upper", "work", OPTIONS), "merged")
    assert not mounter.takes_single_lowers
    assert sorted(os.listdir(disk / "merged")) == ["file0", "file1"]
    unmount_all(str(disk / "merged"))


def test_mounts_in_use_and_stacked_mounts_are_unmounted(disk):
    lowers = prepare(disk)
    (disk / "upper2").mkdir()
    (disk / "work2").mkdir()
    mounter = Mounter(str(disk))
    merged = str(disk / "merged")
    mounter.mount(OverlaySpec(lowers, "upper", "work", OPTIONS), "merged")
    with open(os.path.join(merged, "file0")) as held:
        mounter.mount(OverlaySpec(lowers, "upper2", "work2", OPTIONS), "merged")
        assert len([mount for mount in read_mounts() if mount.point == os.fsencode(merged)]) == 2
        assert unmount_all(merged)
        assert held.read() == "0"
    os.rmdir(merged)
