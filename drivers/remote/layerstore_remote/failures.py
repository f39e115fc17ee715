"""What is said when a call goes wrong: what has happened, at which socket, and what to do."""

from __future__ import annotations

import errno
from typing import Final

from layerstore_remote.errors import BadAnswer, ServerUnavailable
from layerstore_remote.sockets import NOT_LISTENING, TooLong


class Lost(Exception):
    """The connection ended before there was an answer."""


class Failures:
    """The errors of calls to one server.

    Args:
        address: the path of its socket.
        timeout: how many seconds it may take for an answer.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self._server: Final = f"the server at {address}"
        self._address: Final = address
        self._timeout: Final = timeout

    def of_call(self, method: str, error: Exception, *, answering: bool) -> Exception:
        """Return the error of a call that went wrong.

        Args:
            method: what was called.
            error: what went wrong.
            answering: whether a part of the answer had come. If not, the answer is `Lost` for an ended connection.
        """
        if isinstance(error, TimeoutError):
            return ServerUnavailable(
                f"{self._server} has not answered {method} within {self._timeout:g} seconds: see whether it hangs, and "
                "start it again; or allow it more with the option timeout. What it was doing may still be done; "
                "`layerstore gc` removes what nothing refers to"
            )
        if isinstance(error, TooLong):
            return BadAnswer(
                f"{self._server} answers {method} with more than is accepted; if its layers have that much to tell, "
                'set the option diffs to "store"'
            )
        # Of the errors that http.client raises, those of the connection are subclasses of OSError, too.
        if isinstance(error, OSError) or (answering and type(error).__name__ == "IncompleteRead"):
            return self.lost(method) if answering else Lost()
        return BadAnswer(f"{self._server} answers {method} with something that is no HTTP")

    def lost(self, method: str) -> ServerUnavailable:
        """Return the error that the connection has ended in a call."""
        return ServerUnavailable(
            f"{self._server} has ended the connection in the middle of {method}: it has probably died. See its log, "
            "start it again, and repeat the command; `layerstore gc` removes what was left half done"
        )

    def of_connecting(self, error: OSError) -> Exception:
        """Return the error that there is no connection."""
        if isinstance(error, TimeoutError) or error.errno in NOT_LISTENING:
            return ServerUnavailable(
                f"no server listens at {self._address} ({error.strerror or 'it accepts no connection'}): start it, or "
                "name its socket with the option address"
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return ServerUnavailable(
                f"this user may not connect to {self._server}: run the command as the user that the socket is for"
            )
        error.add_note(f"while connecting to {self._server}")
        return error

    def of_body(self, method: str, error: Exception, read: int) -> Exception:
        """Return the error of an answer that is a stream.

        Args:
            method: what was called.
            error: what went wrong.
            read: how many bytes had come.
        """
        if isinstance(error, TimeoutError):
            return ServerUnavailable(
                f"{self._server} has sent nothing more of {method} within {self._timeout:g} seconds: see whether it "
                "hangs, and start it again; or allow it more with the option timeout"
            )
        if isinstance(error, TooLong):
            return BadAnswer(f"{self._server} sends {method} in a form that is no HTTP of a sane server")
        return ServerUnavailable(
            f"{self._server} has ended {method} after {read} bytes, in the middle: it has died, or could not read the "
            "layer. See its log, and repeat the command"
        )
