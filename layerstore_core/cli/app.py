"""The command tree; it turns each kind of error into a message and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from layerstore_core._version import __version__
from layerstore_core.cli import output
from layerstore_core.cli.commands import COMMANDS
from layerstore_core.cli.parameters import COMPLETE_VARIABLE, KEY_VALUE, PROGRAM, PathType, session_from
from layerstore_core.cli.session import Session
from layerstore_core.cli.signals import Terminated
from layerstore_core.errors import DriverNotSupported, LayerStoreError

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
EXIT_OUTPUT_CLOSED: Final = 141


class Application(click.Group):
    """The group of all commands. It replaces click's `main`, so that errors are reported in one place."""

    def run(self, args: Sequence[str]) -> int:
        """Run one command line and return its exit code; see `docs/cli.md` for the codes.

        Standard output is flushed before this returns: an error at the exit of the interpreter could not be
        reported. An exception that is neither an error of layerstore nor of the operating system is a bug. It
        passes through with its traceback, unless the answer was to be JSON.
        """
        # Do not wait for click's parser: an error in the options has to be JSON too.
        as_json = "--json" in _options(args)
        code = self._run(args, as_json)
        try:
            output.StandardOutput().flush()
        except output.OutputClosed:
            return code or EXIT_OUTPUT_CLOSED
        except OSError as error:
            output.write_error(type(error).__name__, output.describe_os_error(error), as_json=as_json)
            return code or EXIT_FAILED
        return code

    def _run(self, args: Sequence[str], as_json: bool) -> int:
        if instruction := os.environ.get(COMPLETE_VARIABLE):
            from click.shell_completion import shell_complete

            from layerstore_core.cli.shellwords import register

            register()
            return shell_complete(self, {}, PROGRAM, COMPLETE_VARIABLE, instruction)
        context: click.Context | None = None
        try:
            with self.make_context(PROGRAM, list(args)) as context:
                self.invoke(context)
        except click.exceptions.Exit as done:
            if done.exit_code == 0 and sys.stdout is None:
                return _report_no_stdout(as_json)  # click writes no help text then, and says nothing
            return done.exit_code
        except output.OutputClosed:
            return EXIT_OUTPUT_CLOSED
        except click.ClickException as error:
            if as_json:
                output.write_error(type(error).__name__, error.format_message(), as_json=True)
            else:
                vars(error)["message"] = output.shortened(error.message)
                error.show()
            return error.exit_code
        except (KeyboardInterrupt, click.Abort):
            output.write_error("Interrupted", "interrupted", as_json=as_json)
            return EXIT_INTERRUPTED
        except Terminated as stopped:
            output.write_error("Terminated", str(stopped), as_json=as_json)
            return stopped.exit_code
        except LayerStoreError as error:
            _add_reason(error, context)
            output.write_error(type(error).__name__, str(error), getattr(error, "__notes__", ()), as_json=as_json)
            return EXIT_FAILED
        except OSError as error:
            _add_reason(error, context)
            if error.errno == errno.EPIPE and not output.is_read():
                # click wrote a help text by itself, not through `output`.
                return EXIT_OUTPUT_CLOSED
            output.write_error(type(error).__name__, output.describe_os_error(error), as_json=as_json)
            return EXIT_FAILED
        except Exception as error:
            if not as_json:
                raise
            output.write_error(type(error).__name__, str(error), as_json=True)
            return EXIT_FAILED
        return 0

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> Any:
        """Run the command line and exit with its code. Click and its test runner call this."""
        sys.exit(self.run(sys.argv[1:] if args is None else args))


def _report_no_stdout(as_json: bool) -> int:
    error = OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
    output.write_error("OSError", output.describe_os_error(error), as_json=as_json)
    return EXIT_FAILED


def _add_reason(error: Exception, context: click.Context | None) -> None:
    """Add to an error that may come from missing rights why the command is not in a user namespace."""
    if not isinstance(error, (DriverNotSupported, PermissionError)):
        return
    session = context.find_object(Session) if context is not None else None
    if session and session.outside_because:
        error.add_note(f"no user namespace was entered: {session.outside_because}")
    elif isinstance(error, PermissionError):
        from layerstore_core.rootless.rights import has_one_user

        if has_one_user():
            error.add_note(
                "this user namespace has one user: files of other owners need subordinate IDs in /etc/subuid and "
                "/etc/subgid, and newuidmap and newgidmap (package uidmap)"
            )


def _options(args: Sequence[str]) -> Sequence[str]:
    """Return the words that may be options: those before `--`."""
    return args[: args.index("--")] if "--" in args else args


@click.group(
    cls=Application,
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'layerstore COMMAND --help' explains a command and shows an example.",
)
@click.option(
    "--root",
    metavar="DIR",
    type=PathType(file_okay=False, readable=False, path_type=Path),
    help="Directory of the store. [default: /var/lib/layerstore for root, otherwise layerstore in $XDG_DATA_HOME or "
    "~/.local/share]",
)
@click.option(
    "--driver",
    metavar="NAME",
    help="Storage driver. [default: the driver of the store; for a new store, the best that works here]",
)
@click.option(
    "--driver-opt", metavar="KEY=VALUE", type=KEY_VALUE, multiple=True, help="Option of the driver; may be repeated."
)
@click.option(
    "--config",
    metavar="FILE",
    type=PathType(dir_okay=False, readable=False, path_type=Path),
    help="Configuration file to read instead of the user's and the system's.",
)
@click.option("--json", is_flag=True, help="Answer in JSON; also accepted after the command.")
@click.option(
    "-v",
    "--verbose",
    count=True,
    help="Log each step with its object, size and time; -vv also logs driver calls and settings.",
)
@click.option("--log-json", is_flag=True, help="Log in JSON, one object per line.")
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Store, mount and export content-addressed filesystem layers.

    A layer is registered from a tar, mounted as a directory tree, and exported as the same bytes again.

    Answers go to standard output. Progress, logs and errors go to standard error. The exit code is 0 for
    success, 1 for a failure or a finding, and 2 for a wrong command line.
    """
    context.obj = session_from(options)
