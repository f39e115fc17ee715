"""How much is done: what continuous integration has the time for, or all of it (`make reliability`)."""

from __future__ import annotations

import os
from typing import Final

#: Minutes for each proof instead of seconds.
THOROUGH: Final = os.environ.get("LAYERSTORE_RELIABILITY", "") not in ("", "0")
#: Where pseudo-random choices begin; any other number is as good.
SEED: Final = int(os.environ.get("LAYERSTORE_RELIABILITY_SEED", "1"))
