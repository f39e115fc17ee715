"""The options that change an image's config, for all commands that make an image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from layerstore_core.errors import LayerStoreError

_OPTIONS: Final = (
    click.option("--env", metavar="K=V|K-", multiple=True, help="Set or remove a variable; may be repeated."),
    click.option("--entrypoint", metavar="COMMAND", help="First words of the command. Clears an inherited --cmd."),
    click.option("--cmd", metavar="COMMAND", help="Default arguments: a line for a shell, or a JSON array."),
    click.option("--user", metavar="USER[:GROUP]", help="User of the command."),
    click.option("--workdir", metavar="DIR", help="Working directory; may be relative to the inherited one."),
    click.option("--label", "labels", metavar="K=V|K-", multiple=True, help="Set or remove a label; may be repeated."),
    click.option(
        "--annotation",
        "annotations",
        metavar="K=V|K-",
        multiple=True,
        help="Set or remove an annotation of the manifest; may be repeated.",
    ),
    click.option(
        "--expose", metavar="PORT[-]", multiple=True, help="Add or remove a port (80, 53/udp); may be repeated."
    ),
    click.option(
        "--volume", "volumes", metavar="DIR[-]", multiple=True, help="Add or remove a volume; may be repeated."
    ),
    click.option("--stop-signal", metavar="SIGNAL", help="Signal that ends a container."),
    click.option("--healthcheck", metavar="TEXT", help="'[--interval=30s …] CMD command', or NONE."),
    click.option("--created", metavar="TIME", help="Time of the image. [default: SOURCE_DATE_EPOCH, or now]"),
    click.option("--message", metavar="TEXT", help="Comment for the image's history."),
    click.option("--author", metavar="TEXT", help="Author of the image."),
)
_NAMES: Final = (
    "env", "entrypoint", "cmd", "user", "workdir", "labels", "annotations", "expose", "volumes", "stop_signal",
    "healthcheck", "created", "message", "author",
)  # fmt: skip


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets one argument for all of them: `options`, a `ConfigOptions`.

    An empty value removes a setting that has only one.
    """

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        from layerstore_core.images.config.created import creation_time
        from layerstore_core.images.config.options import ConfigOptions

        if arguments["created"] is not None:
            try:
                creation_time(arguments["created"])
            except ValueError as error:
                if isinstance(error, LayerStoreError):
                    raise
                raise click.UsageError(f"--created: {error}") from None
        given = {name: arguments.pop(name) for name in _NAMES}
        try:
            options = ConfigOptions.parse(**given)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        command(**arguments, options=options)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options
