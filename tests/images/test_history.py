"""The steps of a history, and which layer each has made."""

from __future__ import annotations

from typing import Any

import pytest

from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.history import Step, steps_of


def steps(history: Any) -> tuple[Step, ...]:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{number:064x}" for number in range(2)]}
    return steps_of(ConfigDocument.of(b"", {"rootfs": rootfs, "history": history}, "here"))


def test_steps_have_the_layers_that_they_made() -> None:
    found = steps([{"created_by": "a", "created": "2026"}, {"comment": "b", "empty_layer": True}, {"created_by": 7}])
    assert found == (Step("2026", "a", "", 0), Step("", "", "b", None), Step("", "", "", 1))


@pytest.mark.parametrize("history", [None, []])
def test_without_a_history_each_layer_has_a_step(history: Any) -> None:
    assert steps(history) == (Step(layer=0), Step(layer=1))


def test_more_steps_than_layers_have_made_none() -> None:
    assert [step.layer for step in steps([{"created_by": "a"}] * 4)] == [0, 1, None, None]
