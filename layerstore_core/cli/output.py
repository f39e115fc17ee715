"""What goes to standard output and standard error.

Standard output holds the answer and nothing else. It is written as bytes, so that a name which is not
UTF-8 comes out as it is on disk, in any locale.
"""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from layerstore_core.base.descriptors import open_fd
from layerstore_core.text import printable

__all__ = [
    "OutputClosed",
    "StandardOutput",
    "check_binary",
    "columns",
    "describe_os_error",
    "human_size",
    "is_read",
    "printable",
    "write_document",
    "write_error",
    "write_lines",
]


class OutputClosed(Exception):
    """Whoever read standard output has gone (`layerstore export … | head`): no error, but the end."""


class StandardOutput:
    """A binary writer on standard output that knows a reader's leaving from a failure."""

    #: It may be a pipe that nobody reads for long.
    may_block = True

    def write(self, data: bytes | memoryview, /) -> None:
        """Write all of `data`.

        Raises:
            OutputClosed: nobody reads it any more.
            OSError: it cannot be written, for example because the disk is full.
        """
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
        with _writing():
            sys.stdout.buffer.write(data)

    def flush(self) -> None:
        """Hand everything written to the operating system; errors as for `write`."""
        if sys.stdout is not None:
            with _writing():
                sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _discard_stdout()
        if error.errno == errno.EPIPE:
            raise OutputClosed from None
        raise OSError(error.errno, error.strerror, "standard output") from error


def is_read() -> bool:
    """Whether there is still a reader of standard output, as far as it can be told.

    What could not be written is gone from the buffer, so that flushing it again tells nothing. Where there is no
    reader, what is still in the buffer goes nowhere.
    """
    if sys.stdout is None:
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        _discard_stdout()
        return False
    return True


def _discard_stdout() -> None:
    """Send what is still buffered nowhere: the interpreter would fail on it again at exit."""
    null = open_fd(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    finally:
        os.close(null)


def check_binary(as_json: bool) -> None:
    """Look whether standard output can hold a tar.

    Args:
        as_json: whether it is to hold a JSON document.

    Raises:
        click.UsageError: it is a terminal, or to hold something else.
    """
    import click

    if as_json:
        raise click.UsageError("--json needs -o FILE: without it standard output holds the tar")
    if sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal, and a tar is no text; use -o FILE or a pipe")


def write_lines(lines: Iterable[str]) -> None:
    """Write text to standard output, one line each; surrogates stand for bytes, as `os.fsdecode` makes them.

    Raises:
        OutputClosed, OSError: as `StandardOutput.write`.
    """
    text = "".join([f"{line}\n" for line in lines]).encode("utf-8", "surrogateescape")
    if text:
        out = StandardOutput()
        out.write(text)
        out.flush()


def write_document(document: Mapping[str, Any]) -> None:
    """Write one JSON document to standard output, in ASCII; errors as for `write_lines`."""
    write_lines([json.dumps(document, indent=2)])


def write_error(kind: str, message: str, notes: Iterable[str] = (), *, as_json: bool) -> None:
    """Write an error to standard error: lines for a person, or `{"error": {"type": …, "message": …}}`."""
    parts = [message, *notes]
    if as_json:
        text = json.dumps({"error": {"type": kind, "message": "\n  ".join(parts)}})
    else:
        text = "layerstore: " + "\n  ".join(printable(part, backslash=False) for part in parts)
    if sys.stderr is not None:
        print(text, file=sys.stderr)


def describe_os_error(error: OSError) -> str:
    """The path, what went wrong and what was being done, in one line."""
    paths = [os.fsdecode(p) if isinstance(p, str | bytes) else str(p) for p in (error.filename, error.filename2) if p]
    what = error.strerror or str(error) or type(error).__name__
    notes = getattr(error, "__notes__", ())
    return f"{printable(' -> '.join(paths), path=True)}{': ' if paths else ''}{what}" + (
        f" ({'; '.join(notes)})" if notes else ""
    )


def human_size(size: int) -> str:
    """`size` bytes in binary units: `17 B`, `1.5 KiB`, `230 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        # 1023.95 would be rounded up to 1024.0: that is one of the next unit.
        if value < (1023.95 if unit != "B" else 1024) or unit == "PiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns, two blanks between them."""
    table = list(rows)
    if not table:
        return []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    form = "  ".join(f"%-{width}s" for width in widths)
    return [(form % row).rstrip() for row in table]
