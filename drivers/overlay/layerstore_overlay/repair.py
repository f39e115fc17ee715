"""Damage in a layer's directory outside of `diff`, and its repair.

The layer's own files, in `diff`, cannot be re-created here. Everything else can be computed from the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from layerstore_core.errors import BadRecord
from layerstore_core.sdk import inside
from layerstore_overlay.layout import LINKS, Layout, is_link_name, new_link_name


class Problem(NamedTuple):
    """One thing that is damaged.

    Attributes:
        description: what is damaged, as a sentence.
        repair: repairs it, and returns what it has done, as a sentence; `None` if it cannot be repaired here.
        needs_parent: the repair depends on the layer's parent, so the parent must have been proved to be right.
    """

    description: str
    repair: Callable[[], str] | None
    needs_parent: bool = False


def find_problems(layout: Layout, layer_id: str, parent_id: str) -> Iterator[Problem]:
    """Look for damage in a layer's directory.

    A later problem may depend on an earlier one, so they must be repaired in this order.

    Args:
        layout: the driver's directories.
        layer_id: the layer.
        parent_id: its parent; `""` for none.
    """
    if not _is_directory(layout.path(layer_id, "diff")):
        diff = layout.path(layer_id, "diff")
        yield Problem(f"the directory {diff} is missing, and with it the layer's files", None)
        return
    link = layout.read_field(layer_id, "link")
    if link is None or not is_link_name(link):
        what = "missing" if link is None else "damaged"
        yield Problem(f"{layout.path(layer_id, 'link')} is {what}", partial(_repair_link_file, layout, layer_id))
    elif not layout.leads_to(link, layer_id):
        yield Problem(
            f"the link {os.path.join(layout.home, LINKS, link)} is missing, or leads elsewhere",
            partial(_repair_symlink, layout, layer_id, link),
        )
    if not parent_id:
        if os.path.lexists(layout.path(layer_id, "lower")):
            yield Problem(f"{layout.path(layer_id, 'lower')} names lower layers, but the layer has no parent", None)
        return
    lower = _expected_lower(layout, parent_id)
    if lower is not None and layout.read_field(layer_id, "lower") != lower:
        yield Problem(
            f"{layout.path(layer_id, 'lower')} does not name the lower layers",
            partial(_repair_lower, layout, layer_id, lower),
            needs_parent=True,
        )
    if not _is_directory(layout.path(layer_id, "work")):
        yield Problem(
            f"the directory {layout.path(layer_id, 'work')} is missing",
            partial(_repair_work, layout, layer_id),
            needs_parent=layout.read_field(layer_id, "lower") is None,  # it may be a base layer, which has no `work`
        )


def repair_layer(layout: Layout, layer_id: str, parent_id: str, *, proved: bool) -> list[str]:
    """Repair what can be repaired; return what was done, each as a sentence.

    Args:
        layout: the driver's directories.
        layer_id: the layer.
        parent_id: its parent; `""` for none.
        proved: the parent is proved to be right. Otherwise repairs that depend on it are left out.
    """
    return [
        problem.repair()
        for problem in list(find_problems(layout, layer_id, parent_id))
        if problem.repair is not None and (proved or not problem.needs_parent)
    ]


def known_parent(layout: Layout, layer_id: str, parent_id: str) -> str | None:
    """Return the layer that the first name in `lower` leads to; `None` if it cannot be read."""
    lower = layout.read_field(layer_id, "lower")
    if lower is None:
        return "" if _is_base(layout, layer_id) else None
    first = lower.partition(":")[0]
    if os.path.dirname(first) != LINKS or not is_link_name(os.path.basename(first)):
        return None  # zeros, for example, as a power cut leaves them
    if parent_id and first == f"{LINKS}/{layout.read_field(parent_id, 'link')}":
        return parent_id
    try:
        diff = layout.resolve(first)
    except (OSError, BadRecord):
        return None
    known = os.path.basename(os.path.dirname(diff))
    return known if diff == layout.path(known, "diff") and layout.exists(known) else None


def _is_base(layout: Layout, layer_id: str) -> bool:
    """Return whether a layer has neither `lower` nor `work`. If only one of them is missing, it may have been lost."""
    return not any(inside.exists(layout.path(layer_id, name)) for name in ("lower", "work"))


def _expected_lower(layout: Layout, parent_id: str) -> str | None:
    """Return what `lower` of a child should be; `None` if the parent itself must be repaired first."""
    link = layout.read_field(parent_id, "link")
    if link is None or not is_link_name(link):
        return None
    parent_lower = layout.read_field(parent_id, "lower")
    if parent_lower is None and not _is_base(layout, parent_id):
        return None
    return ":".join(filter(None, (f"{LINKS}/{link}", parent_lower)))


def _repair_link_file(layout: Layout, layer_id: str) -> str:
    # If a link to the layer exists, its children name the layer by that link.
    known = layout.links_to(layer_id)
    link = known[0] if known else new_link_name()
    layout.rewrite_field(layer_id, "link", link)
    if not known:
        layout.make_link(layer_id, link)
    return f"rewrote {layout.path(layer_id, 'link')}"


def _repair_symlink(layout: Layout, layer_id: str, link: str) -> str:
    layout.make_link(layer_id, link)
    return f"made the link {os.path.join(layout.home, LINKS, link)} again"


def _repair_lower(layout: Layout, layer_id: str, lower: str) -> str:
    layout.rewrite_field(layer_id, "lower", lower)
    return f"rewrote {layout.path(layer_id, 'lower')}"


def _repair_work(layout: Layout, layer_id: str) -> str:
    layout.make_work(layer_id)
    return f"made the directory {layout.path(layer_id, 'work')} again"


def _is_directory(path: str) -> bool:
    """Return whether a directory is at `path`, where a path that cannot be looked at counts as none."""
    try:
        return inside.is_directory(path)
    except (OSError, BadRecord):
        return False
