"""`layerstore unshare`: run a program in the user namespace in which an ordinary user's commands mount."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Final

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session

#: The exit codes of a shell, for a program that cannot be run, and for one that is not there.
_EXIT_NOT_RUN: Final = 126
_EXIT_NOT_FOUND: Final = 127
#: Signals that Python ignores, and that the program should get.
_IGNORED_BY_PYTHON: Final = ("SIGPIPE", "SIGXFSZ")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@json_option
@click.pass_context
def unshare(context: click.Context, command: tuple[str, ...]) -> None:
    """Run a program, or a shell, where an ordinary user may mount.

    The program runs in a user namespace: as root of the mounts that are made there, and of the user and group IDs
    that /etc/subuid and /etc/subgid give the user. All processes of a user share it, and it ends with the last of
    them. Other commands enter it by themselves. This command is for what has to last longer than one command, such as a
    mount, and for other programs that look at the files.

    Without COMMAND it is a shell ($SHELL). The exit code is that of the program: 126 if it cannot be run, 127 if there
    is none. For root there is no need of a namespace: the program runs as it is.

    \b
    Examples:
      layerstore unshare sh -c 'ls "$(layerstore rw mount work)"'
      layerstore unshare id -u
    """
    session = context.ensure_object(Session)
    session.config()  # sets up logging, and checks the settings
    from layerstore_core.rootless.enter import enter

    enter()
    words = command or (os.environ.get("SHELL") or "/bin/sh",)
    output.StandardOutput().flush()
    sys.stderr.flush()
    for name in _IGNORED_BY_PYTHON:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(words[0], words, _environment(session))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        output.write_error(type(error).__name__, f"{words[0]}: {reason}", as_json=session.json)
        missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR)
        context.exit(_EXIT_NOT_FOUND if missing else _EXIT_NOT_RUN)


def _environment(session: Session) -> dict[str, str]:
    """Return the environment for the program: the options before the command hold for commands in it, too."""
    environment = dict(os.environ)
    for name, value in (("ROOT", session.root), ("CONFIG", session.config_file)):
        if value is not None:
            environment[f"LAYERSTORE_{name}"] = os.path.abspath(value.expanduser())
    if session.driver is not None:
        environment["LAYERSTORE_DRIVER"] = session.driver
    return environment
