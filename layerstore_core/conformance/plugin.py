"""The pytest plugin: the file system under test, a choice of groups, and the report.

pytest imports this module in every environment that has layerstore-core installed. So the module imports nothing of
layerstore-core until a test of the kit runs.
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
    """Add the options of the kit."""
    group = parser.getgroup("conformance", "layerstore's conformance kit")
    group.addoption(
        "--conformance-only",
        metavar="GROUP",
        action="append",
        default=[],
        help="run only this group of the conformance tests; may be repeated",
    )
    group.addoption("--conformance-speed", action="store_true", help="also measure the speed of drivers")
    group.addoption(
        "--conformance-root",
        metavar="DIR",
        type=Path,
        help="test drivers under this directory, instead of the one that their test class makes",
    )
    group.addoption(
        "--conformance-report",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="write a report, in the format of the name's suffix: .json, .xml (JUnit), .md, .txt; may be repeated",
    )
    group.addoption(
        "--conformance-examples",
        metavar="N",
        type=int,
        help="the number of random sequences that the group model tries",
    )
    group.addoption(
        "--conformance-scripts",
        metavar="DIR",
        type=Path,
        help="the directory for a sequence of the group model that fails [.conformance under pytest's root]",
    )
    group.addoption(
        "--conformance-replay", metavar="FILE", type=Path, help="replay only this sequence in the group model"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect results if a report was asked for. With several processes (xdist), only the first process does so."""
    reports: list[Path] = config.getoption("--conformance-report")
    if reports and not hasattr(config, "workerinput"):
        from layerstore_core.conformance.recorder import Recorder

        seed = config.getoption("--hypothesis-seed", None)
        config.pluginmanager.register(Recorder(reports, "" if seed is None else str(seed)), "conformance-recorder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the groups that were not asked for. The speed is measured only on demand."""
    only: list[str] = config.getoption("--conformance-only")
    speed = config.getoption("--conformance-speed") or _SPEED in only
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        group = group_of(item)
        chosen = group is None or not only or group in only
        (kept if chosen and (speed or group != _SPEED) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def group_of(item: pytest.Item) -> str | None:
    """Return the group of a conformance test, `None` for any other test."""
    function = getattr(item, "function", None)
    suite: type | None = getattr(item, "cls", None)
    if suite is None or function is None:
        return None
    for base in suite.__mro__:
        if function.__name__ in vars(base):
            return getattr(base, "group", None) if hasattr(base, "make_root") else None
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Record for the report what a test is about."""
    group = group_of(item)
    if group is None or not item.config.getoption("--conformance-report"):
        return
    from layerstore_core.conformance import recorder

    suite: Any = getattr(item, "cls", None)
    driver = suite.driver or getattr(suite.factory, "driver_name", "")
    item.user_properties.append((recorder.ABOUT, recorder.describe(item, group, driver)))


@pytest.fixture(scope="class")
def conformance_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the directory in which the drivers of one class of tests have their roots."""
    chosen: Path | None = request.config.getoption("--conformance-root")
    if chosen is not None:
        directory = chosen.absolute() / f"conformance-{secrets.token_hex(4)}"
        directory.mkdir(parents=True)
        yield directory
        os.rmdir(directory)
        return
    with request.cls().make_root(tmp_path_factory) as root:
        yield Path(root)
