"""An image of the store: its config, names and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from layerstore_core.base.digests import ChainID, DiffID, ImageID, chain_ids
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.formats.platforms import Platform


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A step of an image's build.

    Attributes:
        created: the time of the step, as in the config; may be empty.
        created_by: the command.
        comment: the comment.
        layer: the layer that the step made; `None` for a step that only changed the config.
        size: the size of that layer in bytes.
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
        names: its names, sorted; may be empty.
        size: the size of all its layers in bytes; `None` if a layer is missing.
        given_name: the full name by which it was asked for; `None` if it was not by a name. Each name may have
            annotations of its own.
    """

    image_id: ImageID
    config: ConfigDocument
    names: tuple[str, ...]
    size: int | None
    given_name: str | None = field(default=None, compare=False, repr=False)

    @property
    def shown_name(self) -> str:
        """What to call it: the name by which it was asked for, or its first one; its ID if it has none."""
        return self.given_name or next(iter(self.names), str(self.image_id))

    @property
    def diff_ids(self) -> tuple[DiffID, ...]:
        """The diff IDs of the layers, the base first."""
        return self.config.diff_ids

    @property
    def chain_ids(self) -> list[ChainID]:
        """The chain IDs of the layers, the base first."""
        return chain_ids(self.diff_ids)

    @property
    def chain_id(self) -> ChainID | None:
        """The chain ID of the topmost layer; `None` for an image without layers."""
        return self.chain_ids[-1] if self.diff_ids else None

    @property
    def platform(self) -> Platform | None:
        """The system that the image runs on, as in the config; `None` if the config does not say."""
        return Platform.from_document(self.config.document)

    @property
    def created(self) -> str:
        """The time of the image's build, as in the config; may be empty."""
        return text_of(self.config.document, "created")


def text_of(document: Mapping[str, Any], key: str) -> str:
    """Return a string from a JSON object; an empty one if the key is missing or has another type."""
    found = document.get(key)
    return found if isinstance(found, str) else ""
