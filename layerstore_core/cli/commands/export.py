"""`layerstore export`: write the tar of a layer, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from layerstore_core.base.replace_file import replacing
from layerstore_core.cli import output, progress
from layerstore_core.cli.parameters import CHAIN, PathType, json_option, resolve
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.store.handles import Layer


class _Writer(Protocol):
    """A target of an export."""

    #: Whether a write may block for as long as another program does not read.
    may_block: bool

    def write(self, data: bytes | memoryview, /) -> object: ...


@click.command()
@click.argument("chain", type=CHAIN)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    default="-",
    type=PathType(dir_okay=False, readable=False, allow_dash=True),
    help="Write to FILE; '-' is standard output, which is the default.",
)
@json_option
@click.pass_obj
def export(session: Session, chain: str, file: str) -> None:
    """Write a layer's tar, exactly as it was registered.

    The tar goes to standard output or to FILE, and is compared with the layer's diff ID on the way. FILE appears
    whole or not at all. On standard output, only exit code 0 says that the whole tar was right.

    CHAIN is a chain ID or its first digits. The name or ID of an image means its topmost layer.

    \b
    Examples:
      layerstore export 3f1c9a2b -o layer.tar
      layerstore export 3f1c9a2b | tar -t
    """
    if file == "-":
        output.check_binary(session.json)
    with session.open(reading=True, content=True) as store:
        chain_id = resolve(store, chain)
        with store.get(chain_id) as layer, _note_in_errors(f"while exporting layer {chain_id}"):
            if file == "-":
                out = output.StandardOutput()
                _copy(layer, out)
                out.flush()
                return
            with replacing(file) as target:
                written = _copy(layer, target)
    document = {"chain_id": str(chain_id), "file": file, "bytes": written}
    session.answer(document, lambda: ())


def _copy(layer: Layer, target: _Writer) -> int:
    """Write the layer's tar to `target`, and return its size in bytes."""
    with progress.of_bytes("Exporting") as report:
        return layer.copy_tar(
            target.write,
            in_thread=not target.may_block,
            progress=(lambda written: report(written, 0)) if report is not None else None,
        )


@contextmanager
def _note_in_errors(note: str) -> Iterator[None]:
    """Add to an error which layer was exported: damage in a layer's content is found where its ID is not known."""
    try:
        yield
    except (LayerStoreError, OSError) as error:
        error.add_note(note)
        raise
