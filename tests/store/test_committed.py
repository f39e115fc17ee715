"""What a commit keeps: changes in a writable layer are there on a mount of the committed layer, with every driver."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from layerstore_core.tree.xattrs import read_xattrs
from tests import tars
from tests.store.layers import export, register, tar_of

_ODD = {b"user.empty": b"", b"user.=": b"1", b"user.%3D": b"2", b"user.%25=%": b"\0\n="}


def commit(store, rw):
    """Register the changes of a writable layer as a layer on its parent."""
    with rw.tar_stream() as stream:
        return store.register(stream, rw.parent.chain_id if rw.parent else "")


def test_attributes_with_empty_values_and_odd_names_are_kept(store, open_store, tmp_path):
    base = register(store, tar_of({"file": b"x", "dir": None, "there": b"y"}))
    rw = store.create_rw_layer("box", base.chain_id)
    with rw.mounted() as path:
        for name, value in _ODD.items():
            os.setxattr(f"{path}/file", name, value)
            os.setxattr(f"{path}/dir", name, value)
    committed = commit(store, rw)
    other = open_store(root=tmp_path / "other", driver="vfs")
    there = register(other, export(committed), register(other, export(base)))
    for owner, layer in (store, committed), (other, there):
        seen = owner.create_rw_layer("seen", layer.chain_id)
        with seen.mounted() as path:
            assert read_xattrs(os.fsencode(f"{path}/file")) == _ODD
            assert read_xattrs(os.fsencode(f"{path}/dir")) == _ODD
        assert seen.changes() == []


def test_files_that_a_socket_replaced_are_deleted_in_the_commit(store, said):
    base = register(store, tar_of({"run": None, "run/file": b"x", "run/dir": None, "run/dir/in": b"y", "kept": b"z"}))
    rw = store.create_rw_layer("box", base.chain_id)
    with rw.mounted() as path:
        shutil.rmtree(f"{path}/run/dir")
        Path(path, "run/file").unlink()
        for name in ("file", "dir", "new"):
            os.mknod(f"{path}/run/{name}", stat.S_IFSOCK | 0o755)
    assert [str(one) for one in rw.changes()] == ["C /run", "C /run/dir", "C /run/file", "A /run/new"]
    committed = commit(store, rw)
    assert [record["message"] for record in said if "sockets" in record["message"]]
    seen = store.create_rw_layer("seen", committed.chain_id)
    with seen.mounted() as path:
        assert sorted(os.listdir(path)) == ["kept", "run"]
        assert os.listdir(f"{path}/run") == []


def root_of(store, layer_or_rw, name="seen"):
    """Return mode, user, group and attributes of `/` on a mount.

    A layer is mounted with a new writable layer; the function checks that this has no changes.
    """
    rw = layer_or_rw
    if not hasattr(rw, "mounted"):
        rw = store.create_rw_layer(name, rw.chain_id if rw else "")
        assert rw.changes() == []
    with rw.mounted() as path:
        status = os.stat(path)
        return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, read_xattrs(os.fsencode(path))


@pytest.mark.needs_root
@pytest.mark.parametrize("init", [None, lambda path: None], ids=["no init layer", "init layer"])
def test_the_metadata_of_the_root_directory_is_kept(store, init):
    entry = tars.pax([(b"SCHILY.xattr.user.k", b"v")]) + tars.directory(b"./", mode=0o1777, uid=7, gid=8)
    base = register(store, tars.tar(entry, tars.entry(b"file", b"x")))
    child = register(store, tar_of({"other": b"y"}), base)
    wanted = 0o1777, 7, 8, {b"user.k": b"v"}
    assert root_of(store, base, "base") == root_of(store, child, "child") == wanted

    rw = store.create_rw_layer("box", child.chain_id, init=init)
    assert rw.changes() == []
    assert root_of(store, rw) == wanted
    with rw.tar_stream() as stream:
        assert names_in(stream.read()) == []
    with rw.mounted() as path:
        Path(path, "new").touch()
    with rw.tar_stream() as stream:
        assert names_in(stream.read()) == ["new"]
    with rw.mounted() as path:
        os.chmod(path, 0o700)
        os.chown(path, 9, 10)
        os.removexattr(path, "user.k")
        os.setxattr(path, "user.empty", b"")
    assert [str(one) for one in rw.changes()] == ["C /", "A /new"]
    changed = 0o700, 9, 10, {b"user.empty": b""}
    assert root_of(store, rw) == changed
    committed = commit(store, rw)
    assert root_of(store, committed, "committed") == changed
    assert root_of(store, register(store, tar_of({"last": b""}), committed), "last") == changed


def test_the_mode_of_the_root_directory_is_kept_without_a_parent(store):
    rw = store.create_rw_layer("box")
    assert rw.changes() == []
    with rw.mounted() as path:
        os.chmod(path, 0o711)
    assert [str(one) for one in rw.changes()] == ["A /"]
    assert root_of(store, commit(store, rw))[0] == 0o711


def names_in(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()
