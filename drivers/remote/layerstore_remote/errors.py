"""The driver's own errors, and text of a server in the form in which errors quote it."""

from __future__ import annotations

from typing import Final

from layerstore_core.errors import LayerStoreError

#: More characters of a server's text are not quoted.
_LONGEST: Final = 2000


class ServerUnavailable(LayerStoreError):
    """The server cannot be reached, has ended in the middle of a call, or does not answer in time."""


class ServerError(LayerStoreError):
    """The server has answered with an error that has no class."""


class BadAnswer(LayerStoreError):
    """The server's answer is not one of the protocol, or too long. The author of the server has to fix it."""


class OtherHome(LayerStoreError):
    """The server has another driver or another home than the one that the layers of this store are in."""


def quoted(text: str) -> str:
    """Return a server's text in one line, shortened, without characters that a terminal may obey."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:_LONGEST])
    return line + (" [...]" if len(text) > _LONGEST else "")
