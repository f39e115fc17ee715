"""What a commit keeps: each kind of change in a writable layer, seen again on a mount of the committed layer, on every driver."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from layerstore_core.archive.xattrs import read_xattrs
from tests.store.layers import export, register, tar_of

_ODD = {b"user.empty": b"", b"user.=": b"1", b"user.%3D": b"2", b"user.%25=%": b"\0\n="}


def commit(store, rw):
    with rw.tar_stream() as stream:
        return store.register(stream, rw.parent.chain_id if rw.parent else "")


def test_attributes_without_value_and_with_odd_names(store, open_store, tmp_path):
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


def test_what_a_socket_has_replaced_does_not_come_back(store, said):
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
