"""Views of tars that are in memory."""

from __future__ import annotations

import io
from functools import partial

from layerstore_core.view.layers import TarLayer
from layerstore_core.view.tree import TreeView
from tests import tars


def view_of(*layers: list[bytes]) -> TreeView:
    """Return a view of layers, each given by the entries of its tar."""
    return TreeView([TarLayer(partial(io.BytesIO, tars.tar(*entries))) for entries in layers])
