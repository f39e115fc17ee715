"""Giving a layer's tar out again: from the driver alone or put together, and verified while it is read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from layerstore_core.archive.iterstream import IterStream
from layerstore_core.digests import DiffID
from layerstore_core.errors import IntegrityError
from layerstore_core.metadata import LayerDB
from layerstore_core.tarsplit.assemble import assemble
from layerstore_core.tarsplit.codec import LineReader, decode_lines

if TYPE_CHECKING:
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.references import LayerNode


def tar_stream(db: LayerDB, driver: BoundDriver, node: LayerNode) -> BinaryIO:
    """Open a layer's tar.

    Raises:
        IntegrityError: its tar-split file is missing.
    """
    record = node.record
    if driver.capabilities.reproduces_exact_diffs:
        parent_id = node.parent.record.cache_id if node.parent else ""
        raw = driver.diff(record.cache_id, parent_id)
        return VerifiedStream(_chunks(raw), record.diff_id, raw.close).buffered()
    try:
        lines = LineReader(db.open_tar_split(record.chain_id))
    except FileNotFoundError as error:
        raise IntegrityError(
            f"layer {record.chain_id} has no tar-split file ({error.filename}): its tar cannot be put together; "
            "register it again from its source"
        ) from error
    try:
        files = driver.diff_getter(record.cache_id)
    except BaseException:
        lines.close()
        raise

    def close() -> None:
        try:
            files.close()
        finally:
            lines.close()

    return VerifiedStream(assemble(decode_lines(lines), files), record.diff_id, close).buffered()
