"""The marks of hook specifications and of their implementations (pluggy)."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT: Final = "layerstore"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
