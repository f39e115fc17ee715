"""The history of a config: the steps of an image's build, and the layer that each has made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.image import text_of


class Step(NamedTuple):
    """A step as the config has it.

    Attributes:
        created: its time; may be empty.
        created_by: the command; may be empty.
        comment: the comment; may be empty.
        layer: the index of the layer that it made; `None` for a step that only changed the config.
    """

    created: str = ""
    created_by: str = ""
    comment: str = ""
    layer: int | None = None


def steps_of(config: ConfigDocument) -> tuple[Step, ...]:
    """Return the steps of an image's build, the first one first.

    A config without a history has an empty step for each layer. If its steps are more than its layers, the last ones
    have made none. Steps that are no objects are left out.
    """
    history = config.document.get("history")
    recorded: list[Mapping[str, Any]] = []
    if isinstance(history, list):
        recorded = [step for step in history if isinstance(step, dict)]
    found = []
    layers = iter(range(len(config.diff_ids)))
    for step in recorded or [{}] * len(config.diff_ids):
        layer = None if step.get("empty_layer") else next(layers, None)
        found.append(Step(text_of(step, "created"), text_of(step, "created_by"), text_of(step, "comment"), layer))
    return tuple(found)
