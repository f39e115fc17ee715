"""The size of the origins of names: one file has all of them, so one image must not take the place of all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from layerstore_core.base.digests import ImageID
from layerstore_core.records.kept.origin import NameOrigins, Origin, encode

#: The largest file of the origins of names, in bytes.
MAX_NAMES: Final = 64 << 20


def encode_names(names: Mapping[str, Mapping[ImageID, Origin]]) -> bytes:
    """Return the JSON of the origins of names."""
    return encode(
        {
            name: {image: origin.document() for image, origin in origins.items()}
            for name, origins in sorted(names.items())
            if origins
        }
    )


def fit_names(
    names: NameOrigins, added: Mapping[str, tuple[ImageID, Origin]], *, from_outside: bool
) -> tuple[NameOrigins, list[str]]:
    """Add as many origins of names as there is room for.

    A name without an origin still has its image, and that has its own origin.

    Args:
        names: the origins of all names.
        added: new origins, each with the image that Docker's list is to have for the name.
        from_outside: whether they come from a layout: such ones leave a quarter of the room free for names that are
            given here.

    Returns:
        All origins, and the names whose new origins were left out.
    """
    left = (MAX_NAMES * 3 // 4 if from_outside else MAX_NAMES) - len(encode_names(names))
    found, left_out = dict(names), []
    for name, (image, origin) in added.items():
        size = len(encode({name: {image: origin.document()}}))
        if size > left:
            left_out.append(name)
            continue
        left -= size
        found[name] = {**found.get(name, {}), image: origin}
    return found, left_out
