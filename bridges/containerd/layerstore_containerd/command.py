"""The program `layerstore-snapshotter`."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from layerstore_core import __version__, log
from layerstore_core.errors import ConfigError, LayerStoreError

PROGRAM: Final = "layerstore-snapshotter"
_UNITS: Final = ("service", "socket")


class KeyValue(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`; the value may be empty, and may contain more `=`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split the word."""
        key, equals, text = value.partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not of the form KEY=VALUE.", param, ctx)
        return key, text


class HostPort(click.ParamType[tuple[str, int]]):
    """`[HOST:]PORT`; a host with colons (IPv6) is in brackets."""

    name = "[host:]port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Split the word."""
        host, _, port = value.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            self.fail(f"{value!r}: put the address in brackets, as in [::1]:9390.", param, ctx)
        if not (port.isascii() and port.isdecimal() and int(port) < 65536):
            self.fail(f"{value!r} is not of the form [HOST:]PORT.", param, ctx)
        return host or "127.0.0.1", int(port)


def default_address() -> Path:
    """Return where the socket is if nothing else is said."""
    runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return Path(runtime, "layerstore", "snapshotter.sock")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the store, which is made if it does not exist. [default: /var/lib/layerstore for root, "
    "otherwise layerstore in $XDG_DATA_HOME or ~/.local/share]",
)
@click.option(
    "--driver",
    metavar="NAME",
    help="Storage driver. [default: the driver of the store; for a new store, the best that works here]",
)
@click.option(
    "--driver-opt", metavar="KEY=VALUE", type=KeyValue(), multiple=True, help="Option of the driver; may be repeated."
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file of layerstore to read instead of the user's and the system's.",
)
@click.option(
    "--address",
    metavar="PATH",
    help="Socket for containerd. [default: /run/layerstore/snapshotter.sock; for an ordinary user, layerstore/"
    "snapshotter.sock in $XDG_RUNTIME_DIR; with socket activation, systemd's socket]",
)
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    type=HostPort(),
    help="Serve metrics for Prometheus, by HTTP. [default host: 127.0.0.1]",
)
@click.option("-v", "--verbose", count=True, help="Log each change; -vv also logs each call, and what the driver does.")
@click.option("--log-json", is_flag=True, help="Log in JSON, one object per line.")
@click.option("--print-unit", type=click.Choice(_UNITS), help="Print systemd's unit for this program, and exit.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def command(
    *,
    root: Path | None,
    driver: str | None,
    driver_opt: tuple[tuple[str, str], ...],
    config: Path | None,
    address: str | None,
    metrics: tuple[str, int] | None,
    verbose: int,
    log_json: bool,
    print_unit: str | None,
) -> None:
    """Serve a store of layers to containerd, as a snapshotter.

    Containers run on any storage driver, and layers that the store has are neither downloaded nor unpacked. It runs
    until SIGTERM; calls that run then are finished. Logs go to standard error.

    \b
    Examples:
      layerstore-snapshotter --root /var/lib/layerstore --driver overlay2 -v
      layerstore-snapshotter --address /run/layerstore/vfs.sock --driver vfs --metrics 9390
      layerstore-snapshotter --print-unit service >/etc/systemd/system/layerstore-snapshotter.service

    containerd finds it by these lines in /etc/containerd/config.toml:

    \b
      [proxy_plugins.layerstore]
        type = "snapshot"
        address = "/run/layerstore/snapshotter.sock"
    """
    if print_unit is not None:
        click.echo(unit(print_unit), nl=False)
        return
    log.configure(verbose, json=log_json)
    # The server's modules are imported for serving alone: gRPC takes longer than all of the rest.
    from layerstore_containerd.server import ServerOptions, serve
    from layerstore_containerd.sockets import parse_address
    from layerstore_core import LayerStore, Snapshots, load_config
    from layerstore_core.sdk import passed_socket

    passed = passed_socket()
    if passed is None:
        place = parse_address(address) if address is not None else default_address()
    else:
        place = parse_address(passed.getsockname())
        if address is not None and parse_address(address) != place:
            raise ConfigError(
                f"systemd has passed the socket {place}, and --address names another; leave out --address"
            )
    overrides: dict[str, Any] = {}
    if root is not None:
        overrides["root"] = root
    if driver is not None:
        overrides["driver"] = driver
    settings = load_config(config, driver_options=dict(driver_opt), **overrides)
    with LayerStore.open(settings) as store, Snapshots(store) as snapshots:
        serve(snapshots, ServerOptions(place, passed, metrics))


def unit(kind: str) -> str:
    """Return a unit of systemd, with the path of this program.

    Args:
        kind: "service" or "socket".
    """
    text = files(__package__).joinpath("units", f"{PROGRAM}.{kind}").read_text()
    program = os.path.abspath(sys.argv[0])
    if os.path.basename(program) != PROGRAM:  # started as `python -m layerstore_containerd`
        program = os.path.join(os.path.dirname(sys.executable), PROGRAM)
    return text.replace("@PROGRAM@", '"' + program.replace("%", "%%") + '"')


def main() -> NoReturn:
    """Run the program, and exit with its code (the console script's entry point)."""
    # Programs that the core starts are started without fork(2) alone; gRPC need not stop its threads for them.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        command.main(prog_name=PROGRAM, standalone_mode=True)
    except (LayerStoreError, OSError) as error:
        from layerstore_containerd.refusals import describe

        print(f"{PROGRAM}: {describe(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
