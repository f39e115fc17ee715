"""The end of a command: each kind of error becomes a message and an exit code."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from layerstore_core.cli import output
from layerstore_core.cli.signals import Terminated
from layerstore_core.errors import DriverNotSupported, LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.cli.session import Session

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
EXIT_OUTPUT_CLOSED: Final = 141


def flushed(code: int, as_json: bool) -> int:
    """Flush standard output, and return the exit code.

    An error at the exit of the interpreter could not be reported.

    Args:
        code: the exit code if that succeeds.
        as_json: whether errors are written as JSON.
    """
    try:
        output.StandardOutput().flush()
    except output.OutputClosed:
        return code or EXIT_OUTPUT_CLOSED
    except OSError as error:
        output.write_error(type(error).__name__, output.describe_os_error(error), as_json=as_json)
        return code or EXIT_FAILED
    return code


def report(error: BaseException, session: Session | None, as_json: bool) -> int:
    """Write an error to standard error, and return the exit code.

    Args:
        error: the error, which is being handled.
        session: the session of the command, if there was one.
        as_json: whether to write JSON.

    Raises:
        BaseException: the error itself, if it is a bug, and no JSON is to be written.
    """
    if isinstance(error, output.OutputClosed):
        return EXIT_OUTPUT_CLOSED
    if isinstance(error, KeyboardInterrupt):
        output.write_error("Interrupted", "interrupted", as_json=as_json)
        return EXIT_INTERRUPTED
    if isinstance(error, Terminated):
        output.write_error("Terminated", str(error), as_json=as_json)
        return error.exit_code
    if isinstance(error, LayerStoreError):
        _add_reason(error, session)
        output.write_error(type(error).__name__, str(error), getattr(error, "__notes__", ()), as_json=as_json)
        return EXIT_FAILED
    if isinstance(error, OSError):
        _add_reason(error, session)
        if error.errno == errno.EPIPE and not output.is_read():
            # click wrote a help text by itself, not through `output`.
            return EXIT_OUTPUT_CLOSED
        output.write_error(type(error).__name__, output.describe_os_error(error), as_json=as_json)
        return EXIT_FAILED
    if not as_json or not isinstance(error, Exception):
        raise error
    output.write_error(type(error).__name__, str(error), as_json=True)
    return EXIT_FAILED


def report_no_stdout(as_json: bool) -> int:
    """Report that there is no standard output, and return the exit code."""
    error = OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
    output.write_error("OSError", output.describe_os_error(error), as_json=as_json)
    return EXIT_FAILED


def _add_reason(error: Exception, session: Session | None) -> None:
    """Add to an error that may come from missing rights why the command is not in a user namespace."""
    if not isinstance(error, (DriverNotSupported, PermissionError)):
        return
    if session and session.outside_because:
        error.add_note(f"no user namespace was entered: {session.outside_because}")
    elif isinstance(error, PermissionError):
        from layerstore_core.rootless.rights import has_one_user

        if has_one_user():
            error.add_note(
                "this user namespace has one user: files of other owners need subordinate IDs in /etc/subuid and "
                "/etc/subgid, and newuidmap and newgidmap (package uidmap)"
            )
