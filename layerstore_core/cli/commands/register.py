"""`layerstore register`: register a tar as a layer."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from layerstore_core.cli import progress
from layerstore_core.cli.describe import layer_document
from layerstore_core.cli.input import interruptible
from layerstore_core.cli.parameters import CHAIN, PathType, json_option, resolve_parent
from layerstore_core.cli.session import Session
from layerstore_core.errors import InvalidLayer, while_doing

if TYPE_CHECKING:
    from layerstore_core.store.store import LayerStore


@click.command()
@click.argument("tar", type=PathType(dir_okay=False, readable=False, allow_dash=True))
@click.option("--parent", metavar="CHAIN", type=CHAIN, help="Parent of the new layer: a layer or an image.")
@click.option("--allow-empty", is_flag=True, help="Accept a TAR of no bytes as an empty layer.")
@json_option
@click.pass_obj
def register(session: Session, tar: str, parent: str | None, allow_empty: bool) -> None:
    """Register a tar as a layer, and print its chain ID.

    TAR is a file, or '-' for standard input. It may be compressed with gzip, zstd, xz or bzip2. The layer is
    pinned: it stays until 'layerstore rm' removes it. A layer that the store has already is not stored again.

    A TAR of no bytes is refused, because the program that should have written it may have failed.

    \b
    Examples:
      layerstore register base.tar
      zcat app.tar.gz | layerstore register - --parent 3f1c9a2b
    """
    if tar == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
        if sys.stdin.isatty():
            raise click.UsageError(
                "standard input is a terminal; redirect a tar to it: layerstore register - < layer.tar"
            )
        _register(session, sys.stdin.buffer, "standard input", parent, allow_empty)
        return
    with _opened(tar) as stream:
        _register(session, stream, tar, parent, allow_empty)


def _opened(tar: str) -> BinaryIO:
    with while_doing("opening the layer's tar"):
        return open(tar, "rb")


def _register(session: Session, stream: BinaryIO, name: str, parent: str | None, allow_empty: bool) -> None:
    with session.open(create=True) as store:
        parent_id = resolve_parent(store, parent)
        try:
            document = register_pinned(store, interruptible(stream), parent_id, "Registering", allow_empty=allow_empty)
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
