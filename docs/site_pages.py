"""The parts of the documentation's site that are generated from the code, and its links to files outside (MkDocs hook).

The command line is generated from click, the settings from their model, the findings from their table, and the lists of
public names from `__all__`: what the site says of these cannot differ from what the program does. A page has
`<!-- generated: NAME -->` where such a part goes.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import click
import griffe

TOP: Final = Path(__file__).parents[1]
PROJECT: Final = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["urls"]["Source"]
PLACE: Final = re.compile(r"<!-- generated: (\w+) -->")
CONTRACT: Final = "layerstore_core.driver.hookspecs"
#: Headings for the packages that public names come from, in the order of the page.
SUBJECTS: Final = {
    "store": "The store and its layers",
    "config": "Settings",
    "images": "Images",
    "registry": "Registries",
    "records": "What belongs to images",
    "maintenance": "Check, repair and garbage collection",
    "errors": "Errors",
    "base": "Digests, sizes and limits",
    "tar": "Tar entries and layer streams",
    "streams": "Streams",
    "unpack": "Unpacking",
    "diff": "Comparing and packing trees",
    "tree": "Trees of files",
    "driver": "For drivers and wrappers",
    "locking": "Locks",
}


def commands() -> str:
    """Return the help texts, one section for each command."""
    from layerstore_core.cli.app import cli

    def sections(command: click.Command, words: tuple[str, ...], parent: click.Context | None) -> Iterator[str]:
        context = click.Context(command, parent, info_name=words[-1], terminal_width=100, max_content_width=100)
        level = "##" if len(words) < 3 else "###"
        yield f"{level} `{' '.join(words)}`\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from sections(found, (*words, name), context)

    return "\n".join(sections(cli, ("layerstore",), None))


def settings() -> str:
    """Return the settings, one section for each field of the model."""
    from layerstore_core.config.settings import SettingFields

    described = {}
    for section in griffe.Docstring(inspect.getdoc(SettingFields) or "").parse("google"):
        if section.kind is griffe.DocstringSectionKind.attributes:
            described = {attribute.name: attribute.description for attribute in section.value}
    lines: list[str] = []
    for field in dataclasses.fields(SettingFields):
        name = field.name
        default = "none" if field.default is None else repr(field.default)
        if field.default is dataclasses.MISSING:
            default = "`/var/lib/layerstore` for root, else below the user's home" if name == "root" else "{}"
        lines += [
            f"## `{name}`",
            "",
            f"{described[name][:1].upper()}{described[name][1:]}",
            "",
            f"- type: `{field.type}`",
            f"- default: {default if ' ' in default else f'`{default}`'}",
            f"- environment: `LAYERSTORE_{name.upper()}`",
            "",
        ]
    return "\n".join(lines)


def findings() -> str:
    """Return the table of the codes that a check may report."""
    from layerstore_core.maintenance.finding import CODES

    lines = ["| code | meaning |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{code}` | {meaning} |" for code, meaning in CODES.items())])


@cache
def homes() -> dict[str, str]:
    """Return each public name of the library, and its full path."""
    core = griffe.load("layerstore_core", search_paths=[TOP])
    names = sorted(map(str, core.exports or ()))
    members = {name: core.members[name] for name in names if not name.startswith("_")}
    return {name: member.target_path for name, member in members.items() if isinstance(member, griffe.Alias)}


def python() -> str:
    """Return all public names of the library, by subject."""
    groups: dict[str, list[str]] = {subject: [] for subject in SUBJECTS}
    for path in homes().values():
        groups.setdefault(path.split(".")[1], []).append(path)
    lines: list[str] = []
    for subject, paths in groups.items():
        if paths:
            lines += [f"## {SUBJECTS.get(subject, subject.capitalize())}", ""]
        for path in paths:
            if path.startswith(CONTRACT) and path.endswith(".FileGetter"):
                lines += [f"`FileGetter` is part of [the contract](contract.md#{CONTRACT}.FileGetter).", ""]
            else:
                lines += [f"::: {path}", "    options: {heading_level: 3}", ""]
    return "\n".join(
        [*lines, "## Logs", "", "::: layerstore_core.log", "    options: {heading_level: 3, members: [enable]}"]
    )


def sdk() -> str:
    """Return the names for drivers."""
    module = importlib.import_module("layerstore_core.sdk")
    lines: list[str] = []
    for name in module.__all__:
        home = getattr(getattr(module, name), "__module__", "")
        path = f"{home}.{name}" if home.startswith("layerstore_core") else f"layerstore_core.sdk.{name}"
        if name in homes():
            lines += [f"## `{name}`", "", f"Also in `layerstore_core`: [{name}](python.md#{path}).", ""]
        else:
            lines += [f"::: {path}", "    options: {heading_level: 2}", ""]
    return "\n".join(lines)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "commands": commands,
    "settings": settings,
    "findings": findings,
    "python": python,
    "sdk": sdk,
}


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Fill in what is generated, and let links to files outside of `docs/` lead to the project's address."""
    markdown = PLACE.sub(lambda match: PARTS[match[1]](), markdown)
    folder = (TOP / "docs" / page.file.src_uri).parent

    def absolute(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if target.is_relative_to(TOP / "docs") or not target.exists():
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({PROJECT}/{kind}/main/{target.relative_to(TOP)}{match[2] or ''})"

    return re.sub(r"\]\((\.\./[^)\s#]+)(#[^)\s]+)?\)", absolute, markdown)


def on_page_content(html: str, /, **_: Any) -> str:
    """Write one colon before a block of code, where docstrings have the two of reStructuredText."""
    return html.replace("::</p>", ":</p>")
