"""What may be wrong around a layer's own directory, and how it is made again: all but `diff` can be told from the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from layerstore_core.errors import BadRecord
from layerstore_core.sdk import inside
from layerstore_overlay.layout import LINKS, Layout, is_link_name, new_link_name


class Trouble(NamedTuple):
    """Something that is wrong.

    Attributes:
        problem: in a sentence.
        mend: mends it, and says what it has done; `None` where nothing can be done here.
        of_parent: it is mended by what is said to be the layer's parent, which is to be proved before.
    """

    problem: str
    mend: Callable[[], str] | None
    of_parent: bool = False


def troubles(layout: Layout, layer_id: str, parent_id: str) -> Iterator[Trouble]:
    """Look at a layer; what comes later may depend on what came before, so that mending is to be done in this order.

    Args:
        layout: where layers are.
        layer_id: the layer.
        parent_id: what it stands on, `""` for nothing.
    """
    if not _is_directory(layout.path(layer_id, "diff")):
        yield Trouble(f"the directory {layout.path(layer_id, 'diff')} is missing, and with it the layer's files", None)
        return
    link = layout.read_field(layer_id, "link")
    if link is None or not is_link_name(link):
        what = "missing" if link is None else "damaged"
        yield Trouble(f"{layout.path(layer_id, 'link')} is {what}", partial(_mend_link, layout, layer_id))
    elif not layout.leads_to(link, layer_id):
        yield Trouble(
            f"the link {os.path.join(layout.home, LINKS, link)} is missing, or leads elsewhere",
            partial(_mend_symlink, layout, layer_id, link),
        )
    if not parent_id:
        if os.path.lexists(layout.path(layer_id, "lower")):
            yield Trouble(f"{layout.path(layer_id, 'lower')} names layers below, and it has none", None)
        return
    lower = _wanted_lower(layout, parent_id)
    if lower is not None and layout.read_field(layer_id, "lower") != lower:
        yield Trouble(
            f"{layout.path(layer_id, 'lower')} does not name the layers below",
            partial(_mend_lower, layout, layer_id, lower),
            of_parent=True,
        )
    if not _is_directory(layout.path(layer_id, "work")):
        yield Trouble(
            f"the directory {layout.path(layer_id, 'work')} is missing",
            partial(_mend_work, layout, layer_id),
            of_parent=layout.read_field(layer_id, "lower") is None,  # it may be a base layer, which has none
        )


def mend(layout: Layout, layer_id: str, parent_id: str, *, proved: bool) -> list[str]:
    """Mend what can be mended; returns what was done.

    Args:
        layout: where layers are.
        layer_id: the layer.
        parent_id: what it stands on, `""` for nothing.
        proved: whether that is certain.
    """
    return [
        trouble.mend()
        for trouble in list(troubles(layout, layer_id, parent_id))
        if trouble.mend is not None and (proved or not trouble.of_parent)
    ]


def known_parent(layout: Layout, layer_id: str, parent_id: str) -> str | None:
    """The layer that the first name in `lower` leads to; `None` where there is none that can be read."""
    lower = layout.read_field(layer_id, "lower")
    if lower is None:
        return "" if _is_base(layout, layer_id) else None
    first = lower.partition(":")[0]
    if parent_id and first == f"{LINKS}/{layout.read_field(parent_id, 'link')}":
        return parent_id
    try:
        diff = layout.resolve(first)
    except (OSError, BadRecord):
        return None
    known = os.path.basename(os.path.dirname(diff))
    return known if diff == layout.path(known, "diff") and layout.exists(known) else None


def _is_base(layout: Layout, layer_id: str) -> bool:
    """Whether a layer has no `lower`, and no `work` either: one of the two alone may have been lost."""
    return not any(inside.exists(layout.path(layer_id, name)) for name in ("lower", "work"))


def _wanted_lower(layout: Layout, parent_id: str) -> str | None:
    """What `lower` of a child has to be; `None` where the parent itself is to be mended first."""
    link = layout.read_field(parent_id, "link")
    if link is None or not is_link_name(link):
        return None
    above = layout.read_field(parent_id, "lower")
    if above is None and not _is_base(layout, parent_id):
        return None
    return ":".join(filter(None, (f"{LINKS}/{link}", above)))


def _mend_link(layout: Layout, layer_id: str) -> str:
    # The layers above know it by this name, if there is one.
    known = layout.links_to(layer_id)
    link = known[0] if known else new_link_name()
    layout.rewrite_field(layer_id, "link", link)
    if not known:
        layout.make_link(layer_id, link)
    return f"{layout.path(layer_id, 'link')} written anew"


def _mend_symlink(layout: Layout, layer_id: str, link: str) -> str:
    layout.make_link(layer_id, link)
    return f"the link {os.path.join(layout.home, LINKS, link)} made anew"


def _mend_lower(layout: Layout, layer_id: str, lower: str) -> str:
    layout.rewrite_field(layer_id, "lower", lower)
    return f"{layout.path(layer_id, 'lower')} written anew"


def _mend_work(layout: Layout, layer_id: str) -> str:
    layout.make_work(layer_id)
    return f"the directory {layout.path(layer_id, 'work')} made anew"


def _is_directory(path: str) -> bool:
    try:
        return inside.is_directory(path)
    except (OSError, BadRecord):
        return False
