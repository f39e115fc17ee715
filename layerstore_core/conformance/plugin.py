"""The pytest plugin: the file system under test, and a choice of groups."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("layerstore_core.conformance.groups", "layerstore_core.conformance.trees")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the kit."""
    group = parser.getgroup("conformance", "layerstore's conformance kit")
    group.addoption(
        "--conformance-only",
        metavar="GROUP",
        action="append",
        default=[],
        help="run only the conformance tests of this group; may be repeated",
    )
    group.addoption(
        "--conformance-root", metavar="DIR", type=Path, help="try drivers below this directory, instead of their own"
    )
    group.addoption(
        "--conformance-examples", metavar="N", type=int, help="how many random sequences the group model tries"
    )
    group.addoption(
        "--conformance-scripts",
        metavar="DIR",
        type=Path,
        help="where the group model writes a sequence that fails [.conformance below pytest's root]",
    )
    group.addoption(
        "--conformance-replay", metavar="FILE", type=Path, help="let the group model replay this sequence, and no other"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the groups that were not asked for."""
    wanted: list[str] = config.getoption("--conformance-only")
    if not wanted:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (kept if group_of(item) in (None, *wanted) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def group_of(item: pytest.Item) -> str | None:
    """The group of a conformance test; `None` for any other test."""
    function = getattr(item, "function", None)
    suite = getattr(item, "cls", None)
    if suite is None or function is None:
        return None
    for base in suite.__mro__:
        if function.__name__ in vars(base):
            return getattr(base, "group", None) or None
    return None


@pytest.fixture(scope="class")
def conformance_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the drivers of one class of tests have their roots."""
    chosen: Path | None = request.config.getoption("--conformance-root")
    if chosen is not None:
        directory = chosen / f"conformance-{secrets.token_hex(4)}"
        directory.mkdir(parents=True)
        yield directory
        os.rmdir(directory)
        return
    with request.cls().make_root(tmp_path_factory) as root:
        yield Path(root)
