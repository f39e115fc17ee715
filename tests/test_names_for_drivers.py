"""The names for authors of drivers: each is used by a driver, a bridge or an example here, and is in the reference."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import layerstore_core
from docs import site_pages
from layerstore_core import sdk

TOP = Path(layerstore_core.__file__).parents[1]
#: The packages of the core whose names `layerstore_core` exports for drivers.
FOR_DRIVERS = ("diff.", "driver.", "streams.", "tar.", "tree.", "unpack.")
#: Names that nothing here imports, and why they are public all the same.
UNUSED = {
    "EntryMetadata": "a type: what `LayerEntry` has",
    "EntryType": "a type: what `TarEntry` has",
    "FileGetter": "a type: what the hook `diff_getter` returns; `TreeFiles` is one",
    "IDRange": "a type: what `IDMapping` has",
    "ParentTree": "a type: what `ExpectedTree` takes",
    "Run": "a type: what `LayerStream.entries_and_runs` yields",
    "SkipXattr": "a type: what `pack_changes` takes",
    "SourceChanged": "for the hook `check_tree`, where a driver compares contents by itself",
    "TarEntry": "a type: what `LayerStream.entries` yields",
    "enter_user_namespace": "for programs: see docs/python.md",
    "hookspec": "the mark of hook specifications, next to `hookimpl`",
    "pack_tree": "for programs that build images: see docs/python.md",
}


@cache
def names_for_drivers() -> frozenset[str]:
    exported = {name for name, home in vars(layerstore_core)["_HOMES"].items() if home.startswith(FOR_DRIVERS)}
    return frozenset({*sdk.__all__, *exported})


@cache
def used_names() -> frozenset[str]:
    """Return the names that drivers, bridges and examples import, or use as `layerstore_core.NAME` or `sdk.NAME`."""
    found: set[str] = set()
    for pattern in (
        "drivers/*/layerstore_*/**/*.py",
        "examples/*/layerstore_*/**/*.py",
        "bridges/*/layerstore_*/**/*.py",
    ):
        for path in TOP.glob(pattern):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module in ("layerstore_core", "layerstore_core.sdk"):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    found |= {node.attr} if node.value.id in ("layerstore_core", "sdk") else set()
    return frozenset(found)


def test_each_name_for_drivers_is_used_by_one_here() -> None:
    unused = names_for_drivers() - used_names()
    assert unused - UNUSED.keys() == set(), "use it in a driver or an example, or say in UNUSED why it is public"


def test_no_name_is_excused_without_need() -> None:
    assert {name for name in UNUSED if name in used_names() or name not in names_for_drivers()} == set()


def test_each_name_for_drivers_is_in_the_reference() -> None:
    reference = site_pages.sdk() + site_pages.python()
    missing = {name for name in names_for_drivers() if f".{name}\n" not in reference and f"`{name}`" not in reference}
    assert missing == set()
    assert all(f".{name}\n" in site_pages.sdk() or f"## `{name}`" in site_pages.sdk() for name in sdk.__all__)
