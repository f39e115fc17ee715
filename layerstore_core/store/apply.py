"""Opening a layer's tar within the limits of a store, and unpacking it into a layer of the driver."""

from __future__ import annotations

import os
from typing import BinaryIO

from layerstore_core.store.context import StoreContext
from layerstore_core.streams.source import LayerSource
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner


def open_source(context: StoreContext, stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool) -> LayerSource:
    """Open a layer's tar, compressed or not.

    Args:
        context: an open store, which has the limits and the directory for temporary files.
        stream: the tar, as a path or a binary file object.
        allow_empty: take a stream without a byte for an empty layer.

    Raises:
        InvalidLayer: it is empty, or in a compression that is not known.
    """
    return LayerSource(stream, spool_dir=context.scratch_directory(), limits=context.limits, allow_empty=allow_empty)


def apply_to(
    context: StoreContext, ids: tuple[str, str], stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool = False
) -> int:
    """Unpack a tar into a layer of the driver, and keep nothing of the tar itself.

    Args:
        context: an open store.
        ids: the driver's IDs of the layer and of its parent, `""` for none.
        stream: as for `open_source`; as is `allow_empty`.

    Returns:
        The size of what the tar brought, in bytes.
    """
    with open_source(context, stream, allow_empty=allow_empty) as source:
        diff = LayerStream(TarScanner(source.read_chunk), count_implied=source.count_implied)
        size = context.driver.apply_diff(*ids, diff)
        diff.drain()
        return size
