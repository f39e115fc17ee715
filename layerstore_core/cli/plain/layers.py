"""Layers: what the commands `ls` and `register` do."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from layerstore_core.base.digests import ChainID
from layerstore_core.cli import output, progress
from layerstore_core.cli.describe import layer_document, short_length, snapshot_document
from layerstore_core.cli.input import interruptible
from layerstore_core.errors import InvalidLayer, while_doing

if TYPE_CHECKING:
    from layerstore_core.cli.listing import Listing
    from layerstore_core.cli.session import Session
    from layerstore_core.store.store import LayerStore


def list_layers(
    session: Session,
    listing: Listing,
    choose: Callable[[LayerStore, set[ChainID]], Callable[[ChainID], bool]] | None = None,
) -> None:
    """Print the layers as a tree, with their sizes.

    Args:
        session: the session.
        listing: the form of the list.
        choose: takes the store and the pinned layers, and returns a function that returns whether a layer is listed.
    """
    with session.open(reading=True) as store:
        pins = store.pins()
        layers = {chain: layer_document(layer, pinned=chain in pins) for chain, layer in store.layers().items()}
        is_chosen = None if choose is None else choose(store, pins)
        snapshots = [] if listing.conditions else [snapshot_document(row) for row in store.context.snapshots.ready()]
    ordered = tree_order({chain: layer["parent"] for chain, layer in layers.items()})
    ordered = [(chain, depth) for chain, depth in ordered if is_chosen is None or is_chosen(chain)]
    digits = None if listing.whole else short_length(layers.keys())

    def name(chain: ChainID | None) -> str | None:
        return None if chain is None else str(chain) if digits is None else chain.hex[:digits]

    def rows() -> list[dict[str, Any]]:
        found = []
        for chain, _ in ordered:
            layer = layers[chain]
            parent = None if layer["parent"] is None else ChainID.trusted(layer["parent"])
            found.append(
                {
                    "ID": name(chain),
                    "Size": output.human_size(layer["diff_size"]),
                    "ChainSize": output.human_size(layer["size"]),
                    "Bytes": layer["diff_size"],
                    "DiffID": layer["diff_id"],
                    "Parent": name(parent),
                    "Pinned": layer["pinned"],
                }
            )
        return found

    def table() -> list[str]:
        lines = [("CHAIN ID", "SIZE", "CHAIN SIZE", "PINNED")] if ordered else []
        for (_, depth), row in zip(ordered, rows(), strict=True):
            pinned = "yes" if row["Pinned"] else "no"
            lines.append(("  " * depth + row["ID"], row["Size"], row["ChainSize"], pinned))
        of_snapshots = _snapshot_lines(snapshots, name)
        return [*output.columns(lines), *([""] if lines and of_snapshots else []), *of_snapshots]

    listing.answer(
        session, lambda: {"layers": [layers[chain] for chain, _ in ordered], "snapshots": snapshots}, rows, table
    )


def _snapshot_lines(snapshots: Sequence[Mapping[str, Any]], name: Callable[[ChainID | None], str | None]) -> list[str]:
    if not snapshots:
        return []
    lines = [("SNAPSHOT", "KIND", "PARENT", "LAYER")]
    for snapshot in snapshots:
        chain = snapshot["chain_id"]
        if chain is not None:
            layer = name(ChainID.trusted(chain)) or ""
        else:
            layer = "its own" if snapshot["cache_id"] else "its parent's"  # a view need not have one
        parent = output.printable(snapshot["parent"] or "none")
        lines.append((output.printable(snapshot["key"]), snapshot["kind"], parent, layer))
    return output.columns(lines)


def tree_order(parents: Mapping[ChainID, str | None]) -> list[tuple[ChainID, int]]:
    """Return the layers, each followed by its children in the order of their chain IDs, with the depth of each.

    Args:
        parents: maps each layer to its parent's chain ID, or to `None`.

    Returns:
        Pairs of a chain ID and the number of its ancestors.
    """
    children: dict[str | None, list[ChainID]] = {}
    for chain in sorted(parents, reverse=True):
        children.setdefault(parents[chain], []).append(chain)
    ordered = []
    waiting = [(chain, 0) for chain in children.get(None, ())]
    while waiting:
        chain, depth = waiting.pop()
        ordered.append((chain, depth))
        waiting += [(child, depth + 1) for child in children.get(chain, ())]
    return ordered


def register_tar(
    session: Session, tar: str, resolve: Callable[[LayerStore], str], *, allow_empty: bool = False
) -> None:
    """Register a tar as a layer, pin the layer, and print its chain ID.

    Args:
        session: the session.
        tar: the name of the file; `-` for standard input.
        resolve: returns the parent's chain ID; `""` for a base layer.
        allow_empty: whether a tar of no bytes is an empty layer.
    """
    if tar == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
        if sys.stdin.isatty():
            import click

            raise click.UsageError(
                "standard input is a terminal; redirect a tar to it: layerstore register - < layer.tar"
            )
        _register(session, sys.stdin.buffer, "standard input", resolve, allow_empty)
        return
    with _opened(tar) as stream:
        _register(session, stream, tar, resolve, allow_empty)


def _opened(tar: str) -> BinaryIO:
    with while_doing("opening the layer's tar"):
        return open(tar, "rb")


def _register(
    session: Session, stream: BinaryIO, name: str, resolve: Callable[[LayerStore], str], allow_empty: bool
) -> None:
    with session.open(create=True) as store:
        parent = resolve(store)
        try:
            document = register_pinned(store, interruptible(stream), parent, "Registering", allow_empty=allow_empty)
        except InvalidLayer as error:
            error.add_note(f"while registering {name}")
            raise
    session.answer(document, lambda: [document["chain_id"]])


def register_pinned(
    store: LayerStore, stream: BinaryIO, parent: str, what: str, *, allow_empty: bool
) -> dict[str, Any]:
    """Register `stream` as a child of `parent`, pin the layer, and return its description.

    If the layer cannot be pinned, it is released: it would have no reference once this process ends.

    Args:
        store: the store, open for writing.
        stream: the tar.
        parent: the parent's chain ID; `""` for a base layer.
        what: the label of the progress display.
        allow_empty: whether a tar of no bytes is an empty layer.

    Raises:
        InvalidLayer, LayerDoesNotExist, MaxDepthExceeded, OSError: as `LayerStore.register`.
    """
    with progress.of_bytes(what) as report:
        layer = store.register(stream, parent, progress=report, allow_empty=allow_empty)
    try:
        store.pin(layer)
    except BaseException:
        store.release(layer)
        raise
    with layer:
        return layer_document(layer, pinned=True)
