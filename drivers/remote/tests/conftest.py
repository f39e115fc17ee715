"""Servers for the tests of the remote driver, and the choice of the kit's tests that run without `make nightly`.

With `LAYERSTORE_TEST_REMOTE=whole` the drivers that are served run the whole conformance kit. Without it, each runs the
groups in which a call over a socket can make a difference.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from layerstore_core.conformance.plugin import group_of

from .farm import Farm

HERE = Path(__file__).parent
WHOLE = os.environ.get("LAYERSTORE_TEST_REMOTE", "") == "whole"
#: The groups that each driver runs in any case, by the name of the test class.
GROUPS = {
    "TestVfs": ("lifecycle", "restart"),
    "TestOverlay2": ("mounts",),
}


def pytest_collection_modifyitems(config, items):
    """Leave out the other groups."""
    if WHOLE:
        return
    left_out = [
        item
        for item in items
        if item.path.parent == HERE
        and (group := group_of(item)) is not None
        and group not in GROUPS.get(item.cls.__name__, ())
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        without = set(left_out)
        items[:] = [item for item in items if item not in without]


@pytest.fixture(scope="session")
def farm():
    """The process that has the servers."""
    directory = Path(tempfile.mkdtemp(prefix="lsr-"))
    farm = Farm(directory)
    yield farm
    farm.close()
    shutil.rmtree(directory)
