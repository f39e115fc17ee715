"""The public names of `layerstore_core`: three lists that agree, complete signatures, true documents."""

from __future__ import annotations

import ast
import configparser
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import layerstore_core
from layerstore_core import errors, log, sdk
from layerstore_core.driver import hookspecs

PACKAGE = Path(layerstore_core.__file__).parent
NAMES = sorted(set(layerstore_core.__all__) - {"__version__"})
#: Made by the package alone: what their constructors take is not for users.
NOT_CONSTRUCTED = {
    "BlobResponse",
    "Image",
    "Images",
    "Layer",
    "LayerStore",
    "LayerStream",
    "RWLayer",
    "TreeView",
    "ViewPath",
}
#: What this package's own modules use, and what is documented as an object of the contract.
INTERNAL = {"BoundDriver.__init__", "DriverContext.core_access", "LayerStore.driver", "Limits.of"}


@cache
def own_types() -> frozenset[str]:
    """The classes and type aliases that this package defines."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(name for name in found if re.fullmatch(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*", name))


def signatures(name: str, value: Any) -> dict[str, dict[str, Any]]:
    """The annotations of a function, or of each public method and attribute of a class, by qualified name."""
    if not inspect.isclass(value):
        return {name: getattr(value, "__annotations__", {})}
    found = {name: {key: hint for key, hint in vars(value).get("__annotations__", {}).items() if key[0] != "_"}}
    for key, member in vars(value).items():
        if key.startswith("_") and (key != "__init__" or name in NOT_CONSTRUCTED):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function):
            found[f"{name}.{key}"] = function.__annotations__
    return found


@pytest.mark.parametrize("module", [layerstore_core, sdk])
def test_the_lists_of_public_names_agree(module: ModuleType) -> None:
    assert module.__file__ is not None
    (block,) = [
        node
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imported = {
        alias.name: str(node.module).removeprefix("layerstore_core.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == module._HOMES
    assert sorted(set(module.__all__) - {"__version__"}) == sorted(imported)


def test_a_name_of_several_public_modules_is_the_same_object_in_each() -> None:
    found: dict[str, set[int]] = {}
    for module in (layerstore_core, sdk, log):
        for name in module.__all__:
            found.setdefault(name, set()).add(id(getattr(module, name)))
    found["while_doing"].add(id(errors.while_doing))
    assert {name: ids for name, ids in found.items() if len(ids) > 1} == {}


def test_the_sdk_documents_each_of_its_names() -> None:
    table = "\n".join(line for line in (sdk.__doc__ or "").splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", table)) == set(sdk.__all__)


def test_the_sdk_loads_a_name_when_it_is_first_used() -> None:
    program = (
        "import sys, layerstore_core.sdk\n"
        "print(*sorted(name for name in sys.modules if name.startswith('layerstore_core')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["layerstore_core", "layerstore_core._version", "layerstore_core.sdk"]


def test_drivers_may_import_the_public_modules_only() -> None:
    """The contract for import-linter forbids every other module of the core."""
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / ".importlinter")
    forbidden = config["importlinter:contract:drivers"]["forbidden_modules"].split()
    children = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    allowed = {"__init__", "errors", "log", "sdk"}
    assert sorted(forbidden) == sorted(f"layerstore_core.{name}" for name in children - allowed)


PUBLIC = [*((layerstore_core, name) for name in NAMES), *((sdk, name) for name in sdk.__all__ if name != "inside")]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_public_name_can_be_imported_and_has_public_types(module: ModuleType, name: str) -> None:
    private = {}
    for where, hints in signatures(name, getattr(module, name)).items():
        words = {word for hint in hints.values() for word in re.findall(r"\w+", str(hint))}
        missing = (words & own_types()) - {*NAMES, *sdk.__all__}
        if missing and where not in INTERNAL:
            private[where] = missing
    assert private == {}


def test_names_in_the_documents_are_public() -> None:
    text = (PACKAGE.parent / "docs" / "python.md").read_text()
    mentioned = set(re.findall(r"`(?:layerstore_core\.)?([a-z_]+|[A-Z]\w+)`", text))
    functions = {
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    members = {key for name in NAMES for key in dir(getattr(layerstore_core, name)) if key[0] != "_"}
    assert mentioned & (own_types() | functions) - {*NAMES, *sdk.__all__, *hookspecs.__all__} - members == set()
