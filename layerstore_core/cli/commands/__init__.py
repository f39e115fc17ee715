"""The commands, one module each; `rw` is a family of commands in one module.

A module is loaded when its command is called or listed, so that no command waits for the others to load. A command
imports the store when it runs, not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from keyword import iskeyword
from typing import Final

import click


class CommandModules(MutableMapping[str, click.Command]):
    """A mapping from a command's name to the command, which is loaded at its first use.

    The command `ls` is the object `ls` of the module `ls`. A keyword of Python has a line below at its end there.

    Args:
        package: the package with the modules.
        names: the names of the commands.
    """

    def __init__(self, package: str, names: tuple[str, ...]) -> None:
        self._package = package
        self._commands: dict[str, click.Command | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> click.Command:
        command = self._commands[name]
        if command is None:
            inner = f"{name}_" if iskeyword(name) else name
            command = self._commands[name] = getattr(importlib.import_module(f"{self._package}.{inner}"), inner)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)


COMMANDS: Final = CommandModules(
    __name__,
    (
        "drivers",
        "driver",
        "info",
        "register",
        "ls",
        "show",
        "export",
        "rm",
        "rw",
        "load",
        "save",
        "pull",
        "push",
        "tags",
        "append",
        "import",
        "squash",
        "images",
        "inspect",
        "history",
        "files",
        "cat",
        "cp",
        "rootfs",
        "which",
        "diff",
        "explore",
        "mount",
        "umount",
        "tag",
        "commit",
        "config",
        "rebase",
        "rmi",
        "check",
        "gc",
        "du",
        "report",
        "prune",
        "login",
        "logout",
        "unshare",
        "conformance",
        "completion",
    ),
)
