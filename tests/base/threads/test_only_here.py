"""No other module of the core starts threads."""

from __future__ import annotations

import ast
from pathlib import Path

import layerstore_core

PACKAGE = Path(layerstore_core.__file__).parent


def names_in(path: Path) -> set[str]:
    """Return the dotted names that a module imports or uses."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
    return names


def test_threads_are_started_by_one_module() -> None:
    starting = {}
    for path in PACKAGE.rglob("*.py"):
        names = names_in(path)
        found = {name for name in names if name.partition(".")[0] in {"concurrent", "_thread", "multiprocessing"}}
        if found := found | names & {"threading.Thread", "threading.Timer"}:
            starting[path.relative_to(PACKAGE).as_posix()] = found
    assert starting == {"base/threads/pool.py": {"threading.Thread"}}
