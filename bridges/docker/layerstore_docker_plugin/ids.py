"""The IDs of layers: Docker's, and those that a layerstore driver takes.

Docker's own are 64 hex digits, some with `-init`, or 25 digits and small letters (of the builder). Drivers take 1 to
128 characters of `[a-z0-9-]`. Any other ID, such as those of moby's tests, becomes `id-` and its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_PLAIN: Final = re.compile(r"[a-z0-9-]{1,128}", re.ASCII)
#: With this beginning, an ID is always hashed, so that no two IDs become the same.
_HASHED: Final = "id-"


def driver_id(layer_id: str) -> str:
    """Return the ID that the driver has for a layer."""
    if _PLAIN.fullmatch(layer_id) and not layer_id.startswith(_HASHED):
        return layer_id
    return _HASHED + hashlib.sha256(layer_id.encode("utf-8", "surrogatepass")).hexdigest()
