"""Making snapshots, and deleting subvolumes."""

from __future__ import annotations

import os

import pytest
from layerstore_btrfs import ioctl, subvolumes

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]


@pytest.fixture
def directory(home):
    with subvolumes.opened(home) as fd:
        yield fd


def add(directory, *names):
    """Make the subvolume `names[-1]`, in the directories that the names before it lead to."""
    with subvolumes.opened(os.path.join(*names[:-1]) if names[:-1] else b".", dir_fd=directory) as parent:
        ioctl.subvol_create(parent, names[-1])


def listing(home):
    return sorted(os.listdir(bytes(home)))


def test_a_snapshot_has_the_files_of_its_source_and_is_independent(home, directory):
    add(directory, b"one")
    (home / "one/f").write_text("before")
    subvolumes.snapshot(home / "one", directory, b"two")
    (home / "one/f").write_text("after")
    assert (home / "two/f").read_text() == "before"


def test_deleting_removes_nested_subvolumes_of_any_name(home, directory):
    add(directory, b"top")
    os.makedirs(bytes(home) + b"/top/plain/\xff\xfe")
    add(directory, b"top", b"plain", b"\xff\xfe", b"new\nline")
    add(directory, b"top", b"plain", b"\xff\xfe", b"new\nline", b"x" * 255)
    add(directory, b"top", b"\xc3")
    with subvolumes.opened(b"top/\xc3", dir_fd=directory) as read_only:
        ioctl.set_read_only(read_only, True)
        assert ioctl.is_read_only(read_only)
    add(directory, b"bystander")
    subvolumes.delete(directory, b"top")
    assert listing(home) == [b"bystander"]


def test_deleting_more_nested_subvolumes_than_one_search_returns(home, directory):
    add(directory, b"top")
    for number in range(300):
        add(directory, b"top", f"{number:0200}".encode())
    with subvolumes.opened(home / "top") as top:
        assert len(subvolumes.nested(top, ioctl.subvol_info(top).tree_id)) == 300
    subvolumes.delete(directory, b"top")
    assert listing(home) == []


def test_plain_files_and_directories_are_deleted_too(home, directory):
    (home / "plain/below").mkdir(parents=True)
    add(directory, b"plain", b"inner")
    (home / "file").touch()
    (home / "link").symlink_to("plain")
    for name in (b"link", b"file", b"plain", b"missing"):
        assert subvolumes.delete(directory, name) is None
    assert listing(home) == []


@pytest.mark.parametrize("option", ["", "user_subvol_rm_allowed"])
def test_an_ordinary_user_deletes_its_own_subvolumes(make_filesystem, ordinary_user, option):
    home = make_filesystem(option or "default", *filter(None, [option]))
    home.chmod(0o777)
    with ordinary_user(), subvolumes.opened(home) as directory:
        add(directory, b"own")
        (home / "own/d").mkdir()
        (home / "own/d/f").write_text("x")
        subvolumes.snapshot(home / "own", directory, b"plain")
        add(directory, b"own", b"d", b"inner")
        subvolumes.snapshot(home / "own", directory, b"read-only")
        with subvolumes.opened(home / "read-only") as copy:
            ioctl.set_read_only(copy, True)
        for name in (b"own", b"plain", b"read-only"):
            assert subvolumes.delete(directory, name) is not None
    assert listing(home) == []


def test_a_name_is_never_truncated(home, directory):
    with pytest.raises(OSError, match="name too long"):
        ioctl.subvol_create(directory, b"x" * 256)
    assert listing(home) == []


def test_a_snapshot_of_a_plain_directory_is_refused(home, directory):
    (home / "plain").mkdir()
    with pytest.raises(OSError, match="no btrfs subvolume") as caught:
        subvolumes.snapshot(home / "plain", directory, b"copy")
    assert caught.value.filename == str(home / "plain")
