"""The function that a driver passes to `unpack_layer`: called for each regular file of the layer, and for no other."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.unpack.made_files import MadeFile
from layerstore_core.unpack.unpacker import unpack_layer
from tests import tars
from tests.across.test_properties import empty_root, good_entries
from tests.conftest import needs_root
from tests.tree_state import contents, paths
from tests.unpack.test_runs import left_to_python, limits, plain_entries, small_jobs, state
from tests.without_kernels import plain_way

ways = st.sampled_from([nullcontext, plain_way])
layers = st.lists(
    st.lists(st.one_of(plain_entries(), good_entries), max_size=14).map(lambda parts: tars.tar(*parts)),
    min_size=1,
    max_size=2,
)


def unpack(tar: bytes, root: Path, on_file: Callable[[MadeFile], object] | None = None, **options: object) -> int:
    return unpack_layer(LayerStream.over(io.BytesIO(tar)), str(root), on_file=on_file, **options)  # type: ignore[arg-type]


def regular_files(root: Path) -> dict[tuple[int, int], set[bytes]]:
    """Return the paths of the regular files by inode."""
    found: dict[tuple[int, int], set[bytes]] = {}
    for path in paths(root):
        status = os.lstat(os.path.join(os.fsencode(root), path))
        if stat.S_ISREG(status.st_mode):
            found.setdefault((status.st_dev, status.st_ino), set()).add(path)
    return found


@contextmanager
def kept_open(root: Path) -> Iterator[set[tuple[int, int]]]:
    """Yield the inodes of all regular files. They are not used again within the block."""
    found = regular_files(root)
    descriptors = [
        os.open(os.path.join(os.fsencode(root), next(iter(names))), os.O_PATH | os.O_NOFOLLOW)
        for names in found.values()
    ]
    try:
        yield set(found)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@needs_root
@given(layers, limits, ways)
def test_each_file_of_the_layer_is_passed_once_with_its_names_and_digest(
    parts: list[bytes], limit: tuple[int, int], way: Callable[[], object]
) -> None:
    with empty_root() as root, small_jobs(*limit), way():  # type: ignore[attr-defined]
        for tar in parts[:-1]:
            try:
                unpack(tar, root)
            except (InvalidLayer, OSError):
                return
        passed: dict[tuple[int, int], set[bytes]] = {}

        def note(file: MadeFile) -> None:
            inode = file.status.st_dev, file.status.st_ino
            assert inode not in passed
            names = [file.name, *file.others]
            passed[inode] = set(names)
            assert len(passed[inode]) == len(names)
            assert os.stat(file.base, dir_fd=file.directory, follow_symlinks=False) == file.status
            with os.fdopen(file.open(), "rb") as opened:
                content = opened.read()
            assert file.digest in (None, hashlib.sha256(content).hexdigest())
            assert file.size == len(content)
            assert file.digest is not None or file.size >= 5000, "only the sparse files here have no digest"

        with kept_open(root) as parents:
            try:
                unpack(parts[-1], root, note)
            except (InvalidLayer, OSError):
                assert not passed
                return
            expected = {inode: names for inode, names in regular_files(root).items() if inode not in parents}
        assert passed == expected


@needs_root
@given(layers, ways)
def test_files_that_are_replaced_by_links_to_a_pool_leave_the_same_tree(
    parts: list[bytes], way: Callable[[], object]
) -> None:
    with empty_root() as root, empty_root() as other, empty_root() as pool, way():  # type: ignore[attr-defined]

        def keep(file: MadeFile) -> None:
            key = repr((file.digest, file.size, *file.status[:1], *file.status[4:6], file.status.st_mtime_ns))
            path = f"/proc/self/fd/{file.directory}/{os.fsdecode(file.base)}"
            key += repr([(name, os.getxattr(path, name)) for name in sorted(os.listxattr(path))])
            target = pool / hashlib.sha256(key.encode()).hexdigest()
            if file.digest is None:
                return
            if target.exists():
                file.replace(str(target))
                file.replace(str(target))  # again: both are names of one file now
            else:
                os.link(file.base, target, src_dir_fd=file.directory, follow_symlinks=False)

        for number, tar in enumerate(parts):
            last = number == len(parts) - 1
            try:
                size = unpack(tar, root)
            except (InvalidLayer, OSError):
                return
            assert unpack(tar, other, keep if last else None) == size
        facts = [
            {path: (*fact[:5], *fact[6:]) for path, fact in state(tree).items()}  # all but which files are one
            for tree in (root, other)
        ]
        assert facts[0] == facts[1]
        for names in regular_files(root).values():
            assert any(names <= others for others in regular_files(other).values()), "hard links stay hard links"
        assert {path: fact[4] for path, fact in state(root).items()} == {
            path: fact[4] for path, fact in state(other).items()
        }


def test_a_file_is_passed_when_the_layer_is_complete(root: Path) -> None:
    tar = tars.tar(
        tars.entry(b"a", b"first"),
        tars.entry(b"d/b", b"second"),
        tars.hard_link(b"c", b"a", mode=0o600),
        tars.entry(b"d/b", b"third"),
        tars.entry(b"gone", b"gone"),
        tars.entry(b".wh.gone"),
    )
    found = {}

    def note(file: MadeFile) -> None:
        assert sorted(contents(root)) == ["a", "c", "d", "d/b"]
        found[file.name] = file.others, file.status.st_mode & 0o777, file.digest

    unpack(tar, root, note)
    assert found == {
        b"a": ((b"c",), 0o600, hashlib.sha256(b"first").hexdigest()),
        b"d/b": ((), 0o644, hashlib.sha256(b"third").hexdigest()),
    }


def test_entries_that_a_kernel_leaves_to_python_are_passed_once(root: Path) -> None:
    os.mkdir(root / "a")  # a directory of the parent, which a kernel does not replace
    passed = []
    with left_to_python():
        unpack(
            tars.tar(tars.entry(b"first", b"1"), tars.entry(b"a", b"2")), root, lambda file: passed.append(file.name)
        )
    assert sorted(passed) == [b"a", b"first"]


def test_nothing_is_passed_of_a_layer_that_cannot_be_unpacked(root: Path) -> None:
    passed: list[MadeFile] = []
    with pytest.raises(InvalidLayer):
        unpack(tars.tar(tars.entry(b"a", b"1"), tars.entry(b"../b", b"2")), root, passed.append)
    assert not passed


@pytest.mark.parametrize("break_links", [False, True])
def test_a_parents_file_is_not_passed(root: Path, tmp_path: Path, break_links: bool) -> None:
    (tmp_path / "parents").write_bytes(b"content")
    os.link(tmp_path / "parents", root / "a")
    passed: list[MadeFile] = []
    unpack(tars.tar(tars.hard_link(b"b", b"a", mode=0o600)), root, passed.append, break_links=break_links)
    assert not passed
    assert (root / "b").stat().st_mode & 0o777 == 0o600


def test_a_file_in_the_directory_of_aufs_is_passed_under_its_names(root: Path) -> None:
    links = [tars.hard_link(name, b".wh..wh.plnk/1.2") for name in (b"a", b"d/b")]
    passed: list[MadeFile] = []
    unpack(tars.tar(tars.entry(b".wh..wh.plnk/1.2", b"shared"), *links), root, passed.append)
    assert [(file.name, file.others, file.digest) for file in passed] == [
        (b"a", (b"d/b",), hashlib.sha256(b"shared").hexdigest())
    ]


def test_times_of_directories_stay_as_they_are_when_a_file_is_replaced(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"content")
    unpack(
        tars.tar(tars.directory(b"d", mtime=7), tars.entry(b"d/a", b"content")),
        root,
        lambda file: file.replace(str(other)),
    )
    assert os.path.samefile(root / "d/a", other)
    assert (root / "d").stat().st_mtime == 7
    assert os.listdir(root / "d") == ["a"]


def test_an_error_of_the_function_is_raised_and_names_the_file(root: Path) -> None:
    def fail(file: MadeFile) -> None:
        raise KeyError("no room in the pool")

    with pytest.raises(KeyError, match="no room in the pool") as caught:
        unpack(tars.tar(tars.entry(b"d/a", b"content")), root, fail)
    assert f"while the driver handled 'd/a' in {root}" in caught.value.__notes__


def test_a_file_that_cannot_be_replaced_stays(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unpack(tars.tar(tars.entry(b"a", b"content")), root, lambda file: file.replace(str(tmp_path / "absent")))
    assert contents(root) == {"a": b"content"}


@pytest.mark.parametrize("possible", [0, 1, 2])
def test_a_file_is_replaced_under_all_of_its_names_or_none(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, possible: int
) -> None:
    """A pool's file may be able to get some more names, and not as many as the layer has for the file."""
    kept, link, errors = tmp_path / "kept", os.link, []
    kept.write_bytes(b"1")
    tar = tars.tar(
        tars.entry(b"d/a", b"1"),
        tars.entry(b"b", typeflag=b"1", linkname=b"d/a"),
        tars.entry(b"e/c", typeflag=b"1", linkname=b"b"),
    )

    def limited(source: str, target: bytes, **options: int) -> None:
        if kept.stat().st_nlink > possible:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target, **options)

    def replace(file: MadeFile) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "link", limited)
            try:
                file.replace(str(kept))
            except OSError as error:
                errors.append(error.errno)

    unpack(tar, root, replace)
    assert errors == [errno.EMLINK]
    assert kept.stat().st_nlink == 1
    assert len({(root / name).stat().st_ino for name in ("d/a", "b", "e/c")}) == 1
    assert sorted(os.fsdecode(path) for path in paths(root)) == ["b", "d", "d/a", "e", "e/c"]
