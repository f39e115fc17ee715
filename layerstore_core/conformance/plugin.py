"""The pytest plugin: the file system under test, a choice of groups, and the report.

pytest imports this module in every environment that has layerstore-core installed. So the module imports nothing of
layerstore-core until a test of the kit runs.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from layerstore_core.conformance.base import ConformanceTests

pytest.register_assert_rewrite("layerstore_core.conformance.groups", "layerstore_core.conformance.trees")

_SPEED: Final = "speed"
_TREES: Final = "layerstore_core.conformance.trees"
#: For each class of tests: how many tests each group has.
_KNOWN: Final = pytest.StashKey[dict[type, dict[str, int]]]()
#: Why no test of a class can be run.
_PROBLEM: Final = pytest.StashKey[str]()
#: The reason for which a test is declared to fail.
_LIMIT: Final = pytest.StashKey[str]()


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
        help="write a report, in the format of its suffix: .html, .md, .txt, .json, .xml (JUnit); may be repeated",
    )
    group.addoption(
        "--conformance-quick",
        action="store_true",
        help="run only the tests of the kit that find most faults for their time",
    )
    group.addoption(
        "--conformance-keep",
        action="store_true",
        help="keep the roots of failed tests under --conformance-root, with mounts and the driver's log",
    )
    group.addoption(
        "--conformance-examples",
        metavar="N",
        type=int,
        help="the number of random sequences that the group model tries, of calls that the group faults lets fail or "
        "kills the process at [all], and of steps inside each hook [4]",
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
    config.stash[_KNOWN] = {}
    if config.getoption("--conformance-keep") and config.getoption("--conformance-root") is None:
        raise pytest.UsageError("--conformance-keep needs --conformance-root DIR, the directory to keep roots in")
    reports: list[Path] = config.getoption("--conformance-report")
    if reports and not hasattr(config, "workerinput"):
        from layerstore_core.conformance.outcomes.results import EXAMPLES
        from layerstore_core.conformance.recorder import Recorder

        seed = config.getoption("--hypothesis-seed", None)
        examples = config.getoption("--conformance-examples") or EXAMPLES
        config.pluginmanager.register(
            Recorder(reports, "" if seed is None else str(seed), examples), "conformance-recorder"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that are declared to fail, and deselect the groups that were not asked for.

    The speed is measured only on demand. Tests are counted before any of them is deselected.
    """
    suites: dict[type[ConformanceTests], list[tuple[pytest.Item, str]]] = {}
    for item in items:
        if (group := group_of(item)) is not None:
            suites.setdefault(getattr(item, "cls"), []).append((item, group))  # noqa: B009
    for suite, tests in suites.items():
        missing = _tests_of(suite).keys() - {getattr(item, "originalname", item.name) for item, _ in tests}
        config.stash[_KNOWN][suite] = dict(
            Counter([group for _, group in tests]) + Counter(_tests_of(suite)[name] for name in missing)
        )
        if problem := _mark_limits(suite, tests, missing):
            for item, _ in tests:
                item.stash[_PROBLEM] = problem
    _deselect_groups(config, items)


def _deselect_groups(config: pytest.Config, items: list[pytest.Item]) -> None:
    only: list[str] = config.getoption("--conformance-only")
    quick: Collection[str] | None = None
    if config.getoption("--conformance-quick"):
        from layerstore_core.conformance.command.quick import QUICK

        quick = QUICK
    speed = config.getoption("--conformance-speed") or _SPEED in only
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        group = group_of(item)
        chosen = group is None or ((not only or group in only) and (quick is None or item.name in quick))
        (kept if chosen and (speed or group != _SPEED) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _tests_of(suite: type) -> dict[str, str]:
    """Return the names of all functions of the kit in a class of tests, with their groups."""
    found: dict[str, str] = {}
    for base in suite.__mro__:
        if hasattr(base, "make_root") and (group := getattr(base, "group", "")):
            found.update({name: group for name in vars(base) if name.startswith("test_") and name not in found})
    return found


def _mark_limits(suite: type[ConformanceTests], tests: list[tuple[pytest.Item, str]], missing: set[str]) -> str:
    """Mark the tests that are declared to fail. They are marked as strict: passing is a failure.

    Returns:
        What is wrong with the declaration, in a process of xdist. Empty otherwise.

    Raises:
        UsageError: a limit names no test, or has no reason.
    """
    from layerstore_core.conformance.base import name_of
    from layerstore_core.conformance.outcomes.known_limits import check_names, declared_limits, limit_of
    from layerstore_core.errors import LayerStoreError

    try:
        limits = declared_limits(suite, name_of(suite))
        names = [(group, item.name) for item, group in tests]
        # Not all of the class may be collected: then the parameters of the others are not known.
        missed = [(_tests_of(suite)[name], name) for name in missing]
        checked = {
            limit: reason
            for limit, reason in limits.items()
            if not any(limit.startswith(f"{group}: {name}[") for group, name in missed)
        }
        check_names(checked, [*names, *missed], suite.__name__)
    except (LayerStoreError, pytest.UsageError) as error:
        if hasattr(tests[0][0].config, "workerinput"):  # a process of xdist can report only by a test
            return str(error)
        raise pytest.UsageError(str(error)) from error
    for item, group in tests:
        if reason := limit_of(limits, group, item.name):
            item.stash[_LIMIT] = reason
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    return ""


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
    if problem := item.stash.get(_PROBLEM, ""):
        pytest.fail(problem, pytrace=False)
    group = group_of(item)
    if group is None or not item.config.getoption("--conformance-report"):
        return
    from layerstore_core.conformance import properties, recorder

    suite: Any = getattr(item, "cls", None)
    driver = suite.driver or getattr(suite.factory, "driver_name", "")
    about = recorder.describe(item, group, driver)
    about["known"] = item.config.stash[_KNOWN].get(suite, {})
    about["selection"] = _selection(item.config)
    item.user_properties.append((properties.ABOUT, about))
    if limit := item.stash.get(_LIMIT, ""):
        item.user_properties.append((properties.LIMIT, limit))


def _selection(config: pytest.Config) -> str:
    """Return how the tests were chosen, except by groups. Empty if all were."""
    from layerstore_core.conformance.outcomes.results import WHOLE

    examples = config.getoption("--conformance-examples")
    chosen = {
        "the quick tests": config.getoption("--conformance-quick"),
        f"-k {config.getoption('keyword', '')}": config.getoption("keyword", ""),
        "only those that failed in the last run": config.getoption("lf", False),
        "a sequence that was replayed": config.getoption("--conformance-replay"),
        f"{examples} examples, of {WHOLE}": examples is not None and examples < WHOLE,
    }
    return ", ".join(text for text, given in chosen.items() if given)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say of each failed test, once, what its author needs; and let no test pass that was only tried in part."""
    report = yield
    group = group_of(item)
    if group is None:
        return report
    from layerstore_core.conformance.properties import FAILED, NOT_TRIED

    limit = item.stash.get(_LIMIT, "")
    left_out = [str(reason) for name, reason in item.user_properties if name == NOT_TRIED]
    if report.when == "call" and call.excinfo is None and left_out:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {'; '.join(dict.fromkeys(left_out))}")
    elif report.when == "teardown" and FAILED in item.stash:
        report.outcome = "passed"  # it follows from the failure
        report.longrepr = None
    elif limit and report.when == "setup" and hasattr(report, "wasxfail"):
        # The test could not even begin: that was not declared.
        report.outcome = "failed"
        del report.wasxfail
    if report.failed or hasattr(report, "wasxfail"):
        item.stash[FAILED] = report.failed
        _explain(item, report, call, limit)
    return report


def _explain(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None], limit: str) -> None:
    """Put what the driver's author needs into a report, in the place of a traceback of the kit."""
    from layerstore_core.conformance.failure import Failure, what_happened, where_to_look
    from layerstore_core.conformance.properties import FAILURE
    from layerstore_core.conformance.recorder import describe

    about = describe(item, "", "")
    suite: Any = getattr(item, "cls", None)
    where: tuple[str, ...]
    if call.excinfo is None:
        message = f"the limit does not hold any more: remove it from known_limits. It was: {limit}"
        where = (f"known_limits of {suite.__name__}, or of the driver's package",)
    else:
        error: Any = call.excinfo.value
        message = what_happened(error)
        message = f"after the test: {message}" if report.when == "teardown" else message
        bench = getattr(item, "funcargs", {}).get("bench")
        test = getattr(suite, getattr(item, "originalname", item.name))
        where = where_to_look(error, about["demand"], test, bench, suite.factory)
    report.user_properties.append((FAILURE, {"message": message, "where": list(where)}))
    if item.config.getoption("tbstyle") not in ("long", "native"):
        report.longrepr = Failure(message, where, about["demand"], about["loss"])  # type: ignore[assignment]


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Show where two trees differ, instead of both trees."""
    if op != "==" or not all(_is_tree(one) for one in (left, right)):
        return None
    from layerstore_core.conformance.trees import summary_of_differences

    return summary_of_differences(left, right)


def _is_tree(value: object) -> bool:
    nodes = list(value.values()) if isinstance(value, dict) and value else [value]
    return all(type(node).__module__ == _TREES and type(node).__name__ == "Node" for node in nodes)


@pytest.fixture(scope="class")
def conformance_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the directory in which the drivers of one class of tests have their roots."""
    chosen: Path | None = request.config.getoption("--conformance-root")
    if chosen is not None:
        directory = chosen.absolute() / f"conformance-{secrets.token_hex(4)}"
        directory.mkdir(parents=True)
        yield directory
        if not (request.config.getoption("--conformance-keep") and os.listdir(directory)):
            os.rmdir(directory)
        return
    with request.cls().make_root(tmp_path_factory) as root:
        yield Path(root)
