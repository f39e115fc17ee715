"""Layers for the tests of the store, and functions that read what is on disk below its root."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from layerstore_core import Layer, LayerStore, chain_id
from layerstore_core.base.digests import DiffID
from tests import tars

MTIME = 1_700_000_000

#: The last parts of files that a driver or the store may change although no layer was changed.
_CHANGING = {"locks", "committed"}


def tar_of(files: Mapping[str, bytes | None]) -> bytes:
    """Return a tar of regular files, and of directories where the content is `None`."""
    parts = []
    for name, content in files.items():
        if content is None:
            parts.append(tars.directory(os.fsencode(name), mtime=MTIME))
        else:
            parts.append(tars.entry(os.fsencode(name), content, mtime=MTIME))
    return tars.tar(*parts)


BASE = tar_of({"etc": None, "etc/hosts": b"127.0.0.1 localhost\n", "bin": None, "bin/sh": b"\x7fELF" * 300})
MIDDLE = tar_of({"etc/hosts": b"::1 localhost\n", "opt": None, "opt/tool": b"tool" * 1000})
TOP = tar_of({"opt/.wh.tool": b"", "opt/other": b"other"})


def register(store: LayerStore, tar: bytes, parent: Layer | str = "") -> Layer:
    """Register a tar; the parent may be a chain ID or a handle."""
    return store.register(io.BytesIO(tar), parent if isinstance(parent, str) else parent.chain_id)


def chain(store: LayerStore, *tars_: bytes) -> list[Layer]:
    """Register tars, each with the layer before it as its parent."""
    layers: list[Layer] = []
    for tar in tars_:
        layers.append(register(store, tar, layers[-1] if layers else ""))
    return layers


def export(layer: Layer) -> bytes:
    """Return the whole tar of a layer."""
    with layer.tar_stream() as stream:
        return stream.read()


def names_of(*tars_: bytes) -> list[str]:
    """Return the chain IDs that tars have, each with the one before it as its parent."""
    found: list[str] = []
    parent = None
    for tar in tars_:
        parent = chain_id(DiffID.of(tar), parent)
        found.append(parent)
    return found


def tree(root: Path) -> dict[str, tuple[str, bytes]]:
    """Return all entries below a root, with modes and contents, except the files of `_CHANGING`, and times of use."""
    found = {}
    for where, directories, files in os.walk(root):
        if where == os.path.join(root, "layerstore"):
            directories[:] = [name for name in directories if name != "used"]
        for name in directories + files:
            path = os.path.join(where, name)
            status = os.lstat(path)
            content = b""
            if stat.S_ISREG(status.st_mode) and name not in _CHANGING:
                content = Path(path).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            if name not in _CHANGING:
                found[os.path.relpath(path, root)] = (stat.filemode(status.st_mode), content)
    return found


def warm(store: LayerStore) -> None:
    """Let the store create the directories that it creates when they are first needed."""
    first = register(store, tar_of({"warm": b""}))
    rw = store.create_rw_layer("warm", first.chain_id, init=lambda path: None)
    with rw.mounted():
        rw.changes()
    store.release_rw_layer(rw)
    store.pin(first)
    store.unpin(first.chain_id)
    store.release(first)


def layer_db(store: LayerStore) -> Path:
    """Return the directory of the records of layers."""
    return store.context.db.path


def record_path(layer: Layer) -> Path:
    """Return the directory of a layer's record."""
    return layer._context.db.layer_path(layer.chain_id)
