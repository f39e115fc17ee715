"""Pictures of the program for the documents: `python -m tests.explore.pictures ROOT IMAGE` makes them of an image.

They are SVG, and fetch nothing: the font is the reader's own.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from layerstore_core import Images, LayerStore
from layerstore_core.explore.app import ExploreApp
from layerstore_core.explore.start import image_app, store_app
from tests.explore.conftest import press, settle

DIRECTORY = Path(__file__).parents[2] / "docs/pictures"
#: The pictures of an image: the name, the size of the terminal, the keys.
PICTURES = (
    ("explore-image", (120, 36), ()),
    ("explore-layer", (120, 36), ("L", "tab", "j", "2")),
    ("explore-narrow", (70, 24), ("L", "tab")),
)


async def _draw(app: ExploreApp, name: str, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    with app.opened:
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await press(pilot, *keys)
            _write(pilot, name)


def _write(pilot: Pilot[Any], name: str) -> None:
    text = pilot.app.export_screenshot(title="layerstore explore")
    text = re.sub(r"@font-face \{.*?\}", "", text, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    (DIRECTORY / f"{name}.svg").write_text("\n".join(lines) + "\n")


def main(root: str, image: str) -> None:
    """Write all pictures."""
    DIRECTORY.mkdir(exist_ok=True)
    with LayerStore.open(root=root) as store:
        for name, size, keys in PICTURES:
            asyncio.run(_draw(image_app(store, Images(store).get(image), image), name, size, keys))
        asyncio.run(_draw(store_app(store), "explore-store", (120, 24), ()))


if __name__ == "__main__":
    main(*sys.argv[1:3])
