"""Export a layer's tar: from the driver alone or assembled from tar-split, and verified while it is read."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from layerstore_core.base.digests import ChainID
from layerstore_core.base.kernels import engine
from layerstore_core.base.threads import Lane
from layerstore_core.errors import IntegrityError
from layerstore_core.log import logger
from layerstore_core.streams.hasher import QUEUE, Hasher
from layerstore_core.streams.iterstream import IterStream
from layerstore_core.tarsplit.assemble import FileGetter, assemble
from layerstore_core.tarsplit.assemble_blocks import BLOCKS_KEPT, assemble_blocks
from layerstore_core.tarsplit.codec import FileEntry, LineReader, Segment, decode_blocks, decode_entries, size_of
from layerstore_core.tree.files import TreeFiles

if TYPE_CHECKING:
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.driver.hookspecs import FileGetter as OpenFiles
    from layerstore_core.store.context import StoreContext
    from layerstore_core.store.nodes import LayerNode
    from layerstore_core.tarsplit.sources import Sources

_CHUNK: Final = 1 << 20

# The memory of a chunk may only be used again when the queue is done with it.
assert BLOCKS_KEPT > QUEUE


def tar_stream(context: StoreContext, node: LayerNode, sources: Sources | None = None) -> BinaryIO:
    """Open a layer's tar.

    Args:
        context: an open store.
        node: the layer.
        sources: gets the files that contents came from, as far as that is known, before they are read.

    Raises:
        IntegrityError: its tar-split file is missing.
    """
    with ExitStack() as opened:
        chunks = _verified(_node_chunks(context, node, opened, sources), node)
        # Buffered, because readers of tars rely on getting as many bytes as they ask for.
        return cast("BinaryIO", io.BufferedReader(IterStream(chunks, opened.pop_all().close), _CHUNK))


def copy_tar(
    context: StoreContext,
    node: LayerNode,
    write: Callable[[bytes | memoryview], object],
    *,
    in_thread: bool = False,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Pass what `tar_stream` gives to `write`, without the copies that reading it makes; see `Layer.copy_tar`."""
    size = 0
    began = time.monotonic()
    with ExitStack() as opened:
        chunks = _verified(_node_chunks(context, node, opened), node)
        opened.callback(chunks.close)
        writer = opened.enter_context(Lane("layerstore-write", depth=QUEUE, waits=True)) if in_thread else None
        for chunk in chunks:
            if writer is None:
                write(chunk)
            else:
                writer.put(partial(write, chunk))
            size += len(chunk)
            if progress is not None:
                progress(size)
        if writer is not None:
            writer.drain()
    logger.info("exported layer {}: {} bytes in {:.3f} s", node.record.chain_id, size, time.monotonic() - began)
    return size


def _node_chunks(
    context: StoreContext, node: LayerNode, opened: ExitStack, sources: Sources | None = None
) -> Iterable[bytes | memoryview]:
    record = node.record
    if context.driver.capabilities.reproduces_exact_diffs:
        return _joined(
            _own_diff(context.driver, record.cache_id, node.parent.record.cache_id if node.parent else "", opened)
        )
    lines, files = _lines_and_files(context, record.chain_id, record.cache_id, opened)
    # Of other getters we do not know that they only open files below one directory.
    if engine().kernels is not None and type(files) is TreeFiles:
        return assemble_blocks(decode_blocks(lines.blocks()), files, sources)
    return _joined(assemble(decode_entries(lines.blocks()), files))


def tar_chunks(
    context: StoreContext, chain: ChainID, cache_id: str, parent_cache_id: str, *, opened: ExitStack
) -> Iterable[bytes]:
    """Yield a layer's tar, from the record of `chain` and the driver's `cache_id`, without verifying it.

    Args:
        context: an open store.
        chain: the layer whose record is read.
        cache_id: the driver's layer whose files are read.
        parent_cache_id: the driver's ID of its parent, `""` for none.
        opened: closes what this opens.

    Raises:
        IntegrityError: there is no tar-split file, or the driver has no such layer.
    """
    if context.driver.capabilities.reproduces_exact_diffs:
        return _own_diff(context.driver, cache_id, parent_cache_id, opened)
    lines, files = _lines_and_files(context, chain, cache_id, opened)
    return assemble(decode_entries(lines.blocks()), files)


def _own_diff(driver: BoundDriver, cache_id: str, parent_cache_id: str, opened: ExitStack) -> Iterator[bytes]:
    raw = driver.diff(cache_id, parent_cache_id)
    opened.callback(raw.close)
    return iter(lambda: raw.read(_CHUNK), b"")


def open_lines(context: StoreContext, chain: ChainID) -> LineReader:
    """Open a layer's tar-split lines.

    Raises:
        IntegrityError: it has none.
    """
    try:
        return LineReader(context.db.open_tar_split(chain))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise IntegrityError(
            f"layer {chain} has no tar-split file ({error.filename}): its tar cannot be assembled; "
            "register it again from its source"
        ) from error


def _lines_and_files(
    context: StoreContext, chain: ChainID, cache_id: str, opened: ExitStack
) -> tuple[LineReader, FileGetter]:
    lines = opened.enter_context(open_lines(context, chain))
    files = open_files(context, chain, cache_id)
    opened.callback(files.close)
    return lines, files


def open_files(context: StoreContext, chain: ChainID, cache_id: str) -> OpenFiles:
    """Open the files that the driver keeps for a layer.

    Raises:
        IntegrityError: the driver has no such layer.
    """
    try:
        return context.driver.diff_getter(cache_id)
    except FileNotFoundError as error:
        raise IntegrityError(
            f"the files of layer {chain} are missing: the driver {context.driver.name} has no layer "
            f"{cache_id} ({error}); register the layer again from its source"
        ) from error


def diff_of(context: StoreContext, ids: tuple[str, str], tars_of: LayerNode | None) -> BinaryIO:
    """Open the driver's diff of a layer, with the metadata that the disk could not keep without root's rights.

    Args:
        context: an open store.
        ids: the driver's ID of the layer, and of the layer that it is compared with, `""` for none.
        tars_of: the layer whose chain of tars says what the files should be like: the layer itself, or its parent.

    Raises:
        IntegrityError: a layer's tar-split file is missing or damaged.
    """
    driver = context.driver
    if context.config.commit_owner == "disk":
        return driver.diff(*ids)
    from layerstore_core.diff.change import ChangeKind
    from layerstore_core.unpack.restore_metadata import RecordedMetadata, Rights, entries_of, restore_metadata

    rights = Rights(context.config.id_mapping)
    if rights.complete:
        return driver.diff(*ids)
    recorded = RecordedMetadata()
    for node in reversed(list(tars_of.chain()) if tars_of else []):
        with ExitStack() as opened:
            if driver.capabilities.reproduces_exact_diffs:
                parent = node.parent.record.cache_id if node.parent else ""
                recorded.add_layer(entries_of(_own_diff(driver, node.record.cache_id, parent, opened)))
            else:
                contents: deque[tuple[int, int]] = deque()
                lines = opened.enter_context(open_lines(context, node.record.chain_id))
                tar = _with_zeros(decode_entries(lines.blocks()), contents)
                recorded.add_layer(entries_of(tar, _taken(contents)))
    if recorded:
        paths: dict[ChangeKind, list[bytes]] = {kind: [] for kind in ChangeKind}
        for change in driver.changes(*ids):
            paths[change.kind].append(change.path.strip(b"/"))
        recorded.add_changes(paths[ChangeKind.ADD], paths[ChangeKind.DELETE], ordinary=rights.ordinary)
    with ExitStack() as opened:
        chunks = restore_metadata(_own_diff(driver, *ids, opened), recorded, rights, context.scratch_directory)
        return cast("BinaryIO", io.BufferedReader(IterStream(chunks, opened.pop_all().close), _CHUNK))


def _with_zeros(entries: Iterable[Segment | FileEntry], contents: deque[tuple[int, int]]) -> Iterator[bytes]:
    """Yield a layer's tar of which only the headers are right: no files are read, and zeros replace their contents.

    Args:
        entries: its tar-split entries.
        contents: gets the size and the CRC-64 of each content before it is yielded.
    """
    zeros = bytes(_CHUNK)
    for entry in entries:
        if isinstance(entry, Segment):
            yield entry.data
            continue
        if entry.size:
            contents.append((entry.size, entry.crc))
        for start in range(0, entry.size, _CHUNK):
            yield zeros[: entry.size - start]


def _taken(contents: deque[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield what is in the queue when it is asked for."""
    while contents:
        yield contents.popleft()


def tar_size(context: StoreContext, node: LayerNode) -> int:
    """Return the size of a layer's tar, in bytes. The tar is assembled for that only if there is no tar-split file.

    Raises:
        IntegrityError: the tar-split file is missing or damaged.
    """
    if not context.driver.capabilities.reproduces_exact_diffs:
        try:
            lines = context.db.open_tar_split(node.record.chain_id)
        except (FileNotFoundError, IsADirectoryError):
            pass  # `tar_stream` raises the error
        else:
            with LineReader(lines) as reader:
                return sum(map(size_of, decode_blocks(reader.blocks())))
    with tar_stream(context, node) as stream:
        return sum(map(len, iter(lambda: stream.read(_CHUNK), b"")))


def _verified(chunks: Iterable[bytes | memoryview], node: LayerNode) -> Generator[bytes | memoryview]:
    """Yield the chunks, and raise at their end if they are not the layer's tar."""
    with Hasher() as hasher:
        for chunk in chunks:
            hasher.update(chunk)
            yield chunk
        digest = hasher.finish()
    if digest != node.record.diff_id.hex:
        raise IntegrityError(
            f"the tar of layer {node.record.chain_id} is not what was registered: its digest is "
            f"sha256:{digest}, not {node.record.diff_id}; register the layer again from its source"
        )


def _joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in chunks of at least `_CHUNK`, but for the last: what follows has a cost per chunk."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= _CHUNK:
            yield b"".join(parts)
            parts.clear()
            size = 0
    if parts:
        yield b"".join(parts)
