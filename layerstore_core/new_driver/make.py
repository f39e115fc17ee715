"""Making a package: its names, its files, and the directory that appears whole or not at all."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Final

from layerstore_core.driver.registry import installed_drivers, is_name_on_disk
from layerstore_core.images.output import directory_at

if TYPE_CHECKING:
    from layerstore_core.new_driver.kinds import Kind

PREFIX: Final = "layerstore-driver-"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
#: A longer name makes lines that are too long.
_LONGEST: Final = 40
#: The templates that all kinds share, by the file that is made of them. `$$module` is the name of the package.
_COMMON: Final = {
    ".github/workflows/ci.yml": "ci.yml",
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "tests/test_conformance.py": "test_conformance.py",
}


@dataclass(frozen=True, slots=True)
class NewDriver:
    """The package of a new driver.

    Attributes:
        name: the driver's name.
        kind: its kind.
        directory: where the package is, as the user named it.
        files: the paths of its files below the directory, sorted.
    """

    name: str
    kind: Kind
    directory: str
    files: tuple[str, ...]

    @property
    def package(self) -> str:
        """The name of the distribution."""
        return PREFIX + self.name

    @property
    def module(self) -> str:
        """The name of the package to import."""
        return module_of(self.name)


def make_driver(name: str, kind: Kind, directory: str | None = None) -> NewDriver:
    """Make a package for a new driver.

    Args:
        name: the driver's name, such as `my-driver`.
        kind: its kind.
        directory: a new or empty directory; `None` is one in the current directory, named as the distribution.

    Raises:
        ValueError: the name is none, or another driver or package has it; or the directory is the current one.
        FileExistsError: the directory is not empty, or there is a file.
        OSError: the directory cannot be made. Nothing is left of it.
    """
    check_name(name)
    target = (directory or PREFIX + name).rstrip("/") or "/"
    _refuse_current_directory(target)
    names = _names(name, kind)
    texts = {
        Template(path).substitute(names): Template(_template(template)).substitute(names) if template else ""
        for path, template in templates_of(kind).items()
    }
    with directory_at(target) as output:
        for path, text in sorted(texts.items()):
            content = text.encode()
            output.add(path, len(content), [content])
    return NewDriver(name, kind, target, tuple(sorted(texts)))


def check_name(name: str) -> None:
    """Refuse a name that no new driver can have.

    Raises:
        ValueError: the name is none, or another driver or package has it.
    """
    if name.startswith(PREFIX) and _NAME.fullmatch(short := name.removeprefix(PREFIX)):
        raise ValueError(f"{name!r} is the name of a package; give the driver's own name: {short}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be the name of a driver: use lower-case letters, digits and single hyphens between them, "
            "the first a letter, such as my-driver"
        )
    if len(name) > _LONGEST:
        raise ValueError(f"{name!r} has {len(name)} characters; the name of a driver has {_LONGEST} at most")
    if not is_name_on_disk(name):
        raise ValueError(f"{name!r} cannot be the name of a driver: a store has other files of this name")
    for driver in installed_drivers():
        if driver.name == name:
            raise ValueError(
                f"the driver {name!r} is installed already, from {driver.distribution} {driver.version}; choose "
                "another name"
            )
    if importlib.util.find_spec(module_of(name)) is not None:
        raise ValueError(
            f"the driver {name!r} would be the Python package {module_of(name)}, which is installed already; choose "
            "another name"
        )


def module_of(name: str) -> str:
    """Return the name of the package to import."""
    return f"layerstore_{name.replace('-', '_')}"


def _refuse_current_directory(target: str) -> None:
    """Refuse the current directory: the new one takes its place, and the shell would stay in the old one.

    Raises:
        ValueError: it is the current directory.
    """
    if os.path.isdir(target) and os.path.samefile(target, os.curdir):
        raise ValueError(
            f"{target!r} is the current directory, and a new one would take its place: go to the directory above it, "
            "and name it there"
        )


def _names(name: str, kind: Kind) -> dict[str, str]:
    words = "".join(word.capitalize() for word in name.split("-"))
    return {
        "class_name": words if words.endswith("Driver") and words != "DirectoryDriver" else f"{words}Driver",
        "keeps": kind.keeps,
        "kind": kind.name,
        "module": module_of(name),
        "name": name,
        "needs": kind.needs,
        "options": kind.options,
        "package": PREFIX + name,
        "test_name": f"Test{words}",
    }


def templates_of(kind: Kind) -> dict[str, str]:
    """Return the templates of a kind, by the file that is made of each; an empty file has none."""
    found = {path: f"common/{template}" for path, template in _COMMON.items()}
    for module in kind.modules:
        path = "__init__.py" if module == "driver.py" else module
        found[f"$module/{path}"] = f"{kind.name}/{module}"
    return {**found, "$module/py.typed": "", "tests/test_driver.py": f"{kind.name}/test_driver.py"}


def _template(name: str) -> str:
    return files("layerstore_core.new_driver").joinpath("templates", f"{name}.in").read_text("utf-8")
