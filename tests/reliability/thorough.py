"""The extent of the reliability tests: short for continuous integration, or thorough (`make reliability`)."""

from __future__ import annotations

import os
from typing import Final

#: Whether each test takes minutes instead of seconds.
THOROUGH: Final = os.environ.get("LAYERSTORE_RELIABILITY", "") not in ("", "0")
#: The seed of pseudo-random choices. Any other number is as good.
SEED: Final = int(os.environ.get("LAYERSTORE_RELIABILITY_SEED", "1"))
