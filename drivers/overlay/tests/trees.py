"""Listing trees, and strategies for random layers and random edits."""

from __future__ import annotations

import os
import stat
import tarfile

from hypothesis import strategies as st

from .conftest import MTIME, entry

#: Modification times after this were set by the kernel, and differ from run to run.
RECENT = MTIME + 10_000_000


def listing(root):
    """Return all files of a tree by path: type, mode, owner, device, time, content or link target, attributes."""
    found = {}
    root = os.fsencode(root)
    for directory, directories, files in os.walk(root):
        for name in [*directories, *files, b"."]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content = os.readlink(path) if kind == stat.S_IFLNK else b""
            if kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    content = file.read()
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
                if "overlay" not in key
            }
            found[os.path.normpath(os.path.relpath(path, root))] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_rdev,
                status.st_mtime_ns if status.st_mtime < RECENT else "recent",
                content,
                attributes,
            )
    return found


NAMES = ("a", "b", "c")
_paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


def _entries():
    def place(path, kind, seed):
        directory, _, base = path.rpartition("/")
        prefix = directory + "/" if directory else ""
        mtime, mode = MTIME + seed, 0o600 + seed
        if kind == "dir":
            return entry(path + "/", mode=0o700 + seed, mtime=mtime, uid=seed)
        if kind == "whiteout":
            return entry(f"{prefix}.wh.{base}")
        if kind == "opaque":
            return entry(f"{path}/.wh..wh..opq")
        if kind == "link":
            return entry(
                path, kind=tarfile.LNKTYPE, link=NAMES[seed % 3] + "/" + NAMES[seed % 2], mtime=mtime, mode=mode
            )
        if kind == "symlink":
            # A link to itself leads to no directory. With one that does, the two ways to unpack differ.
            return entry(path, kind=tarfile.SYMTYPE, link=base, mtime=mtime)
        return entry(path, str(seed), mtime=mtime, mode=mode, xattrs={"trusted.seed": str(seed)} if seed % 2 else None)

    kinds = ("file", "file", "dir", "dir", "whiteout", "whiteout", "opaque", "link", "symlink")
    return st.builds(place, _paths, st.sampled_from(kinds), st.integers(0, 7))


#: A chain of layers, each a list of entries for `layer`.
chains = st.lists(st.lists(_entries(), max_size=7), min_size=2, max_size=4)

_edits = st.tuples(
    st.sampled_from(
        (
            "write",
            "write",
            "mkdir",
            "remove",
            "remove",
            "rename",
            "link",
            "chmod",
            "touch",
            "symlink",
            "replace",
            "xattr",
        )
    ),
    _paths,
    _paths,
    st.integers(0, 3),
)
#: Edits for `edit`.
edits = st.lists(_edits, max_size=12)


def edit(root, steps):
    """Do those of the steps that are possible in a tree."""
    from layerstore_core import remove_tree
    from layerstore_core.errors import BadRecord

    for what, first, second, seed in steps:
        one, two = os.path.join(root, first), os.path.join(root, second)
        try:
            if what == "write":
                with open(one, "w") as file:
                    file.write(str(seed))
                os.utime(one, (MTIME + seed, MTIME + seed))
            elif what == "mkdir":
                os.mkdir(one)
            elif what == "remove":
                remove_tree(one)
            elif what == "replace":
                remove_tree(one)
                os.mkdir(one)
            elif what == "rename":
                os.rename(one, two)
            elif what == "link":
                os.link(one, two, follow_symlinks=False)
            elif what == "chmod":
                os.chmod(one, 0o640 + seed)
            elif what == "touch":
                os.utime(one, (MTIME + seed, MTIME + seed))
            elif what == "symlink":
                os.symlink("nowhere", one)
            elif what == "xattr":
                os.setxattr(one, "trusted.edit", str(seed).encode())
        except (BadRecord, OSError):
            pass
