"""Layers for the store's tests, and what a store looks like from outside."""

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

#: Files that a driver or the store may change though nothing has happened, by their last part.
_RESTLESS = {"locks", "committed"}


def tar_of(files: Mapping[str, bytes | None]) -> bytes:
    """A tar of regular files, and of directories where the content is `None`."""
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
    """Register a tar; the parent may be a handle."""
    return store.register(io.BytesIO(tar), parent if isinstance(parent, str) else parent.chain_id)


def chain(store: LayerStore, *tars_: bytes) -> list[Layer]:
    """Register tars, each on the one before."""
    layers: list[Layer] = []
    for tar in tars_:
        layers.append(register(store, tar, layers[-1] if layers else ""))
    return layers


def export(layer: Layer) -> bytes:
    with layer.tar_stream() as stream:
        return stream.read()


def names_of(*tars_: bytes) -> list[str]:
    """The chain IDs that tars have, each on the one before."""
    found: list[str] = []
    parent = None
    for tar in tars_:
        parent = chain_id(DiffID.of(tar), parent)
        found.append(parent)
    return found


def tree(root: Path) -> dict[str, tuple[str, bytes]]:
    """All that is under a root, with modes and contents, but for what may change by itself."""
    found = {}
    for where, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(where, name)
            status = os.lstat(path)
            content = b""
            if stat.S_ISREG(status.st_mode) and name not in _RESTLESS:
                content = Path(path).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            if name not in _RESTLESS:
                found[os.path.relpath(path, root)] = (stat.filemode(status.st_mode), content)
    return found


def warm(store: LayerStore) -> None:
    """Let the store make the directories that it makes when they are first needed."""
    first = register(store, tar_of({"warm": b""}))
    rw = store.create_rw_layer("warm", first.chain_id, init=lambda path: None)
    with rw.mounted():
        rw.changes()
    store.release_rw_layer(rw)
    store.pin(first)
    store.unpin(first.chain_id)
    store.release(first)


def layer_db(store: LayerStore) -> Path:
    return store.context.db.path


def record_path(layer: Layer) -> Path:
    """Where a layer's record is on disk."""
    return layer._context.db.layer_path(layer.chain_id)
