"""Group "diffs": changes as a list and as a tar, and the effect of a tar with deletions."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.rig import DriverRig, read_all
from layerstore_core.conformance.tars import Item, directory, file, hard_link, opaque, symlink, whiteout
from layerstore_core.conformance.trees import expected_changes, must_be, names_of, read_tree
from layerstore_core.diff.change import Change, ChangeKind

_BASE: Final = [
    directory(b"etc"),
    file(b"etc/hosts", b"127.0.0.1 localhost\n"),
    file(b"etc/passwd", b"root:x:0:0\n", mode=0o644),
    directory(b"usr"),
    directory(b"usr/lib"),
    file(b"usr/lib/one", b"1" * 5000),
    file(b"usr/lib/two", b"2" * 50),
    directory(b"usr/lib/deep"),
    file(b"usr/lib/deep/down", b"d"),
    symlink(b"lib", b"usr/lib"),
    file(b"top", b"t", xattrs={b"user.k": b"v"}),
    directory(b"empty"),
]


def _same_size_and_time(root: Path) -> None:
    before = (root / "etc/hosts").stat()
    with open(root / "etc/hosts", "r+b") as stream:
        stream.write(b"10.0.0.99")
    os.utime(root / "etc/hosts", ns=(before.st_atime_ns, before.st_mtime_ns))


def _remake_directory(root: Path) -> None:
    shutil.rmtree(root / "usr/lib")
    (root / "usr/lib").mkdir()
    (root / "usr/lib/three").write_text("3")


def _file_to_directory(root: Path) -> None:
    (root / "top").unlink()
    (root / "top").mkdir()
    (root / "top/inside").write_text("x")


def _directory_to_file(root: Path) -> None:
    shutil.rmtree(root / "usr")
    (root / "usr").write_text("now a file")


def _directory_to_link(root: Path) -> None:
    shutil.rmtree(root / "usr/lib/deep")
    (root / "usr/lib/deep").symlink_to("../../etc")


def _link_to_directory(root: Path) -> None:
    (root / "lib").unlink()
    (root / "lib").mkdir()


def _touch_and_remove(root: Path) -> None:
    (root / "etc/scratch").write_text("x")
    (root / "etc/scratch").unlink()


def _rename_directory(root: Path) -> None:
    try:
        (root / "etc").rename(root / "config")
    except OSError:  # EXDEV: an overlay may refuse to rename a directory, and then the caller copies it, like `mv`
        shutil.copytree(root / "etc", root / "config", symlinks=True)
        shutil.rmtree(root / "etc")


def _delete_and_write_again(root: Path) -> None:
    (root / "etc/hosts").unlink()
    (root / "etc/hosts").write_text("::1 localhost\n")


def _retarget(root: Path) -> None:
    (root / "lib").unlink()
    (root / "lib").symlink_to("usr")


def _delete_everything(root: Path) -> None:
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _many(root: Path) -> None:
    _same_size_and_time(root)
    _rename_directory(root)
    _remake_directory(root)
    (root / "caf\udce9").write_text("x")
    os.mkfifo(root / "fifo")
    (root / "top").chmod(0o4711)


def _change_the_owner(root: Path) -> None:
    """Change the owner; another user than root may only change the mode."""
    os.chown(root, 12, 34) if os.geteuid() == 0 else root.chmod(0o751)


def _put_sockets(root: Path) -> None:
    shutil.rmtree(root / "usr/lib")
    for name in ("top", "lib"):
        (root / name).unlink()
    for name in ("top", "usr/lib", "lib", "etc/new"):
        os.mknod(root / name, stat.S_IFSOCK | 0o755)


#: Edits of a writable layer whose parent is `_BASE`. Only the last two make no change.
_EDITS: Final[dict[str, Callable[[Path], object]]] = {
    "add-a-file": lambda root: (root / "usr/lib/new").write_bytes(b"n" * 10_000),
    "add-an-empty-directory": lambda root: (root / "srv").mkdir(),
    "add-a-tree": lambda root: shutil.copytree(root / "usr", root / "opt", symlinks=True),
    "add-a-symbolic-link": lambda root: (root / "etc/link").symlink_to("hosts"),
    "add-a-hard-link": lambda root: os.link(root / "etc/hosts", root / "etc/twin"),
    "add-a-fifo": lambda root: os.mkfifo(root / "fifo"),
    "add-a-name-that-is-no-text": lambda root: (root / "caf\udce9").write_text("x"),
    "change-content": lambda root: (root / "etc/hosts").write_text("changed"),
    "change-content-but-not-size-nor-time": _same_size_and_time,
    "append": lambda root: os.truncate(root / "usr/lib/two", 100),
    "change-the-mode-only": lambda root: (root / "etc/passwd").chmod(0o600),
    "change-the-mode-of-a-directory": lambda root: (root / "usr/lib").chmod(0o700),
    "change-the-mode-of-the-root": lambda root: root.chmod(0o750),
    "set-an-attribute-of-the-root": lambda root: os.setxattr(root, "user.new", b"1"),
    "change-the-owner-of-the-root": _change_the_owner,
    "change-the-time-only": lambda root: os.utime(root / "etc/passwd", ns=(1, 1_000_000_007)),
    "set-an-attribute": lambda root: os.setxattr(root / "top", "user.new", b"1"),
    "set-an-attribute-without-value": lambda root: os.setxattr(root / "top", "user.new", b""),
    "empty-an-attribute": lambda root: os.setxattr(root / "top", "user.k", b""),
    "set-an-attribute-with-an-odd-name": lambda root: os.setxattr(root / "usr", "user.a=%3D", b"1"),
    "remove-an-attribute": lambda root: os.removexattr(root / "top", "user.k"),
    "delete-a-file": lambda root: (root / "etc/hosts").unlink(),
    "delete-an-empty-directory": lambda root: (root / "empty").rmdir(),
    "delete-a-tree": lambda root: shutil.rmtree(root / "usr"),
    "delete-everything": _delete_everything,
    "delete-and-write-again": _delete_and_write_again,
    "rename-a-file": lambda root: (root / "etc/hosts").rename(root / "etc/moved"),
    "rename-over-a-file": lambda root: (root / "usr/lib/one").rename(root / "usr/lib/two"),
    "rename-a-directory": _rename_directory,
    "delete-a-directory-and-make-it-again": _remake_directory,
    "file-to-directory": _file_to_directory,
    "directory-to-file": _directory_to_file,
    "directory-to-symbolic-link": _directory_to_link,
    "symbolic-link-to-directory": _link_to_directory,
    "retarget-a-symbolic-link": _retarget,
    "much-at-once": _many,
    "nothing": lambda _: None,
    "a-file-that-came-and-went": _touch_and_remove,
}

_NO_CHANGE: Final = ("nothing", "a-file-that-came-and-went")

#: Layers whose parent is `_BASE`: the entries, the files of the base that they delete, and the files that they add.
_DELETIONS: Final[dict[str, tuple[list[Item], set[bytes], set[bytes]]]] = {
    "a-file": ([whiteout(b"etc/hosts")], {b"etc/hosts"}, set()),
    "a-tree": (
        [whiteout(b"usr/lib")],
        {b"usr/lib", b"usr/lib/one", b"usr/lib/two", b"usr/lib/deep", b"usr/lib/deep/down"},
        set(),
    ),
    "at-the-top": ([whiteout(b"top"), whiteout(b"lib")], {b"top", b"lib"}, set()),
    "missing-files": ([whiteout(b"etc/never-was"), directory(b"new"), whiteout(b"new/x")], set(), {b"new"}),
    "and-add-again": ([whiteout(b"etc/hosts"), file(b"etc/hosts", b"new")], set(), set()),
    "opaque-directory": (
        [directory(b"usr/lib"), opaque(b"usr/lib"), file(b"usr/lib/new", b"n")],
        {b"usr/lib/one", b"usr/lib/two", b"usr/lib/deep", b"usr/lib/deep/down"},
        {b"usr/lib/new"},
    ),
    "opaque-after-its-files": (
        [directory(b"usr/lib"), file(b"usr/lib/new", b"n"), opaque(b"usr/lib")],
        {b"usr/lib/one", b"usr/lib/two", b"usr/lib/deep", b"usr/lib/deep/down"},
        {b"usr/lib/new"},
    ),
    "opaque-with-a-file-of-the-parent": (
        [directory(b"usr/lib"), opaque(b"usr/lib"), file(b"usr/lib/two", b"again")],
        {b"usr/lib/one", b"usr/lib/deep", b"usr/lib/deep/down"},
        set(),
    ),
    "file-over-directory": (
        [file(b"usr", b"now a file")],
        {b"usr/lib", b"usr/lib/one", b"usr/lib/two", b"usr/lib/deep", b"usr/lib/deep/down"},
        set(),
    ),
    "directory-over-file": ([directory(b"top"), file(b"top/in", b"x")], set(), {b"top/in"}),
    "directory-over-symbolic-link": ([directory(b"lib"), file(b"lib/in", b"x")], set(), {b"lib/in"}),
    "symbolic-link-over-directory": (
        [symlink(b"usr/lib/deep", b"../../etc")],
        {b"usr/lib/deep/down"},
        set(),
    ),
    "hard-link-over-file": (
        [file(b"etc/one", b"1"), hard_link(b"etc/hosts", b"etc/one")],
        set(),
        {b"etc/one"},
    ),
}


class DiffTests(ConformanceTests):
    """Tests of `changes`, of `diff`, and of `apply_diff` of a layer that changes its parent's files."""

    group: ClassVar = "diffs"

    @pytest.mark.parametrize("edit", _EDITS)
    def test_changes_of_a_writable_layer(self, bench: DriverRig, edit: str) -> None:
        """`changes` names every path that was added, changed or deleted, sorted, and no other.

        Otherwise a commit misses a change, and this shows only when the image runs.
        """
        base, layer = _edited(bench, _EDITS[edit])
        wanted = expected_changes(bench.tree(layer), bench.tree(base))
        found = bench.driver.changes(layer, base)
        # Core's rule: a root whose time alone differs is no change.
        found = [change for change in found if change.path != b"/" or change in wanted]
        assert [str(one) for one in found] == [str(one) for one in wanted]
        assert all(isinstance(one, Change) for one in found)

    @pytest.mark.parametrize("edit", _EDITS)
    def test_a_diff_makes_the_same_tree(self, bench: DriverRig, edit: str) -> None:
        """The tar of a layer's changes, applied to another child of its parent, makes the same tree.

        Otherwise a committed container is not what it was.
        """
        base, layer = _edited(bench, _EDITS[edit])
        wanted = bench.tree(base if edit in _NO_CHANGE else layer)
        copy = bench.layer(bench.diff(layer, base), base)
        must_be(bench.tree(copy), wanted, "the layer's diff on its sibling", root=_root_counts(edit))

    def test_a_socket_in_the_place_of_a_file(self, bench: DriverRig) -> None:
        """A diff leaves out a socket, which no tar can hold, and deletes the file that the socket has replaced.

        Otherwise files that a container has deleted come back.
        """
        base, layer = _edited(bench, _put_sockets)
        shown = bench.tree(layer)
        copy = bench.tree(bench.layer(bench.diff(layer, base), base))
        sockets = {path for path, node in shown.items() if node.kind == "socket"}
        assert sockets == {b"top", b"usr/lib", b"lib", b"etc/new"}
        assert names_of(copy) == names_of(shown) - sockets
        assert [str(one) for one in bench.driver.changes(layer, base)] == [
            str(one) for one in expected_changes(shown, bench.tree(base))
        ]

    @pytest.mark.parametrize("edit", _NO_CHANGE)
    def test_no_change_is_an_empty_tar(self, bench: DriverRig, edit: str) -> None:
        """Without a change `changes` is empty, and `diff` is a tar without an entry.

        Otherwise each commit of an idle container creates a new layer.
        """
        base, layer = _edited(bench, _EDITS[edit])
        assert bench.driver.changes(layer, base) == []
        with tarfile.open(fileobj=io.BytesIO(bench.diff(layer, base))) as tar:
            assert tar.getnames() == []

    def test_a_diff_without_a_parent_is_the_whole_tree(self, bench: DriverRig) -> None:
        """`diff` without a parent has all that the layer shows, whatever its ancestors are.

        Otherwise a squashed image lacks files.
        """
        _, layer = _edited(bench, _many)
        wanted = bench.tree(layer)
        must_be(bench.tree(bench.layer(bench.diff(layer, ""))), wanted, "the whole tree's tar, applied", root=False)
        kinds = {change.kind for change in bench.driver.changes(layer, "")}
        assert kinds == {ChangeKind.ADD}, f"without a parent all files are added, but changes has {kinds}"

    def test_a_diff_without_a_parent_has_the_root(self, bench: DriverRig) -> None:
        """If the metadata of `/` are not those of a new base layer, `diff` without a parent has an entry for `/`.

        Otherwise a squashed image has lost them.
        """
        base, layer = _edited(bench, lambda root: root.chmod(0o1777))
        for parent in base, "":
            copy = bench.tree(bench.layer(bench.diff(layer, parent), parent))
            assert copy[b""].mode == 0o1777
        box = bench.writable("")
        with bench.driver.mounted(box) as path:
            os.chmod(path, 0o700)
        assert bench.tree(bench.layer(bench.diff(box, "")))[b""].mode == 0o700

    def test_a_diff_against_a_grandparent(self, bench: DriverRig) -> None:
        """`diff` and `changes` against a layer that is not the direct parent have the changes of all layers between.

        Otherwise a squashed or exported image lacks whole layers.
        """
        base = bench.layer(_BASE)
        middle = bench.layer([file(b"etc/middle", b"m"), whiteout(b"usr/lib/one")], base)
        top = bench.layer([file(b"etc/top", b"t"), whiteout(b"top"), file(b"etc/middle", b"changed")], middle)
        wanted = bench.tree(top)
        must_be(
            bench.tree(bench.layer(bench.diff(top, base), base)), wanted, "the diff against the grandparent", root=False
        )
        assert [str(one) for one in bench.driver.changes(top, base)] == [
            str(one) for one in expected_changes(wanted, bench.tree(base))
        ]

    def test_a_diff_against_a_sibling(self, bench: DriverRig) -> None:
        """`diff` against any other layer of the driver changes that layer's tree into this one.

        Otherwise two images cannot be compared.
        """
        base = bench.layer(_BASE)
        one = bench.layer([file(b"only-in-one", b"1"), file(b"etc/hosts", b"1")], base)
        two = bench.layer([file(b"only-in-two", b"2"), whiteout(b"top")], base)
        must_be(
            bench.tree(bench.layer(bench.diff(two, one), one)),
            bench.tree(two),
            "the diff against a sibling",
            root=False,
        )

    @pytest.mark.parametrize("case", _DELETIONS)
    def test_whiteouts_delete_files(self, bench: DriverRig, case: str) -> None:
        """`.wh.x` in a tar deletes x of the parents, `.wh..wh..opq` all that a directory shows of them.

        Otherwise deleted files, and the secrets in them, show again.
        """
        items, deleted, added = _DELETIONS[case]
        base = bench.layer(_BASE)
        names = names_of(bench.tree(base))
        layer = bench.layer(items, base)
        assert names_of(bench.tree(layer)) == (names - deleted) | added
        must_be(bench.tree(bench.writable(layer)), bench.tree(layer), "a child of a layer with deletions", root=False)

    @pytest.mark.parametrize("case", _DELETIONS)
    def test_a_diff_of_an_applied_layer(self, bench: DriverRig, case: str) -> None:
        """The diff of a layer that was made from a tar with deletions makes the same tree, too.

        Otherwise an image changes when it is saved and loaded.
        """
        items, _, _ = _DELETIONS[case]
        base = bench.layer(_BASE)
        layer = bench.layer(items, base)
        copy = bench.layer(bench.diff(layer, base), base)
        must_be(bench.tree(copy), bench.tree(layer), "the layer's diff on its sibling", root=False)

    def test_whiteouts_do_not_show(self, bench: DriverRig) -> None:
        """The marks of deletions in a tar, `.wh.…`, are no files in the mounted tree.

        Otherwise programs in a container see files that no image has.
        """
        base = bench.layer(_BASE)
        layer = bench.layer([whiteout(b"top"), opaque(b"usr"), directory(b"d"), whiteout(b"d/x")], base)
        shown = {path for path in bench.tree(bench.writable(layer)) if b".wh." in path}
        assert not shown, f"whiteouts show as files: {shown}"

    @pytest.mark.parametrize("where", ["writable", "applied"])
    def test_a_deletion_is_a_whiteout_in_the_diff(self, bench: DriverRig, where: str) -> None:
        """A deletion is an entry `.wh.<name>` in the diff, which every engine understands.

        Otherwise deleted files come back with the next engine that extracts the image.
        """
        if where == "writable":
            base, layer = _edited(bench, lambda root: (root / "etc/hosts").unlink())
        else:
            base = bench.layer(_BASE)
            layer = bench.layer([whiteout(b"etc/hosts")], base)
        with tarfile.open(fileobj=io.BytesIO(bench.diff(layer, base))) as tar:
            names = [name.removeprefix("./").lstrip("/") for name in tar.getnames()]
        assert "etc/.wh.hosts" in names, f"the tar has no etc/.wh.hosts, but {names}"
        assert "etc/hosts" not in names

    def test_a_diff_may_be_closed_early(self, bench: DriverRig) -> None:
        """A diff that is closed before its end, or never read, leaves no mount and no open file.

        Otherwise each interrupted export leaves a mount.
        """
        base, layer = _edited(bench, lambda root: (root / "large").write_bytes(os.urandom(1 << 20)))
        for length in (0, 1, 700):
            with bench.driver.diff(layer, base) as stream:
                stream.read(length)
            assert not bench.mounts(), f"a diff closed after {length} bytes leaves mounted: {bench.mounts()}"
            assert not bench.open_files(), f"a diff closed after {length} bytes leaves open: {bench.open_files()}"

    def test_closing_twice(self, bench: DriverRig) -> None:
        """A second `close` of a diff, of a `diff_getter` and of the driver does nothing, also to other users.

        Otherwise it closes a file of another thread, whose descriptor has the same number by then, or unmounts a layer
        that another user still reads.
        """
        base, layer = _edited(bench, _many)
        path = bench.driver.get(layer)
        names = sorted(os.listdir(path))
        with bench.driver.diff_getter(base).open(b"etc/hosts") as stream:
            assert stream.read(4)
        for opened in (bench.driver.diff(layer, base), bench.driver.diff_getter(base)):
            opened.close()
            # They get the numbers of what was closed.
            others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
            opened.close()
            closed = [fd for fd in others if not os.path.exists(f"/proc/self/fd/{fd}")]
            for fd in set(others) - set(closed):
                os.close(fd)
            assert not closed, f"a second close of a {type(opened).__name__} has closed a file of somebody else"
        assert sorted(os.listdir(path)) == names, "a second close has unmounted a layer that is still in use"
        bench.driver.close()
        bench.driver.close()
        assert not bench.mounts(), f"after close there is still mounted: {bench.mounts()}"
        bench.reopen()  # for the removal of the layers at the end

    def test_a_diff_read_in_pieces(self, bench: DriverRig) -> None:
        """The stream of `diff` has the same bytes whether it is read in small pieces or at once.

        Otherwise some tools get a damaged tar from an undamaged layer.
        """
        base, layer = _edited(bench, _many)
        with bench.driver.diff(layer, base) as stream:
            at_once = stream.read()
        with bench.driver.diff(layer, base) as stream:
            pieces = b"".join(iter(lambda: stream.read(13), b""))
        assert at_once == pieces == bench.diff(layer, base)

    def test_a_diff_of_a_mounted_layer(self, bench: DriverRig) -> None:
        """`changes` and `diff` of a layer in use include all that is written by then.

        Otherwise a running container cannot be committed.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        path = Path(bench.driver.get(layer))
        (path / "written").write_text("x")
        (path / "etc/hosts").unlink()
        assert [str(one) for one in bench.driver.changes(layer, base)] == ["C /etc", "D /etc/hosts", "A /written"]
        copy = bench.layer(bench.diff(layer, base), base)
        must_be(bench.tree(copy), read_tree(str(path)), "the diff of a layer in use", root=False)
        bench.driver.put(layer)

    def test_files_of_a_layer_by_name(self, bench: DriverRig) -> None:
        """`diff_getter` opens the files of `apply_diff` by their names in the tar, and no others.

        Otherwise the tar that was registered cannot be assembled again.
        """
        items = [
            directory(b"d"),
            file(b"d/file", b"content" * 1000),
            file(b"caf\xe9", b"latin-1"),
            hard_link(b"twin", b"d/file"),
            symlink(b"link", b"d/file"),
        ]
        layer = bench.layer(items, bench.layer(_BASE))
        files = bench.driver.diff_getter(layer)
        try:
            for name, content in (
                (b"d/file", b"content" * 1000),
                (b"caf\xe9", b"latin-1"),
                (b"twin", b"content" * 1000),
            ):
                assert read_all(files.open(name)) == content
            for name in (b"d", b"never-was", b"../d/file/x"):
                with pytest.raises(OSError):  # noqa: PT011 - the driver may raise any kind of OSError
                    files.open(name)
        finally:
            files.close()
            files.close()
        assert not bench.mounts(), f"a closed diff_getter leaves mounted: {bench.mounts()}"
        assert not bench.open_files(), f"a closed diff_getter leaves open: {bench.open_files()}"


def _edited(bench: DriverRig, edit: Callable[[Path], object]) -> tuple[str, str]:
    base = bench.layer(_BASE)
    layer = bench.writable(base)
    with bench.driver.mounted(layer) as path:
        edit(Path(path))
    return base, layer


def _root_counts(edit: str) -> bool:
    """Return whether the root's own metadata are in the diff. The root's time alone is no change."""
    return edit.endswith("-of-the-root")
