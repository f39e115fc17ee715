"""What the tests take for an error of a Docker daemon."""

from pathlib import Path

import pytest

from tests.docker.daemon import errors_of_layers

DIRECTORY = Path("/tmp/layerstore-docker-hud2yy90")
#: Lines of dockerd 20.10, without their times.
CONTAINERD_IS_LATE = (
    'level=error msg="failed connecting to containerd" error="failed to dial '
    f'\\"{DIRECTORY}/exec/containerd/containerd.sock\\": connection refused" module=libcontainerd'
)
OTHER = f'level=error msg="Handler for POST /containers/x returned error: no such file: {DIRECTORY}/exec/x"'
LOST_LAYER = 'level=error msg="Error unmounting container x: layer does not exist"'
LOST_IMAGE = 'level=error msg="not restoring image" os=linux'


@pytest.mark.parametrize("line", [CONTAINERD_IS_LATE, OTHER, 'level=info msg="Loading layers"'])
def test_what_is_not_of_layers_is_no_error(line: str) -> None:
    assert errors_of_layers(line + "\n", DIRECTORY) == []


@pytest.mark.parametrize("line", [LOST_LAYER, LOST_IMAGE])
def test_what_is_of_layers_is_one(line: str) -> None:
    assert errors_of_layers(f"{CONTAINERD_IS_LATE}\n{line}\n{OTHER}\n", DIRECTORY) == [line]
