"""Secrets of a client, so that no message shows one: a server may quote what it was sent."""

from __future__ import annotations

import base64
import threading
from typing import Final
from urllib.parse import quote

#: Shorter ones would occur in messages by chance, and are no secrets.
_SHORTEST: Final = 6


class Secrets:
    """Passwords and tokens that were sent. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: set[str] = set()

    def __repr__(self) -> str:
        return f"<{len(self._found)} secrets>"

    def add(self, *values: str) -> None:
        """Hide these in messages from now on, also in the form that URLs give them."""
        with self._lock:
            self._found |= {
                form for value in values for form in (value, quote(value, safe="")) if len(form) >= _SHORTEST
            }

    def basic(self, username: str, password: str) -> str:
        """Return the value of a header `Authorization` with a password, which is hidden from now on."""
        encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
        self.add(password, encoded)
        return f"Basic {encoded}"

    def hide(self, text: str) -> str:
        """Return a text without the secrets in it."""
        with self._lock:
            found = sorted(self._found, key=len, reverse=True)
        for secret in found:
            text = text.replace(secret, "<secret>")
        return text
