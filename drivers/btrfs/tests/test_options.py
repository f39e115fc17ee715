"""Options of the btrfs driver and of its layers."""

from __future__ import annotations

import pytest
from layerstore_btrfs.options import Options
from layerstore_btrfs.storage_opt import layer_size
from pydantic import ValidationError

from layerstore_core.errors import ConfigError


@pytest.mark.parametrize("key", ["min_space", "btrfs.min_space"])
@pytest.mark.parametrize(("written", "size"), [("10G", 10 << 30), ("1048576", 1 << 20), (4096, 4096)])
def test_min_space_is_a_size_under_either_name(key, written, size):
    assert Options.model_validate({key: written}).min_space == size


@pytest.mark.parametrize(
    ("given", "named"),
    [({"min_spice": "1G"}, "min_spice"), ({"min_space": "much"}, "'much'"), ({"min_space": -1}, "-1")],
)
def test_bad_options_are_named(given, named):
    with pytest.raises(ValidationError, match=named):
        Options.model_validate(given)


@pytest.mark.parametrize(
    ("given", "size"), [({}, None), ({"size": "1G"}, 1 << 30), ({"SIZE": "512m"}, 512 << 20), ({"size": "64k"}, 65536)]
)
def test_the_size_limit_of_a_layer(given, size):
    assert layer_size(given, 65536) == size


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "63k"}, "below the driver's min_space of 65536 bytes"),
        ({"size": "0"}, "the size must be more than 0"),
        ({"size": "big"}, "'big' is not a size"),
        ({"quota": "1G"}, "'quota': the btrfs driver does not know this option"),
    ],
)
def test_bad_size_limits_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        layer_size(given, 65536)
