"""What systemd and a service say to each other: sockets that are open already, and states.

The protocols are those of sd_listen_fds(3) and sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from typing import Final

from layerstore_core.errors import ConfigError
from layerstore_core.log import logger

#: The number of the first descriptor that systemd passes.
_FIRST: Final = 3


def passed_socket() -> socket.socket | None:
    """Return the socket that systemd has passed to this process, by socket activation; `None` without one.

    The variables that say so are removed from the environment: they are not for programs that this one starts.

    Raises:
        ConfigError: it is no listening unix socket, or there are several.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or count in ("", "0"):
        return None
    if count != "1":
        raise ConfigError(f"systemd has passed {count} sockets; name one in the unit, with ListenStream=/PATH")
    wrong = (
        "systemd has passed a descriptor that is not a Unix stream socket, or does not listen; use ListenStream=/PATH, "
        "and Accept=no"
    )
    try:
        passed = socket.socket(fileno=_FIRST)
    except OSError as error:
        raise ConfigError(wrong) from error
    passed.set_inheritable(False)
    if (
        passed.family != socket.AF_UNIX
        or passed.type != socket.SOCK_STREAM
        or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        or not isinstance(passed.getsockname(), str)
        or not passed.getsockname()
    ):
        passed.close()
        raise ConfigError(wrong)
    return passed


def notify_systemd(state: str) -> None:
    """Tell the service manager a state, such as `READY=1`; without one, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.connect(address)
            manager.sendall(state.encode())
    except OSError as error:
        logger.warning("cannot tell the service manager {}: {}", state, error)
