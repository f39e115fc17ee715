"""An image that has something of everything, and the program that explores it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from layerstore_core import Images, LayerStore
from layerstore_core.explore.app import ExploreApp
from layerstore_core.explore.image import ExploredImage
from layerstore_core.explore.marks import Marks, marks_of
from layerstore_core.explore.start import image_app
from layerstore_core.view.analysis.layers import analyze_layers
from layerstore_core.view.nodes import Node
from tests import tars
from tests.across.chains import d, f, sym
from tests.images.archives import ImageSpec, docker_archive
from tests.view.conftest import view_of

#: A name that would change the terminal, if it were not escaped.
HOSTILE = b"a\x1b[31mred\r\nb"
LAYERS = (
    [
        d(b"etc"), f(b"etc/hosts", b"127.0.0.1 localhost\n"), f(b"etc/motd", b"hello\n" * 100),
        d(b"usr"), d(b"usr/lib"), f(b"usr/lib/one.so", bytes(range(256)) * 8), f(b"usr/lib/two.so", b"2" * 500),
        d(b"var"), d(b"var/cache"), f(b"var/cache/big", b"b" * 3000), f(b"var/cache/small", b"s"),
        sym(b"lib", b"usr/lib"),
    ],
    [
        f(b"etc/motd", b"good bye\n" * 50), f(b"var/.wh.cache"), f(b"usr/lib/.wh.two.so"),
        f(b"usr/lib/moved.so", b"2" * 500),
    ],
    [f(b"etc/copy", b"127.0.0.1 localhost\n"), f(b"etc/" + HOSTILE, b"x")],
)  # fmt: skip
Script: TypeAlias = Callable[[Pilot[Any]], Awaitable[None]]
Drive: TypeAlias = Callable[..., None]


def tree_of(*layers: list[bytes]) -> tuple[Node, Marks]:
    """Return the merged tree of layers, and the marks of the last one."""
    with view_of(*layers) as view:
        analysis = analyze_layers(view)
        return analysis.root, marks_of(analysis.layers[-1].changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    """Yield a store with the images `app:1`, of two layers, and `app:2`, of three."""
    layers = [tars.tar(*entries) for entries in LAYERS]
    (tmp_path / "image.tar").write_bytes(docker_archive(ImageSpec(layers[:2], ["app:1"]), ImageSpec(layers, ["app:2"])))
    with LayerStore.open(root=tmp_path / "store", driver="vfs", durability="none", create=True) as store:
        Images(store).load(tmp_path / "image.tar")
        yield store


@pytest.fixture
def image(store: LayerStore) -> Iterator[ExploredImage]:
    """Yield `app:2`, opened."""
    with ExploredImage(store, Images(store).get("app:2")) as image:
        yield image


@pytest.fixture
def drive(store: LayerStore) -> Drive:
    """Return a function that runs the program on an image, and a script that presses keys."""

    def drive_(script: Script, *, name: str = "app:2", size: tuple[int, int] = (120, 40), **options: Any) -> None:
        drive_app(image_app(store, Images(store).get(name), name, **options), script, size=size)

    return drive_


def drive_app(app: ExploreApp, script: Script, *, size: tuple[int, int] = (120, 40)) -> None:
    """Run a program and a script that presses keys."""

    async def run() -> None:
        with app.opened:
            async with app.run_test(size=size, notifications=True) as pilot:
                await settle(pilot)
                await script(pilot)

    asyncio.run(run())


async def settle(pilot: Pilot[Any]) -> None:
    """Wait until no thread works for the program, and all messages are handled."""
    await pilot.pause()
    while workers := [one for one in pilot.app.workers if not one.is_finished]:
        with suppress(WorkerCancelled):
            await pilot.app.workers.wait_for_complete(workers)
        await pilot.pause()


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys, one after the other, and wait for what they do."""
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def write(pilot: Pilot[Any], text: str) -> None:
    """Write a text into the question that is asked, instead of what is there, and answer."""
    from textual.widgets import Input

    pilot.app.screen.query_one(Input).value = text
    await press(pilot, "enter")


def screen_text(pilot: Pilot[Any]) -> str:
    """Return what the screen shows, as text."""
    lines = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines)
