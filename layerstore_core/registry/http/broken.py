"""How a transfer may fail, before it is known whether it is tried again."""

from __future__ import annotations


class ConnectionFailed(Exception):
    """No answer, or one that was cut.

    Args:
        reason: what happened, for a message.
        lasting: whether the same would happen again, as with a certificate that is not trusted.
        no_server: whether there was no connection, or nothing there that speaks TLS.
        pause: how long to wait before the next attempt, in seconds; `None` where no server has said it.
    """

    def __init__(
        self,
        reason: str,
        *,
        lasting: bool = False,
        no_server: bool = False,
        pause: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        self.no_server = no_server
        self.pause = pause


class TooLong(Exception):
    """A body is longer than its limit. The argument is the limit in bytes."""
