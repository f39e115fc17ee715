"""How often, and after which pauses, a request is made again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Final

#: Answers after which the same request may succeed: the server is too busy, or a part behind it failed.
TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a request is made again.

    Attributes:
        attempts: how often a request is made at most.
        first_pause: the pause after the first failure in seconds; each further one is twice as long.
        longest_pause: the longest pause in seconds, also where the server asks for a longer one.
        patience: the limit of all pauses of one request together, in seconds.
    """

    attempts: int = 5
    first_pause: float = 0.3
    longest_pause: float = 60.0
    patience: float = 120.0


class Pauses:
    """The pauses of one request.

    Args:
        policy: their lengths and number.
        closing: is set when the client is closed: nothing is waited for then.
        attempts: how often the request is made at most, if that is not as the policy says.
    """

    def __init__(self, policy: RetryPolicy, closing: Event, attempts: int | None = None) -> None:
        self._policy = policy
        self._closing = closing
        self._left = (policy.attempts if attempts is None else min(attempts, policy.attempts)) - 1
        self._made = 0
        self._pause = policy.first_pause
        self._patience = policy.patience

    def wait(self, asked: float | None = None) -> bool:
        """Wait, and return whether the request is to be made again; return `False` at once if it is not.

        Args:
            asked: the pause in seconds that the server asked for; `None` if it asked for none.
        """
        if self._left <= 0:
            return False
        # Requests that failed together are not made again together.
        pause = self._pause * random.uniform(0.75, 1.25) if asked is None else asked
        pause = min(pause, self._policy.longest_pause)
        if pause > self._patience:
            return False
        self._left -= 1
        self._made += 1
        self._pause *= 2
        self._patience -= pause
        return pause_for(pause, self._closing)

    def limit(self, attempts: int) -> None:
        """Allow fewer attempts in all."""
        self._left = min(self._left, attempts - 1 - self._made)

    def allow_again(self) -> None:
        """Count from the beginning: there was progress."""
        self._left = self._policy.attempts - 1
        self._pause = self._policy.first_pause


def pause_for(seconds: float, closing: Event) -> bool:
    """Wait, and return whether nothing has set `closing` in the meantime."""
    return not closing.wait(seconds)


def asked_pause(value: str) -> float | None:
    """Return what a header `Retry-After` asks for, in seconds from now; `None` if it is missing or cannot be read.

    It is a number of seconds or a date (RFC 9110, section 10.2.3).
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
