from __future__ import annotations

import pytest

from tests.docker import daemon

DRIVERS = ("vfs", "overlay2", "btrfs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests with daemons one after another: on two cores, two daemons at once are not quicker."""
    for item in items:
        if "/tests/docker/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("docker"))


@pytest.fixture(autouse=True)
def _needs_docker() -> None:
    if reason := daemon.why_not():
        pytest.skip(reason)
