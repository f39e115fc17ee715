"""The errors in a Docker daemon's log that count for the tests."""

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
def test_errors_of_other_things_than_layers_do_not_count(line: str) -> None:
    assert errors_of_layers(line + "\n", DIRECTORY) == []


@pytest.mark.parametrize("line", [LOST_LAYER, LOST_IMAGE])
def test_errors_of_layers_and_images_count(line: str) -> None:
    assert errors_of_layers(f"{CONTAINERD_IS_LATE}\n{line}\n{OTHER}\n", DIRECTORY) == [line]
