"""Things that are in the way, put aside and not deleted: `<root>/layerstore/quarantine/<driver>/<time>-<what>`.

The driver's layers that a record names stay as long as the record is here: garbage collection takes them for known.
Removing an entry by hand gives them free. Entries of earlier versions stand in the directory above.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.records.own_state import state_directory
from layerstore_core.store.context import StoreContext

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 100


class Quarantine:
    """The quarantine of one store.

    Args:
        context: an open store.
    """

    def __init__(self, context: StoreContext) -> None:
        self.path = state_directory(context.root, "quarantine", context.driver.name)

    def put(self, path: Path, what: str) -> Path:
        """Move a file or a directory here.

        Args:
            path: what to move.
            what: how to call it; its name here begins with the time.

        Returns:
            Where it is now.

        Raises:
            OSError: it cannot be moved, and is where it was.
        """
        make_directory(self.path, 0o700, durable=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = _UNFIT.sub("-", what)[:_LONGEST].strip("-")
        target = self.path / f"{stamp}-{secrets.token_hex(3)}-{name}"
        inside.rename(path, target)
        inside.flush(self.path)
        inside.flush(path.parent)
        return target

    def entries(self) -> list[Path]:
        """What is here, sorted; and what is in the directory above, which names no layers if it is another driver's."""
        found: list[Path] = []
        for directory in (self.path, self.path.parent):
            found += [directory / name for name in inside.names(directory)]
        return [path for path in found if path != self.path]
