"""A pytest plugin for the mutants: end a class of tests at its first failure, which catches the mutant."""

from __future__ import annotations

import pytest

_caught: set[type] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Skip the rest of a class that has failed."""
    if item.cls not in _caught:
        return None
    # The fixtures of the class still exist. They are torn down with its last test.
    item.session._setupstate.teardown_exact(nextitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        _caught.add(item.cls)
    return report
