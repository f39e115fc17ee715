"""An image of the store: its config, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layerstore_core.base.digests import ChainID, DiffID, ImageID, chain_ids
from layerstore_core.images.formats.documents import ImageConfig


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A step by which an image came about.

    Attributes:
        created: when, as the config says it; may be empty.
        created_by: the command.
        comment: what was noted.
        layer: the layer that the step made; `None` for one that only changed the config.
        size: of that layer, in bytes.
    """

    created: str
    created_by: str
    comment: str
    layer: ChainID | None
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the store.

    Attributes:
        image_id: the digest of its config.
        config: its config.
        names: what it is called, sorted; may be empty.
        size: of all its layers, in bytes; `None` where a layer is missing.
    """

    image_id: ImageID
    config: ImageConfig
    names: tuple[str, ...]
    size: int | None

    @property
    def diff_ids(self) -> tuple[DiffID, ...]:
        """The layers, the base first."""
        return self.config.diff_ids

    @property
    def chain_ids(self) -> list[ChainID]:
        """The names that the layers have in the store, the base first."""
        return chain_ids(self.diff_ids)

    @property
    def chain_id(self) -> ChainID | None:
        """The topmost layer; `None` for an image without layers."""
        return self.chain_ids[-1] if self.diff_ids else None

    @property
    def created(self) -> str:
        """When it was made, as the config says it; may be empty."""
        return text_of(self.config.document, "created")


def text_of(document: Mapping[str, Any], key: str) -> str:
    """A string in somebody else's JSON; empty where there is none."""
    found = document.get(key)
    return found if isinstance(found, str) else ""
