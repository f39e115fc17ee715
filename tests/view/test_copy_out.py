"""Copies of a view's files on the host: as `cp -a` makes them, whole or not at all, never outside the target."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core.errors import IntegrityError
from layerstore_core.view.copy_out import copy_to_host, tar_of
from layerstore_core.view.layers import TarLayer
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import SPARSE, T, attributes, d, f, link, node, sym
from tests.across.conftest import tree_of
from tests.view.conftest import view_of
from tests.view.test_mounted_trees import tree_in

LAYERS = (
    [
        d(b"top", mode=0o555, mtime=5),
        f(b"top/a", b"a", mode=0o640, mtime=7),
        link(b"top/b", b"top/a", mode=0o640, mtime=7),
        sym(b"top/link", b"/etc/passwd", mtime=8),
        sym(b"here", b"top"),
        d(b"top/sub", mode=0o2751, mtime=9),
        attributes(f(b"top/sub/x", b"x" * 3000), user_x=b"1"),
        tars.sparse_pax(b"top/sub/sparse", *SPARSE, "1.0", mtime=T),
        f(b"\xff", b"raw"),
        node(b"top/fifo", b"6", mode=0o600),
    ],
)


@pytest.fixture
def view() -> TreeView:
    return view_of(*LAYERS)


@pytest.fixture(autouse=True)
def nothing_left_over(tmp_path: Path) -> Iterator[None]:
    yield
    assert list(tmp_path.rglob(".layerstore-*")) == []


def test_file_goes_into_a_directory_or_gets_a_new_name(view: TreeView, tmp_path: Path) -> None:
    copied = copy_to_host(view, b"top/a", str(tmp_path))
    assert (copied.target, copied.files, copied.bytes) == (str(tmp_path / "a"), 1, 1)
    copy_to_host(view, b"/top/../top/a", str(tmp_path / "new"))
    for name in ("a", "new"):
        status = (tmp_path / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime, status.st_nlink) == (0o640, 7, 1)
        assert (tmp_path / name).read_text() == "a"


def test_directory_is_copied_with_all_metadata(view: TreeView, tmp_path: Path) -> None:
    copied = copy_to_host(view, b"top", str(tmp_path / "copy"))
    assert copied.files == 8
    found = tree_of(tmp_path / "copy")
    wanted = tree_in(view)
    for path, what in found.items():
        if path:
            inside = [name.removeprefix(b"top/") for name in wanted[b"top/" + path][6] or ()]
            assert what == (*wanted[b"top/" + path][:6], inside or None), path
    assert len(found) == 8
    assert (tmp_path / "copy").stat().st_mtime == 5
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) & 0o577 == 0o555
    assert (tmp_path / "copy/sub/sparse").stat().st_blocks * 512 < len(SPARSE[0])


def test_content_of_a_directory_is_merged_into_an_existing_one(view: TreeView, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "sub").mkdir(parents=True)
    (target / "sub" / "mine").write_text("mine")
    (target / "a").write_text("old")
    copy_to_host(view, b"/top/.", str(target))
    assert (target / "a").read_text() == "a"
    assert (target / "sub" / "mine").read_text() == "mine"
    assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o2751
    assert (target / "sub").stat().st_mtime == 9
    assert (target / "a").samefile(target / "b")
    copy_to_host(view, b"/top/.", str(target))


def test_whole_root_is_copied_to_a_new_or_an_existing_directory(view: TreeView, tmp_path: Path) -> None:
    copy_to_host(view, b"/", str(tmp_path / "root"))
    (tmp_path / "there").mkdir()
    copy_to_host(view, b"/", str(tmp_path / "there"))
    for name in ("root", "there"):
        assert {os.fsencode(path.name) for path in (tmp_path / name).iterdir()} == {b"top", b"here", b"\xff"}


def test_link_is_copied_as_it_is_unless_it_is_to_be_followed(view: TreeView, tmp_path: Path) -> None:
    copy_to_host(view, b"here", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "top"
    copy_to_host(view, b"here", str(tmp_path / "followed"), follow=True)
    assert (tmp_path / "followed/sub/x").read_text() == "x" * 3000
    copy_to_host(view, b"here/", str(tmp_path))
    assert (tmp_path / "here").is_dir()


def test_directories_and_other_files_do_not_replace_each_other(view: TreeView, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("mine")
    target = tmp_path / "target"
    (target / "sub" / "x").mkdir(parents=True)
    (tmp_path / "socket").mkdir()
    os.mkfifo(tmp_path / "socket" / "a")
    for path, where, error in (
        (b"top/a", tmp_path, IsADirectoryError),
        (b"top", tmp_path / "file", NotADirectoryError),
        (b"top/.", target, IsADirectoryError),
        (b"top/a", tmp_path / "socket", FileExistsError),
        (b"top/a", tmp_path / "none" / "a", FileNotFoundError),
        (b"nowhere", tmp_path, FileNotFoundError),
    ):
        with pytest.raises(error):
            copy_to_host(view, path, str(where))
    with pytest.raises(FileNotFoundError, match="no such directory"):
        copy_to_host(view, b"top/a", f"{tmp_path}/none/")
    assert sorted(os.listdir(target)) == ["sub"], "nothing was copied before the conflict was found"
    assert (tmp_path / "file").read_text() == "mine"


def test_links_at_the_target_do_not_lead_out_of_it(view: TreeView, tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (outside / "a").write_text("mine")
    (target / "sub").symlink_to(outside)
    with pytest.raises(NotADirectoryError, match="remove it first"):
        copy_to_host(view, b"top/.", str(target))
    (target / "sub").unlink()
    (target / "a").symlink_to(outside / "a")
    copy_to_host(view, b"top/.", str(target))
    assert (outside / "a").read_text() == "mine"
    assert not (target / "a").is_symlink()
    assert os.listdir(outside) == ["a"]


def test_link_that_the_user_names_as_target_is_followed(view: TreeView, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    copy_to_host(view, b"top/.", str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/a").read_text() == "a"


class _Damaged(TarLayer):
    """A layer whose file `x` cannot be read to its end."""

    def payload(self, file: FileNode) -> Iterator[bytes]:
        for chunk in super().payload(file):
            if file.size == 3000:
                raise IntegrityError("damaged")
            yield chunk


def test_failure_on_the_way_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    damaged = TreeView([_Damaged(lambda: io.BytesIO(tars.tar(*LAYERS[0])))])
    with pytest.raises(IntegrityError):
        copy_to_host(damaged, b"top", str(tmp_path / "copy"))
    assert os.listdir(tmp_path) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(IntegrityError):
        copy_to_host(damaged, b"top/.", str(tmp_path / "there"))
    assert os.listdir(tmp_path / "there") == []


def test_content_goes_into_a_pipe_or_device_and_does_not_replace_it(view: TreeView, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        copy_to_host(view, b"top/sub/x", str(tmp_path / "pipe"))
        assert reader.communicate()[0] == b"x" * 3000
    copy_to_host(view, b"top/a", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_deep_directories_are_copied(tmp_path: Path) -> None:
    deep = b"/".join([b"d"] * 1500)
    view = view_of([f(deep + b"/end", b"e")])
    assert copy_to_host(view, b"/", str(tmp_path / "copy")).files == 1502
    subprocess.run(["rm", "-r", tmp_path / "copy"], check=True)


def test_tar_has_the_same_files_sorted(view: TreeView) -> None:
    data = b"".join(tar_of(view, b"top"))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        assert names == sorted(names)
        assert names[:3] == ["top", "top/a", "top/b"]
        assert (tar.getmember("top/b").type, tar.getmember("top/b").linkname) == (tarfile.LNKTYPE, "top/a")
        sparse = tar.extractfile("top/sub/sparse")
        assert sparse is not None
        assert sparse.read() == SPARSE[0]
    again = TreeView([TarLayer(lambda: io.BytesIO(data))])
    found, wanted = tree_in(again), tree_in(view)
    assert {path: what for path, what in found.items() if path} == {
        path: what for path, what in wanted.items() if path.startswith(b"top")
    }


def test_tar_of_the_root_or_the_content_of_a_directory_has_relative_names(view: TreeView) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_of(view, b"/")))) as tar:
        assert tar.getnames()[:2] == [".", "here"]
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_of(view, b"top/.")))) as tar:
        assert tar.getnames()[:2] == [".", "a"]


@pytest.mark.needs_root
def test_owners_are_kept_or_not(tmp_path: Path) -> None:
    view = view_of([d(b"d", uid=3, gid=4), f(b"d/f", uid=5, gid=6)])
    copy_to_host(view, b"d", str(tmp_path / "kept"))
    copy_to_host(view, b"d", str(tmp_path / "own"), keep_owners=False)
    owners = [(path.stat().st_uid, path.stat().st_gid) for path in sorted(tmp_path.rglob("*"))]
    assert owners == [(3, 4), (5, 6), (0, 0), (0, 0)]


@pytest.mark.needs_root
def test_ordinary_user_copies_with_his_own_owner(view: TreeView) -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own directories are root's alone
        os.chmod(directory, 0o777)
        copy = Path(directory, "copy")
        pid = os.fork()
        if not pid:
            try:
                os.setgroups([])
                os.setgid(1234)
                os.setuid(1234)
                copy_to_host(view, b"top", str(copy))
                copy_to_host(view, b"top/sub/.", str(copy / "sub"))
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        status = copy.stat()
        assert (status.st_uid, status.st_gid, status.st_mtime) == (1234, 1234, 5)
        assert stat.S_IMODE(status.st_mode) == 0o755, "the owner may write, so that he can remove it"
        assert (copy / "sub/x").read_text() == "x" * 3000
