"""The commands, a module each; `rw` is a family of its own. They import the store when they run, not before."""

from __future__ import annotations

from typing import Final

import click

from layerstore_core.cli.commands.check import check
from layerstore_core.cli.commands.completion import completion
from layerstore_core.cli.commands.conformance import conformance
from layerstore_core.cli.commands.drivers import drivers
from layerstore_core.cli.commands.export import export
from layerstore_core.cli.commands.gc import gc
from layerstore_core.cli.commands.history import history
from layerstore_core.cli.commands.images import images
from layerstore_core.cli.commands.info import info
from layerstore_core.cli.commands.load import load
from layerstore_core.cli.commands.ls import ls
from layerstore_core.cli.commands.register import register
from layerstore_core.cli.commands.rm import rm
from layerstore_core.cli.commands.rmi import rmi
from layerstore_core.cli.commands.rw import rw
from layerstore_core.cli.commands.save import save
from layerstore_core.cli.commands.show import show
from layerstore_core.cli.commands.tag import tag

COMMANDS: Final[dict[str, click.Command]] = {
    command.name or "": command
    for command in (
        drivers,
        info,
        register,
        ls,
        show,
        export,
        rm,
        rw,
        load,
        save,
        images,
        history,
        tag,
        rmi,
        check,
        gc,
        conformance,
        completion,
    )
}
