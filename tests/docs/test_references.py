"""Names, files and links in docstrings and documents exist."""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.surroundings import TOP

SOURCES = sorted(
    path
    for pattern in (
        "layerstore_core/**/*.py",
        "drivers/*/layerstore_*/**/*.py",
        "bridges/*/layerstore_*/**/*.py",
        "examples/*/layerstore_*/**/*.py",
        "native/layerstore_native/*.py",
        "native/layerstore_native/*.pyi",
    )
    for path in TOP.glob(pattern)
)
DOCUMENTS = [*sorted(TOP.glob("*.md")), *sorted(TOP.glob("docs/**/*.md")), *sorted(TOP.glob("*/*/README.md"))]
#: Words in backticks that are not names of this code, but of other projects, formats, programs and image references.
OTHERS = {
    "Clean",
    "Entry",
    "GNU",
    "LAYERSTORE_CONFIG",
    "NaiveDiffDriver",
    "Popen",
    "ProtoDriver",
    "SCHILY",
    "UnpackLayer",
    "fastcrc",
    "txt",
    "app",
    "debian",
    "dqblk_xfs",
    "erofs",
    "filling",
    "h",
    "hdrcharset",
    "library",
    "linkdata",
    "long",
    "md",
    "mkfs",
    "mount_api",
    "nohup",
    "pax",
    "ping",
    "rst",
    "v7",
    "xattr",
    "y",
}


#: Files that a command writes.
MADE = {"benchmarks/results"}


@cache
def names() -> frozenset[str]:
    """Return all identifiers and string constants of the code, and the names of its modules."""
    found = {*dir(builtins), *dir(os), *keyword.kwlist, *OTHERS}
    for path in SOURCES:
        found |= {*path.relative_to(TOP).with_suffix("").parts}
        for node in ast.walk(ast.parse(path.read_text())):
            for field in ("name", "id", "attr", "arg"):
                if isinstance(value := getattr(node, field, None), str):
                    found |= set(value.split("."))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 60:
                found.add(node.value)
    return frozenset(found)


def docstrings(path: Path) -> list[str]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return [text for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_names_in_docstrings_exist(path: Path) -> None:
    text = "\n".join(docstrings(path))
    mentioned = {part for word in re.findall(r"`([A-Za-z_][\w.]*)(?:\(\))?`", text) for part in word.split(".") if part}
    assert mentioned - names() == set()
    files = set(re.findall(r"`((?:docs|tests|drivers|examples|layerstore_core)/[\w./-]+)`", text))
    assert [file for file in files if not (TOP / file).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_and_files_in_documents_exist(path: Path) -> None:
    text = path.read_text()
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert [link for link in links if link and not (path.parent / link).exists()] == []
    files = set(re.findall(r"`((?:docs|tests|drivers|examples|layerstore_core|benchmarks)/[\w./-]+)`", text))
    # The tutorial and the examples name files of a driver's package from inside it.
    places = (TOP, path.parent, TOP / "examples" / "minimal")
    assert [file for file in files - MADE if not any((place / file).exists() for place in places)] == []
