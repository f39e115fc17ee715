"""A driver that keeps files of the same content and metadata once, in a pool, and has hard links to them in layers."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

from layerstore_core import hookimpl, remove_tree
from tests.conformance.mutants.base import Correct, Mutant


class Pooling(Mutant):
    """The base of mutants with a pool. Only read-only layers have files of it, and a layer has each of them once."""

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        super().create_read_write(layer_id, parent_id, mount_label, storage_opt)
        self.writable = {*getattr(self, "writable", ()), layer_id}

    def pool(self, layer_id, inherited: set[Path]) -> None:
        """Replace the files of a layer, but not of its parent, by links to those of the pool, or put them there."""
        pool = self.home / ".pool"
        pool.mkdir(exist_ok=True)
        used = set()
        for path in [] if layer_id in getattr(self, "writable", ()) else sorted(self.files(layer_id) - inherited):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                continue
            kept = pool / _key(path, status)
            if kept in used:
                continue
            used.add(kept)
            times = path.parent.stat()
            if kept.exists():
                path.unlink()
                os.link(kept, path)
            else:
                os.link(path, kept)
            os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))

    def files(self, layer_id) -> set[Path]:
        return set(self.tree(layer_id).rglob("*"))

    @hookimpl
    def remove(self, layer_id):
        remove_tree(str(self.tree(layer_id)))
        for kept in (self.home / ".pool").glob("*"):
            if kept.stat().st_nlink == 1:
                kept.unlink()

    @hookimpl
    def layer_ids(self):
        return [name for name in Correct.layer_ids(self) if not name.startswith(".")]


def _key(path: Path, status: os.stat_result) -> str:
    facts = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
    attributes = [(name, os.getxattr(path, name)) for name in sorted(os.listxattr(path))]
    return hashlib.sha256(repr((facts, attributes)).encode() + path.read_bytes()).hexdigest()


def without_links(tar: bytes) -> tuple[bytes, bytes]:
    """Return a tar without its hard-link entries, and these. An empty one, or with a name twice, stays whole."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar)) as entries:
            members = entries.getmembers()
    except tarfile.TarError:
        return tar, bytes(1024)
    if not members or len({entry.name for entry in members}) < len(members) or entries.pax_headers:
        return tar, bytes(1024)
    plain, links = b"", b""
    ends = [*(entry.offset for entry in members[1:]), len(tar)]
    for entry, end in zip(members, ends, strict=True):
        if entry.islnk():
            links += tar[entry.offset : end]
        else:
            plain += tar[entry.offset : end]
    return plain + bytes(1024), links + bytes(1024)
