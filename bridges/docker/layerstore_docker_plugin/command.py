"""The program `layerstore-graphdriver`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from layerstore_core import StoreConfig
    from layerstore_docker_plugin.server import Server

PROGRAM: Final = "layerstore-graphdriver"
DISTRIBUTION: Final = "layerstore-docker-plugin"
#: How long the end waits for requests that are being answered, in seconds.
_PATIENCE: Final = 30.0
_EXIT_FAILED: Final = 1


class KeyValue(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split the word at its first `=`."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not of the form KEY=VALUE.", param, ctx)
        return key, text


class Mode(click.ParamType[int]):
    """The mode of a file, in octal digits."""

    name = "mode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the digits."""
        if isinstance(value, int):
            return value
        text = str(value)
        if not 3 <= len(text) <= 4 or set(text) - set("01234567"):
            self.fail(f"{value!r} is not a mode, such as 0600.", param, ctx)
        return int(text, 8) & 0o777


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the layers. It must not be a store's, nor the daemon's data root.",
)
@click.option("--driver", metavar="NAME", help="Storage driver. [default: that of the layers; or the best that works]")
@click.option(
    "--driver-opt", metavar="KEY=VALUE", type=KeyValue(), multiple=True, help="Option of the driver; may be repeated."
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file to read instead of the user's and the system's.",
)
@click.option(
    "--address",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    default=Path("/run/docker/plugins/layerstore.sock"),
    show_default=True,
    help="Unix socket to listen on. Its name, without .sock, is the daemon's --storage-driver.",
)
@click.option("--socket-mode", metavar="MODE", type=Mode(), default="0600", help="Mode of the socket. [default: 0600]")
@click.option("-v", "--verbose", count=True, help="Log each call; -vv also logs calls of the driver.")
@click.option("--log-json", is_flag=True, help="Log in JSON, one object per line.")
@click.version_option(package_name=DISTRIBUTION, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Lend a layerstore driver to a Docker daemon, as a graph driver plugin.

    Without a command, serve the driver until SIGTERM or SIGINT. Layers that the daemon has mounted stay mounted, and
    the next server goes on with them. Start the server before the daemon.

    \b
    Example:
      layerstore-graphdriver --root /var/lib/layerstore-docker --driver overlay2 &
      dockerd --experimental --storage-driver layerstore
    """
    if context.invoked_subcommand is None:
        if options["root"] is None:
            raise click.UsageError("Missing option '--root': the directory of the layers.")
        _serve(**options)


@cli.command()
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--driver", metavar="NAME", required=True, help="Storage driver.")
@click.option(
    "--driver-opt", metavar="KEY=VALUE", type=KeyValue(), multiple=True, help="Option of the driver; may be repeated."
)
def plugin(target: Path, driver: str, driver_opt: Sequence[tuple[str, str]]) -> None:
    """Make the directory of a managed plugin in DIR, which must not exist yet.

    The plugin has its own copies of the Python packages, and uses the Python of its host: /usr is mounted into it.

    \b
    Example:
      layerstore-graphdriver plugin ./overlay2-plugin --driver overlay2
      docker plugin create layerstore:overlay2 ./overlay2-plugin
      docker plugin enable layerstore:overlay2
      # then start the daemon again, with --experimental --storage-driver layerstore:overlay2
    """
    from layerstore_docker_plugin.managed import build_plugin

    made = build_plugin(target, driver, [f"{key}={value}" for key, value in driver_opt], DISTRIBUTION)
    click.echo(f"{target}: a plugin with {', '.join(made)}")


def _serve(
    *,
    root: Path,
    driver: str | None,
    driver_opt: Sequence[tuple[str, str]],
    config: Path | None,
    address: Path,
    socket_mode: int,
    verbose: int,
    log_json: bool,
) -> None:
    from layerstore_core import load_config
    from layerstore_core.log import configure, logger
    from layerstore_core.sdk import notify_systemd, passed_socket
    from layerstore_docker_plugin.lent import LentDriver
    from layerstore_docker_plugin.server import Server
    from layerstore_docker_plugin.sockets import listening

    def settings(options: Mapping[str, str], uids: Sequence[str], gids: Sequence[str]) -> StoreConfig:
        overrides: dict[str, Any] = {"root": root}
        if driver is not None:
            overrides["driver"] = driver
        if uids:
            overrides["uid_map"] = uids
        if gids:
            overrides["gid_map"] = gids
        return load_config(config, driver_options={**dict(driver_opt), **options}, **overrides)

    configure(verbose, json=log_json)
    with ExitStack() as stack:
        lent = LentDriver(settings)
        stack.callback(lent.close)
        listener = passed_socket() or stack.enter_context(listening(address, socket_mode))
        server = Server(listener, lent)
        stack.enter_context(_stopped_by_signals(server))
        notify_systemd("READY=1")
        logger.info("{} serves {}", PROGRAM, listener.getsockname())
        server.serve()
        notify_systemd("STOPPING=1")
        if left := server.close(_PATIENCE):
            logger.warning("{} requests were still being answered after {} s, and have been cut off", left, _PATIENCE)


@contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    """Let signals stop the server for the length of a `with` block.

    A handler runs only between two steps of the main thread. A signal that comes just before that thread waits would
    be handled after the next connection, so each signal writes into a socket that ends the waiting.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        server.stop()

    with server.waker() as waker:
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, stop)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)


def run(args: Sequence[str]) -> int:
    """Run one command line, and return its exit code: 0, 1 for a failure, 2 for a wrong command line."""
    from layerstore_core import LayerStoreError
    from layerstore_docker_plugin.problems import error_text

    try:
        cli.main(list(args), PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (LayerStoreError, OSError) as error:
        print(f"{PROGRAM}: {error_text(error)}", file=sys.stderr)
        return _EXIT_FAILED
    return 0


def main() -> None:
    """Run the command line in `sys.argv`, and exit (the console script's entry point)."""
    sys.exit(run(sys.argv[1:]))
