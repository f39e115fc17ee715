"""Rules for all tests of the repository.

With `LAYERSTORE_TEST_STRICT=1`, which continuous integration sets, a skipped test fails. Only a test that is marked
`kernel_option` may be skipped: the machine's kernel was built without that option, and nothing installs it. Tests that
run without the kernels in C (`LAYERSTORE_NATIVE=0`, as `make plain` does) may leave out those that need them.

`LAYERSTORE_TEST_EXAMPLE_GROUPS="lifecycle diffs"` has the drivers of `examples/` run only these groups of the
conformance kit. `.ci/run` sets it, since each of them repeats what vfs proves; `make nightly` runs the whole kit.
Without it, and for authors of drivers, the kit is always whole.

`LAYERSTORE_TEST_SHORT=1` leaves out the tests that are marked `nightly`: they repeat at length, or with other drivers,
what others show. `.ci/run` sets it.

`HYPOTHESIS_PROFILE` sets how long property tests look for a counterexample, for the drivers' tests as well:
`thorough` looks longer, `repeatable` looks at the same examples each time.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from layerstore_core.base.kernels import VARIABLE
from layerstore_core.conformance.plugin import group_of
from tests.in_gate import SHORT

settings.register_profile("default", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=3000)
# The same examples each time: continuous integration judges a change, and does not look for old bugs.
settings.register_profile("repeatable", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

EXAMPLES = Path(__file__).parent / "examples"
EXAMPLE_GROUPS = os.environ.get("LAYERSTORE_TEST_EXAMPLE_GROUPS", "").split()
#: The number of tests that a worker gets at once.
BUNDLE = 20
#: The longest parameter that is a part of a test's name.
LONGEST_NAME = 100
#: The module whose tests run now.
MODULE = pytest.StashKey[Path]()
STRICT = os.environ.get("LAYERSTORE_TEST_STRICT", "") not in ("", "0")


def pytest_configure() -> None:
    """Handle the signals that `nohup`, or a shell that starts the tests in the background, has programs ignore.

    Programs that the tests start would ignore them as well, as programs must; and some tests are about interrupts.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the groups of the kit that the example drivers are not to run, and what `SHORT` leaves out."""
    left_out = [item for item in items if (SHORT and item.get_closest_marker("nightly")) or _is_other_group(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        without = set(left_out)
        items[:] = [item for item in items if item not in without]


def _is_other_group(item: pytest.Item) -> bool:
    """Return whether a test is of a group of the kit that the example drivers are not to run."""
    if not EXAMPLE_GROUPS or EXAMPLES not in item.path.parents:
        return False
    group = group_of(item)
    return group is not None and group not in EXAMPLE_GROUPS


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep large parameters out of the tests' names, which pytest escapes, and sends from process to process.

    Some are tars of megabytes: names of 33 MB in all made the workers larger by hundreds of MB.
    """
    if isinstance(val, (bytes, str)) and len(val) > LONGEST_NAME:
        return f"{argname} of {len(val)}"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Exempt from the garbage collector, before each module's first test, what exists then.

    These are all collected tests, the imported modules, and what the tests of other modules have left. Tests of drivers
    run the collector by hand, so that no object of a failed call keeps a file open. With nine thousand collected tests
    each such run would take 0.3 s.
    """
    if item.config.stash.get(MODULE, None) != item.path:
        item.config.stash[MODULE] = item.path
        gc.collect()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send the tests of a module to the workers in bundles, in the order of collection.

    With `--dist loadgroup`, xdist itself sends each test that is in no group alone, and after each test it goes through
    all that were sent before. For nine thousand tests that takes longer than most modules. Fixtures of a module would
    also be made in all workers. Modules of a few long tests must not come last, as in xdist's order.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class Bundles(LoadGroupScheduling):
        def __init__(self, config: pytest.Config, log: Any) -> None:
            super().__init__(config, log)
            self._bundles: dict[str, str] = {}
            self._sizes: Counter[str] = Counter()

        def _split_scope(self, nodeid: str) -> str:
            if nodeid not in self._bundles:
                scope = super()._split_scope(nodeid)
                if scope == nodeid:  # it is in no group
                    module = nodeid.partition("::")[0]
                    scope = f"{module} {self._sizes[module] // BUNDLE}"
                    self._sizes[module] += 1
                self._bundles[nodeid] = scope
            return self._bundles[nodeid]

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            super().mark_test_complete(node, item_index, duration)
            bundle = self._split_scope(self.registered_collections[node][item_index])
            if all(self.assigned_work[node][bundle].values()):
                del self.assigned_work[node][bundle]

    config.option.loadscopereorder = False
    return Bundles(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        without_kernels = os.environ.get(VARIABLE) == "0" and ("kernels" in reason or VARIABLE in reason)
        if without_kernels or item.get_closest_marker("kernel_option") is not None:
            return report
        report.outcome = "failed"
        report.longrepr = f"skipped, though LAYERSTORE_TEST_STRICT is set: {reason}"
    return report
