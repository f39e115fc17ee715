"""The command line program `layerstore`.

- `app` has the command tree, and turns errors into messages and exit codes.
- `commands` has a module for each command or family of commands.
- `session` keeps the global options and opens the store.
- `parameters` checks the words that the user typed; `shellwords` completes them in a shell.
- `describe` makes the JSON objects; `output` and `progress` write to the terminal.
- `input` reads pipes; `signals` stops a command cleanly.

Neither this module nor those import anything heavy when they load: `layerstore --version` has to be quick.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

#: For type checkers, as in the package above.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import NoReturn

#: The code to exit with; `None` before the command has ended.
_code: int | None = None


def main() -> NoReturn:
    """Run the command line in `sys.argv`, and exit with its code (the console script's entry point)."""
    # A command is short, and keeps the many objects that it makes (layers, names) until it ends. With the thresholds
    # that suit a server, the search for reference cycles would take a tenth of the time of a listing. Loading makes
    # 35,000 objects, which stay: the first search comes after that, and a short command ends before it.
    gc.set_threshold(60_000, 20, 100)
    if _print_version(sys.argv[1:]):
        sys.exit(0)
    atexit.register(_end)
    from layerstore_core.cli import signals

    try:
        signals.install()
        from layerstore_core.cli.app import cli

        code = cli.run(sys.argv[1:])
        signals.uninstall()
    except KeyboardInterrupt:
        # Ctrl-C came before the application handled signals, or after it had finished.
        code = 130
    except signals.Terminated as stopped:
        code = stopped.exit_code
    _exit(code)


def _exit(code: int) -> NoReturn:
    """Exit with a code, without the interpreter's last work: it would free all objects, one by one.

    That is a twentieth of the time of `ls`, and more of a long listing. Threads are awaited, and what others have
    registered to be called at the end is called.
    """
    gc.freeze()  # if what follows fails: the collector's last pass takes 0.04 s of a command that takes 0.3 s
    global _code
    _code = code
    sys.exit(code)


def _end() -> None:
    """End the process. It is registered first, and so called last, after the threads have ended."""
    if _code is None:
        return  # an error of the program: its traceback is still to be printed
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return  # the interpreter's own end reports that
    os._exit(_code)


def _print_version(args: list[str]) -> bool:
    """Answer `layerstore --version` with a single write; return whether that was done.

    Anything but success is left to the application, which has the messages: it writes the line again.
    """
    if args != ["--version"] or sys.stdout is None or "_LAYERSTORE_COMPLETE" in os.environ:
        return False
    from layerstore_core._version import __version__

    line = f"layerstore {__version__}\n".encode()
    try:
        return os.write(sys.stdout.fileno(), line) == len(line)
    except OSError:
        return False
