"""What two processes that copy one tree tell each other."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, NamedTuple

#: What an answer is about.
_DONE, _FAILED = "done", "failed"


class Defaults(NamedTuple):
    """What a new file in the target has by itself: the doing of the umask and of the mount.

    Attributes:
        masked: the mode bits that have to be set by a call of their own.
        owner: user and group.
    """

    masked: int
    owner: tuple[int, int]


@dataclass(slots=True)
class Answer:
    """What the second process has left of what it was given; for the attributes see `copy.Copier`, too.

    Attributes:
        left: directories that are made, and still to be copied.
        skipped_links: names in directories.
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
            OSError: the error that it has met.
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
    """Return the message for an error: number, text, path, and notes. One that is no `OSError` becomes one of a child process."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, OSError):
        return _FAILED, (error.errno or 0, error.strerror or str(error), error.filename, notes)
    return _FAILED, (errno.ECHILD, f"the process that copies a part of a tree has failed: {error!r}", None, notes)
