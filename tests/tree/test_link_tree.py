"""Trees whose files are hard links: equal to their source, with the same inodes, and nothing of the source changed."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from layerstore_core.sdk import link_tree
from tests.conftest import needs_root
from tests.trees import Tree, build, snapshot, trees


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@given(tree=trees())
def test_a_linked_tree_equals_its_source_and_shares_its_files(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, target = build(Path(name, "root"), tree), Path(name, "target")
        target.mkdir()
        before = snapshot(root)
        link_tree(root, target)
        assert snapshot(target) == snapshot(root) == before
        for path in root.rglob("*"):
            if not path.is_symlink() or path.is_file():
                copy = target / path.relative_to(root)
                regular = stat.S_ISREG(path.lstat().st_mode)
                assert os.path.samestat(path.lstat(), copy.lstat()) == regular


@pytest.fixture
def names_are_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file of `root` get a further name."""
    link = os.link

    def refuse(source: Any, target: Any, **options: Any) -> None:
        if os.path.samestat(os.stat(options["src_dir_fd"]), root.stat()):
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("names_are_limited")
def test_files_with_too_many_names_are_copied(root: Path, target: Path) -> None:
    (root / "a").write_bytes(b"content")
    (root / "a").chmod(0o4755)
    os.setxattr(root / "a", "user.one", b"1")
    (root / "d").mkdir()
    (root / "d/shared").touch()
    link_tree(root, target)
    assert snapshot(target) == snapshot(root)
    assert not os.path.samefile(root / "a", target / "a")
    assert os.path.samefile(root / "d/shared", target / "d/shared")


@pytest.mark.parametrize("possible", [0, 1, 2, 3])
def test_the_names_of_one_file_stay_together(
    possible: int, root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file can have some more names, and not as many as it has in the tree."""
    link = os.link
    (root / "a").write_bytes(b"content")
    for directory in ("d", "e/f"):
        (root / directory).mkdir(parents=True)
        link(root / "a", root / directory / "b")
        os.utime(root / directory, ns=(1, 2))
    (root / "e/f").chmod(0o555)
    full = (root / "a").stat().st_nlink + possible

    def limited(source: Any, target: Any, **options: Any) -> None:
        if os.stat(source, dir_fd=options["src_dir_fd"]).st_nlink >= full:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", limited)
    before = snapshot(root)
    link_tree(root, target)
    assert snapshot(target) == snapshot(root) == before
    assert os.path.samefile(root / "a", target / "a") == (possible == 3)


@needs_root
def test_the_limit_of_a_real_file_system(root: Path, target: Path) -> None:
    """ext4 has 65,000 names for a file; that of the file system here may have no limit."""
    (root / "a").write_bytes(b"content")
    for number in range(70_000):
        try:
            os.link(root / "a", root.parent / f"name-{number}")
        except OSError:
            break
    limited = (root / "a").stat().st_nlink <= 70_000
    link_tree(root, target)
    assert snapshot(target) == snapshot(root)
    assert os.path.samefile(root / "a", target / "a") != limited


def test_an_error_names_the_file_and_the_tree(root: Path, target: Path, nothing_left_open: None) -> None:
    (root / "file").touch()
    others = [name for name in ("/dev/shm", "/var/tmp") if os.stat(name).st_dev != root.stat().st_dev]
    if not others:
        pytest.skip("there is no second file system")
    with (
        tempfile.TemporaryDirectory(dir=others[0]) as elsewhere,
        pytest.raises(OSError, match="root/file") as caught,
    ):
        link_tree(root, elsewhere)
    assert caught.value.errno == errno.EXDEV
    assert any(elsewhere in note for note in caught.value.__notes__)
