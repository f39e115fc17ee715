"""Comparing the content of a regular file with the payload in a layer's tar, or with the parent's file."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from layerstore_core.base import inside
from layerstore_core.tarsplit.sources import source_of
from layerstore_core.tree.equal import same_content
from layerstore_core.tree.extents import may_have_holes, next_data
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.verify.expected import ExpectedFile, SourceChanged

_CHUNK: Final = 1 << 18


def has_payload(tree: TreeWalk, name: bytes, status: os.stat_result, expected: ExpectedFile) -> bool:
    """Return whether a file in the walk's directory has the content that the layer's tar has for it.

    Args:
        tree: a walk that is in the file's directory.
        name: the file's name in that directory.
        status: the file's status.
        expected: the size, the digest and the data regions from the tar.

    Raises:
        SourceChanged: only the source of the payload is known, and this is another file.
        OSError: the file cannot be read.
    """
    if status.st_size != expected.size:
        return False
    if expected.source is not None:
        if expected.source == source_of(status):
            return True  # the tar was assembled from this very file
        raise SourceChanged(f"{tree.absolute(name)} is not the file that the layer's tar was assembled from")
    fd = tree.open_file(name)
    try:
        return _digest(fd, expected) == expected.digest
    finally:
        os.close(fd)


def is_copy(tree: TreeWalk, name: bytes, status: os.stat_result, original: bytes) -> bool:
    """Return whether a file in the walk's directory has the content of the file at the path `original`.

    Raises:
        OSError: one of the files cannot be read.
    """
    first = tree.open_file(name)
    try:
        with inside.open_file(original) as second:
            size = os.fstat(second).st_size
            return size == status.st_size and same_content(first, second, size, may_have_holes(status))
    finally:
        os.close(first)


def same_in_both(
    upper: TreeWalk, lower: TreeWalk, name: bytes, status: os.stat_result, parent_status: os.stat_result
) -> bool:
    """Return whether two walks have a file of the same content at `name` in their directories.

    Args:
        upper: a walk of the layer's tree.
        lower: a walk of the parent's tree, in the same directory.
        name: the name in both directories.
        status: the status of the layer's file.
        parent_status: the status of the parent's file.

    Raises:
        OSError: one of the files cannot be read.
    """
    if status.st_size != parent_status.st_size:
        return False
    first = upper.open_file(name)
    try:
        second = lower.open_file(name)
        try:
            sparse = may_have_holes(status) or may_have_holes(parent_status)
            return same_content(first, second, status.st_size, sparse)
        finally:
            os.close(second)
    finally:
        os.close(first)


def _digest(fd: int, expected: ExpectedFile) -> bytes:
    """Return the sha256 of an open file's content in the form in which a tar stores it.

    Of a sparse file, a tar stores the data regions only. The result is empty if the file has data outside of them.
    """
    sha256 = hashlib.sha256()
    if expected.sparse is None:
        while chunk := os.read(fd, _CHUNK):
            sha256.update(chunk)
        return sha256.digest()
    end = 0
    for offset, length in [*expected.sparse, (expected.size, 0)]:
        if not _is_empty(fd, end, offset):
            return b""
        end = offset + length
        while offset < end:
            chunk = os.pread(fd, min(_CHUNK, end - offset), offset)
            if not chunk:
                return b""
            sha256.update(chunk)
            offset += len(chunk)
    return sha256.digest()


def _is_empty(fd: int, offset: int, end: int) -> bool:
    """Return whether a file has only zeros from `offset` to `end`."""
    while (offset := next_data(fd, offset, end) if offset < end else end) < end:
        chunk = os.pread(fd, min(_CHUNK, end - offset), offset)
        if not chunk or chunk.strip(b"\0"):
            return False
        offset += len(chunk)
    return True
