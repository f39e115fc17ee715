"""The note of which home at a server has the layers of a store, and the marks that the store has left there.

A store and the files of its layers are apart here. Another server may listen at the same socket tomorrow, or the same
one with another driver. Then each layer would look lost, and new ones would go elsewhere. And two stores that share one
home would each delete the layers of the other.

So a store claims a home before it makes its first layer there. Any server can keep two marks: they are empty layers,
one with an ID that all stores use, and one with an ID of this store alone. The store writes the latter into its note,
`<home>/server.json`, and looks for it at the start of each connection.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from layerstore_core.errors import BadRecord
from layerstore_core.sdk import inside, make_directory

#: The ID of the mark that all stores use: the sha256 of "layerstore-driver-remote: this home belongs to a store".
COMMON_MARK: Final = "c318f3de943b7acf2da323cf02c70b038e4122954a6cf500300303c8224ef8a4"
_HOME_MODE: Final = 0o711
_NOTE: Final = "server.json"
_LOCK: Final = "claiming"
_LONGEST: Final = 1 << 14
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a store has noted of the home with its layers.

    Attributes:
        mark: the ID of the store's own mark.
        complete: whether both marks have been made. Before that, the store has no layer.
        driver: the name of the server's driver; empty if it has not named it.
        directory: the home as the server names it; empty if it has not named it.
    """

    mark: str
    complete: bool
    driver: str = ""
    directory: str = ""


class Note:
    """The note of a claim.

    Args:
        home: the driver's home.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self.path: Final = home / _NOTE
        self._known: Claim | None = None

    def read(self) -> Claim | None:
        """Return the claim; `None` if there is none yet.

        Raises:
            BadRecord: the note is damaged.
        """
        if self._known is None or not self._known.complete:
            self._known = self._read()
        return self._known

    def write(self, claim: Claim) -> None:
        """Replace the note, so that it is on disk when this returns."""
        make_directory(self._home, _HOME_MODE, durable=True)
        text = json.dumps({"format": _FORMAT} | asdict(claim)) + "\n"
        partial = self._home / f".tmp-{secrets.token_hex(8)}"
        try:
            inside.write(partial, text.encode(), 0o600, new=True, durable=True)
            inside.rename(partial, self.path)
        except BaseException:
            inside.unlink(partial, missing_ok=True)
            raise
        inside.flush(self._home)
        self._known = claim

    def remove(self) -> None:
        """Remove the note of a claim that has failed."""
        inside.unlink(self.path, missing_ok=True)
        self._known = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes, and other threads, from claiming for the length of a `with` block."""
        make_directory(self._home, _HOME_MODE, durable=True)
        with inside.open_file(self._home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield

    def _read(self) -> Claim | None:
        try:
            fields = json.loads(inside.read(self.path, _LONGEST))
            if fields.pop("format") != _FORMAT:
                raise BadRecord(self.path, "it was written by a newer version: install that version")
            claim = Claim(**fields)
            texts = claim.mark, claim.driver, claim.directory
            if not all(isinstance(text, str) for text in texts) or not isinstance(claim.complete, bool):
                raise TypeError
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise BadRecord(
                self.path,
                "it is damaged, so it is not known where the layers are: restore it, or remove it and give the option "
                "adopt once, if the server is the right one",
            ) from None
        return claim


def new_mark() -> str:
    """Return an ID for a store's own mark."""
    return secrets.token_hex(32)
