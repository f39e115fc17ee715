"""Views of layers of the store: their trees, read from records and files without a mount."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from layerstore_core.store.export import open_files, open_lines
from layerstore_core.view.layers import RecordedLayer, TarLayer, ViewLayer
from layerstore_core.view.tree import TreeView

if TYPE_CHECKING:
    from layerstore_core.store.context import StoreContext
    from layerstore_core.store.nodes import LayerNode


def view_of(
    context: StoreContext,
    node: LayerNode | None,
    on_close: Callable[[], None] | None = None,
    *,
    above: Sequence[ViewLayer] = (),
) -> TreeView:
    """Return a view of a layer with all of its parents.

    Args:
        context: an open store.
        node: the layer, which must not be deleted as long as the view is used; `None` for an empty tree.
        on_close: called once, when the view is closed.
        above: layers that are not in the store, each a child of the one before it; the first one's parent is `node`.
    """
    nodes = list(node.chain())[::-1] if node is not None else []
    return TreeView([*(_view_layer(context, one) for one in nodes), *above], on_close)


def _view_layer(context: StoreContext, node: LayerNode) -> ViewLayer:
    record = node.record
    if context.driver.capabilities.reproduces_exact_diffs:
        parent = node.parent.record.cache_id if node.parent else ""
        return TarLayer(partial(context.driver.diff, record.cache_id, parent))
    return RecordedLayer(
        partial(open_lines, context, record.chain_id), partial(open_files, context, record.chain_id, record.cache_id)
    )
