"""The options that change an image's config, for all commands that make an image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from layerstore_core.cli.values import CREATED
from layerstore_core.errors import LayerStoreError

#: The options, by the names of the arguments of `ConfigOptions.parse`.
_OPTIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "env": ("--env", {"metavar": "K=V|K-", "multiple": True, "help": "Set or remove a variable; may be repeated."}),
    "entrypoint": (
        "--entrypoint",
        {"metavar": "COMMAND", "help": "First words of the command. Clears an inherited --cmd."},
    ),
    "cmd": ("--cmd", {"metavar": "COMMAND", "help": "Default arguments: a line for a shell, or a JSON array."}),
    "user": ("--user", {"metavar": "USER[:GROUP]", "help": "User of the command."}),
    "workdir": (
        "--workdir",
        {"metavar": "DIR", "help": "Working directory; may be relative to the inherited one."},
    ),
    "labels": ("--label", {"metavar": "K=V|K-", "multiple": True, "help": "Set or remove a label; may be repeated."}),
    "annotations": (
        "--annotation",
        {
            "metavar": "K=V|K-",
            "multiple": True,
            "help": "Set or remove an annotation of the manifest; may be repeated.",
        },
    ),
    "expose": (
        "--expose",
        {"metavar": "PORT[-]", "multiple": True, "help": "Add or remove a port (80, 53/udp); may be repeated."},
    ),
    "volumes": (
        "--volume",
        {"metavar": "DIR[-]", "multiple": True, "help": "Add or remove a volume; may be repeated."},
    ),
    "stop_signal": ("--stop-signal", {"metavar": "SIGNAL", "help": "Signal that ends a container."}),
    "healthcheck": ("--healthcheck", {"metavar": "TEXT", "help": "'[--interval=30s …] CMD command', or NONE."}),
    "created": (
        "--created",
        {"metavar": "TIME", "type": CREATED, "help": "Time of the image. [default: SOURCE_DATE_EPOCH, or now]"},
    ),
    "message": ("--message", {"metavar": "TEXT", "help": "Comment for the image's history."}),
    "author": ("--author", {"metavar": "TEXT", "help": "Author of the image."}),
}


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets one argument for all of them: `options`, a `ConfigOptions`.

    An empty value removes a setting that has only one.
    """

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        from layerstore_core.images.config.options import ConfigOptions

        given = {name: arguments.pop(name) for name in _OPTIONS}
        for name, value in given.items():
            try:
                ConfigOptions.parse(**{name: value})
            except ValueError as error:
                if isinstance(error, LayerStoreError):
                    raise
                raise click.BadParameter(str(error), param_hint=f"'{_OPTIONS[name][0]}'") from None
        options = ConfigOptions.parse(**given)
        command(**arguments, options=options)

    for name, (option, settings) in reversed(_OPTIONS.items()):
        with_options = click.option(option, name, **settings)(with_options)
    return with_options
