"""Making the package of a new driver from templates: what `layerstore driver new` does."""

from layerstore_core.new_driver.kinds import KINDS, Kind
from layerstore_core.new_driver.make import NewDriver, make_driver

__all__ = ["KINDS", "Kind", "NewDriver", "make_driver"]
