"""The pytest plugin: the file system under test, a choice of groups, and the report.

pytest imports this module in every environment that has layerstore-core installed: it imports nothing of it until a test
of the kit is run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

pytest.register_assert_rewrite("layerstore_core.conformance.groups", "layerstore_core.conformance.trees")

_SPEED: Final = "speed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the kit."""
    group = parser.getgroup("conformance", "layerstore's conformance kit")
    group.addoption(
        "--conformance-only",
        metavar="GROUP",
        action="append",
        default=[],
        help="of the conformance tests, run only this group; may be repeated",
    )
    group.addoption("--conformance-speed", action="store_true", help="measure the speed of drivers, too")
    group.addoption(
        "--conformance-root", metavar="DIR", type=Path, help="try drivers below this directory, instead of their own"
    )
    group.addoption(
        "--conformance-report",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="write a report, in the format that the name ends with: .json, .xml (JUnit), .md, .txt; may be repeated",
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


def pytest_configure(config: pytest.Config) -> None:
    """Gather results where a report is wanted; of several processes (xdist), only the first one does."""
    reports: list[Path] = config.getoption("--conformance-report")
    if reports and not hasattr(config, "workerinput"):
        from layerstore_core.conformance.recorder import Recorder

        seed = config.getoption("--hypothesis-seed", None)
        config.pluginmanager.register(Recorder(reports, "" if seed is None else str(seed)), "conformance-recorder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the groups that were not asked for; the speed is measured only on demand."""
    wanted: list[str] = config.getoption("--conformance-only")
    speed = config.getoption("--conformance-speed") or _SPEED in wanted
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        group = group_of(item)
        chosen = group is None or not wanted or group in wanted
        (kept if chosen and (speed or group != _SPEED) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def group_of(item: pytest.Item) -> str | None:
    """The group of a conformance test; `None` for any other test."""
    function = getattr(item, "function", None)
    suite: type | None = getattr(item, "cls", None)
    if suite is None or function is None:
        return None
    for base in suite.__mro__:
        if function.__name__ in vars(base):
            return getattr(base, "group", None) if hasattr(base, "make_root") else None
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the report know what a test is about."""
    group = group_of(item)
    if group is None or not item.config.getoption("--conformance-report"):
        return
    from layerstore_core.conformance import recorder

    suite: Any = getattr(item, "cls", None)
    driver = suite.driver or getattr(suite.factory, "driver_name", "")
    item.user_properties.append((recorder.ABOUT, recorder.describe(item, group, driver)))


@pytest.fixture(scope="class")
def conformance_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the drivers of one class of tests have their roots."""
    chosen: Path | None = request.config.getoption("--conformance-root")
    if chosen is not None:
        directory = chosen.absolute() / f"conformance-{secrets.token_hex(4)}"
        directory.mkdir(parents=True)
        yield directory
        os.rmdir(directory)
        return
    with request.cls().make_root(tmp_path_factory) as root:
        yield Path(root)
