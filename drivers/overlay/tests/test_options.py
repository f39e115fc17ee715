"""Options of the overlay2 driver and of its layers."""

from __future__ import annotations

import layerstore_overlay
import pytest
from layerstore_overlay import OverlayDriver
from layerstore_overlay.options import Options
from layerstore_overlay.storage_opt import layer_size
from pydantic import ValidationError

from layerstore_core import DriverContext
from layerstore_core.errors import ConfigError
from layerstore_core.log import logger

GIB = 1 << 30


@pytest.mark.parametrize(
    ("given", "size"), [({}, None), ({"size": "10G"}, 10 * GIB), ({"overlay2.size": "1G"}, GIB), ({"size": 4096}, 4096)]
)
def test_options_are_parsed(given, size):
    assert Options.model_validate(given).size == size


@pytest.mark.parametrize("given", [{"size": "much"}, {"size": "0"}, {"colour": "red"}])
def test_bad_options_name_their_key(given):
    with pytest.raises(ValidationError, match=next(iter(given))):
        Options.model_validate(given)


def test_the_size_limit_of_a_layer():
    assert layer_size({}, None) is None
    assert layer_size({}, GIB) == GIB
    assert layer_size({"size": "512m"}, GIB) == GIB // 2
    for bad in "much", "0":
        with pytest.raises(ConfigError, match="storage option size"):
            layer_size({"size": bad}, None)


def test_a_driver_made_without_a_store_validates_its_options(tmp_path):
    with pytest.raises(ValidationError, match="nosuch"):
        OverlayDriver(DriverContext(tmp_path / "home", logger, options={"nosuch": 1}))


def test_the_package_exports_the_model_of_its_options():
    assert layerstore_overlay.Options is Options
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        layerstore_overlay.Other  # noqa: B018
