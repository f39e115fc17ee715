"""Writing to standard output and standard error.

Standard output gets the answer and nothing else. It is written as bytes, so that a name that is not UTF-8 is
printed as it is on disk, in any locale.
"""

from __future__ import annotations

import errno
import os
import re
import select
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from layerstore_core.base.descriptors import open_fd
from layerstore_core.text import human_size, printable

__all__ = [
    "OutputClosed",
    "StandardOutput",
    "check_binary",
    "columns",
    "describe_os_error",
    "human_size",
    "is_read",
    "printable",
    "shortened",
    "write_document",
    "write_error",
    "write_lines",
]


#: The longest word of a message that is shown whole, and the longest message.
_MAX_WORD: Final = 500
_MAX_MESSAGE: Final = 8000
#: How much of the end of a longer one is shown: it has the last names of a path, or says what to do.
_END: Final = 200
_LONG_WORD: Final = rf"(\S{{{_MAX_WORD - _END}}})\S{{{_END},}}(\S{{{_END}}})"


class OutputClosed(Exception):
    """The reader of standard output has closed it (`layerstore export … | head`): the command ends without an error."""


class StandardOutput:
    """A binary writer on standard output. It distinguishes a reader that has closed it from a failure to write."""

    #: Standard output may be a pipe that is not read for a long time.
    may_block = True

    def write(self, data: bytes | memoryview, /) -> None:
        """Write all of `data`.

        Raises:
            OutputClosed: the reader has closed it.
            OSError: it cannot be written, for example because the disk is full.
        """
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
        with _writing():
            sys.stdout.buffer.write(data)

    def flush(self) -> None:
        """Pass everything written to the operating system; errors as for `write`."""
        if sys.stdout is not None:
            with _writing():
                sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    """Name standard output in an error of writing, and raise `OutputClosed` if its reader has closed it."""
    try:
        yield
    except OSError as error:
        _discard_stdout()
        if error.errno == errno.EPIPE:
            raise OutputClosed from None
        raise OSError(error.errno, error.strerror, "standard output") from error


def is_read() -> bool:
    """Return whether standard output still has a reader, as far as poll(2) shows it.

    A second flush would not show it: the bytes that could not be written are no longer in the buffer. If there is
    no reader, this discards the bytes that are still in the buffer.
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
    """Discard the bytes that are still buffered: the interpreter would fail to write them at exit."""
    null = open_fd(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    finally:
        os.close(null)


def check_binary(as_json: bool) -> None:
    """Check that a tar can be written to standard output.

    Args:
        as_json: whether a JSON document is to be written there.

    Raises:
        click.UsageError: standard output is a terminal, or is needed for the JSON document.
    """
    import click

    if as_json:
        raise click.UsageError("--json needs -o FILE: without it, the tar goes to standard output")
    if sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal, and a tar is not text; use -o FILE or a pipe")


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of text to standard output.

    Surrogates stand for bytes that are not UTF-8, as in the result of `os.fsdecode`.

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
    import json

    write_lines([json.dumps(document, indent=2)])


def write_error(kind: str, message: str, notes: Iterable[str] = (), *, as_json: bool) -> None:
    """Write an error to standard error: as text, or as `{"error": {"type": …, "message": …}}`.

    Args:
        kind: the name of the exception.
        message: its message.
        notes: more lines, such as what was being done.
        as_json: whether to write JSON.
    """
    parts = [shortened(part) for part in (message, *notes)]
    if as_json:
        import json

        text = json.dumps({"error": {"type": kind, "message": "\n  ".join(parts)}})
    else:
        text = "layerstore: " + "\n  ".join(printable(part, backslash=False) for part in parts)
    if sys.stderr is not None:
        print(text, file=sys.stderr)


def shortened(message: str) -> str:
    """Return a message without the middle of words, or of a text, that are too long to be read to the end.

    Words of the user, and what a file has in the place of a name, are quoted in errors.
    """
    if len(message) <= _MAX_WORD:
        return message
    short = re.sub(_LONG_WORD, lambda word: f"{word[1]}…{word[2]}", message)
    return short if len(short) <= _MAX_MESSAGE else f"{short[: _MAX_MESSAGE - _END]}…{short[-_END:]}"


def describe_os_error(error: OSError) -> str:
    """Return the path, the reason and the notes of an error in one line."""
    paths = [os.fsdecode(p) if isinstance(p, str | bytes) else str(p) for p in (error.filename, error.filename2) if p]
    what = error.strerror or str(error) or type(error).__name__
    notes = getattr(error, "__notes__", ())
    return f"{printable(' -> '.join(paths), path=True)}{': ' if paths else ''}{what}" + (
        f" ({'; '.join(notes)})" if notes else ""
    )


def columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns, separated by two blanks."""
    table = list(rows)
    if not table:
        return []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    form = "  ".join(f"%-{width}s" for width in widths)
    return [(form % row).rstrip() for row in table]
