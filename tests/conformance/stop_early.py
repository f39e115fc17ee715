"""A pytest plugin for the mutants: end a class of tests at its first failure, which catches the mutant.

The test that caught a mutant when the docs' table was made runs before the others of its class. So a thousand tests
that pass are left out. With `LAYERSTORE_MUTANTS=whole`, the tests run in their own order.
"""

from __future__ import annotations

import os

import pytest

from layerstore_core.conformance.recorder import describe
from tests.conformance.table import caught_by

_caught: set[type] = set()


def pytest_collection_modifyitems(items):
    """Put the test that is known to catch a mutant before the others of its class."""
    if os.environ.get("LAYERSTORE_MUTANTS") == "whole":
        return
    known = caught_by()
    classes = list(dict.fromkeys(item.cls for item in items))
    place = {cls: number for number, cls in enumerate(classes)}
    items.sort(
        key=lambda item: (
            place[item.cls],
            describe(item, "", "")["name"] != known.get(item.cls.__name__.removeprefix("Test")),
        )
    )


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
