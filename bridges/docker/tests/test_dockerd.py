"""A real Docker daemon over our server. `real_dockerd.py` has more, for `make engines`."""

from __future__ import annotations

import pytest

from tests.docker import daemon
from tests.driver_roots import why_not

from . import engine

pytestmark = [pytest.mark.needs_root, pytest.mark.xdist_group("docker")]


@pytest.fixture(autouse=True)
def _needs_docker():
    if reason := daemon.why_not() or why_not("overlay2"):
        pytest.skip(reason)


def test_a_daemon_over_overlay2(tmp_path):
    with engine.served_daemon(tmp_path, "overlay2") as (docker, served):
        engine.use(docker)
        assert len(engine.layers_left(served)) >= 6
        engine.remove_all(docker)
        assert engine.layers_left(served) == []
        assert docker.errors() == []
