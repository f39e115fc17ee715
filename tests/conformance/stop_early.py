"""A pytest plugin for the mutants: a class of tests ends with its first failure, for it is caught."""

from __future__ import annotations

import pytest

_caught: set[type] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Pass over the rest of a class that has failed."""
    if item.cls not in _caught:
        return None
    # What the class shares is still there, and goes with its last test.
    item.session._setupstate.teardown_exact(nextitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        _caught.add(item.cls)
    return report
