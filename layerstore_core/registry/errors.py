"""Errors of registries: one base class, and a subclass for each case that a caller can handle."""

from __future__ import annotations

from collections.abc import Iterable

from layerstore_core.errors import LayerStoreError
from layerstore_core.text import printable


class RegistryError(LayerStoreError):
    """A registry, or the way to it, failed. The message begins with the registry.

    Args:
        host: the registry, such as `registry.example.com:5000`.
        message: what happened, where, and what to do. Control characters in it are escaped: it may quote the registry.
        status: the HTTP status of the answer; `None` where there was none.
        codes: the codes of the registry's own errors, such as "MANIFEST_UNKNOWN".
        retry_after: after how many seconds the registry wants to be asked again; `None` if it does not say.
    """

    def __init__(
        self,
        host: str,
        message: str,
        *,
        status: int | None = None,
        codes: Iterable[str] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(printable(f"{host}: {message}", backslash=False))
        self.host = host
        self.status = status
        self.codes = tuple(codes)
        self.retry_after = retry_after


class NotInRegistry(RegistryError):
    """The registry has no such repository, manifest, tag or blob."""


class RegistryDenied(RegistryError):
    """The registry wants other credentials, or these have not the right for the call."""


class RegistryUnavailable(RegistryError):
    """No connection, or only failures of the server, also when the call was tried again."""


class InvalidAnswer(RegistryError):
    """The answer is not what was asked for: a wrong digest, size, media type or form."""
