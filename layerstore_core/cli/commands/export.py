"""`layerstore export`: the tar of a layer, bit for bit."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, Self

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.parameters import CHAIN, json_option, resolve
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.layers import Layer


class _Writer(Protocol):
    #: Whether a write may take as long as another program likes.
    waits: bool

    def write(self, data: bytes | memoryview, /) -> object: ...


@click.command()
@click.argument("chain", type=CHAIN)
@click.option(
    "-o", "--output", "file", metavar="FILE", type=click.Path(dir_okay=False, readable=False), help="Write to FILE."
)
@json_option
@click.pass_obj
def export(session: Session, chain: str, file: str | None) -> None:
    """Write a layer's tar, exactly as it was registered.

    It goes to standard output, or to FILE. The bytes are verified against the layer's diff ID on the way. FILE appears whole or not at all;
    on standard output the exit code says whether the tar was good to its end.

    \b
    Examples:
      layerstore export 3f1c9a2b -o layer.tar
      layerstore export 3f1c9a2b | tar -t
    """
    if file is None:
        if session.json:
            raise click.UsageError("--json needs -o FILE: without it standard output holds the tar")
        if sys.stdout is not None and sys.stdout.isatty():
            raise click.UsageError("standard output is a terminal, and a tar is no text; use -o FILE or a pipe")
    with session.open(reading=True) as store:
        chain_id = resolve(store, chain)
        with store.get(chain_id) as layer, _telling(f"while exporting layer {chain_id}"):
            if file is None:
                out = output.StandardOutput()
                _copy(layer, out)
                out.flush()
                return
            with _replacing(file) as target:
                written = _copy(layer, target)
    document = {"chain_id": str(chain_id), "file": file, "bytes": written}
    session.answer(document, lambda: ())


def _copy(layer: Layer, target: _Writer) -> int:
    """Write the layer's tar to `target`, and return how many bytes it has."""
    with progress.of_bytes("Exporting") as report:
        return layer.copy_tar(
            target.write,
            in_thread=not target.waits,
            progress=(lambda written: report(written, 0)) if report is not None else None,
        )


class _File:
    """A file whose errors have the name that the user gave.

    Args:
        name: what the user gave.
        flags: of open(2).
        path: a regular file to open in its place.
    """

    def __init__(self, name: str, flags: int, path: str | None = None) -> None:
        self.waits = path is None
        self._name = name
        with _naming(name):
            self._fd = os.open(path or name, flags | os.O_CLOEXEC, 0o644)

    def write(self, data: bytes | memoryview, /) -> None:
        left = memoryview(data)
        with _naming(self._name):
            while left:
                left = left[os.write(self._fd, left) :]

    def sync(self) -> None:
        with _naming(self._name):
            os.fsync(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with _naming(self._name):
            os.close(self._fd)


@contextmanager
def _naming(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = file, None
        raise


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Add what was being done to an error: one that was found in the layer's content does not know which layer's."""
    try:
        yield
    except (LayerStoreError, OSError) as error:
        error.add_note(what)
        raise


@contextmanager
def _replacing(file: str) -> Iterator[_Writer]:
    """A writer whose bytes are `file` once the block has ended well; otherwise `file` is what it was.

    A device, a pipe or a socket is written to as it is: putting a file in the place of `/dev/null` would do harm.
    A symbolic link stays, and what it points to is replaced.
    """
    path = os.path.realpath(file)
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with _File(file, os.O_WRONLY) as target:
            yield target
        return
    import secrets

    partial = os.path.join(os.path.dirname(path), f".layerstore-{secrets.token_hex(8)}.part")
    try:
        with _File(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, partial) as target:
            yield target
            target.sync()
        with _naming(file):
            os.replace(partial, path)
    except BaseException:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise
