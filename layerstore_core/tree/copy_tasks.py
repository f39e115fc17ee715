"""The messages between two processes that copy one tree."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, NamedTuple

#: The kinds of answers.
_DONE, _FAILED = "done", "failed"


class Defaults(NamedTuple):
    """Mode and owner that a new file in the target gets, as decided by the umask and by mount options.

    Attributes:
        masked: the mode bits that have to be set by another call.
        owner: user and group.
    """

    masked: int
    owner: tuple[int, int]


@dataclass(slots=True)
class Answer:
    """Answer of the worker: what it has left to be done. For the attributes see `copy.Copier`, too.

    Attributes:
        left: directories that exist in the target, and are still to be copied.
        skipped_links: names, by directory.
        inaccessible: directories.
        left_out: counts.
    """

    left: list[bytes]
    skipped_links: dict[bytes, list[str]]
    inaccessible: list[bytes]
    left_out: dict[str, int]

    @classmethod
    def of(cls, message: tuple[str, tuple[Any, ...]]) -> Answer:
        """Read an answer of `copy_worker.work`.

        Raises:
            OSError: the error that the worker has met.
        """
        kind, content = message
        if kind == _DONE:
            return cls(*content)
        number, text, path, notes = content
        error = OSError(number, text, path)
        for note in notes:
            error.add_note(note)
        raise error


def done_message(answer: Answer) -> tuple[str, tuple[Any, ...]]:
    """Return the message for a part that is done."""
    return _DONE, (answer.left, answer.skipped_links, answer.inaccessible, answer.left_out)


def failed_message(error: Exception) -> tuple[str, tuple[Any, ...]]:
    """Return the message for an error: number, text, path and notes.

    An error that is no `OSError` becomes one with the number `ECHILD`.
    """
    notes = getattr(error, "__notes__", [])
    if isinstance(error, OSError):
        return _FAILED, (error.errno or 0, error.strerror or str(error), error.filename, notes)
    return _FAILED, (errno.ECHILD, f"the process that copies a part of a tree has failed: {error!r}", None, notes)
