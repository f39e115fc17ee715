"""The document has the keys that the program's help shows."""

from __future__ import annotations

from pathlib import Path

from layerstore_core.explore import keys

DOCUMENT = Path(__file__).parents[2] / "docs/how-to/explore-images.md"


def test_the_document_has_all_keys() -> None:
    lines = DOCUMENT.read_text().splitlines()
    for group in (keys.COMMON, keys.TREE, keys.IMAGE, keys.STORE, keys.READING):
        for key, text in group:
            assert (f"| {key} | {text} |" if text else f"| **{key}** | |") in lines
