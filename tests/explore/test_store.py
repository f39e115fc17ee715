"""The whole store: its tree of layers, and removing what gc and prune would remove."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot

from layerstore_core import Images, LayerStore
from layerstore_core.explore.lines import plain
from layerstore_core.explore.screens.image import ImageScreen
from layerstore_core.explore.screens.store import StoreScreen
from layerstore_core.explore.start import store_app
from layerstore_core.explore.store_tree import read_store, store_text
from layerstore_core.maintenance.usage import disk_usage
from tests import tars
from tests.across.chains import f
from tests.explore.conftest import drive_app, press, screen_text
from tests.store.layers import register


def test_layers_are_a_tree_with_images_and_writable_layers(store: LayerStore) -> None:
    register(store, tars.tar(f(b"alone", b"x" * 10))).close()
    store.create_rw_layer("work", Images(store).get("app:1").chain_id).close()
    state = read_store(store)
    assert [(row.depth, row.images, row.rw_layers, row.in_use) for row in state.rows] == [
        (0, (), (), True),
        (1, ("app:1",), ("work",), True),
        (2, ("app:2",), (), True),
        (0, (), (), False),
    ]
    assert state.rows[0].total == sum(row.size for row in state.rows[:3])
    assert sum(row.size for row in state.rows) == sum(layer.diff_size for layer in disk_usage(store).layers)
    text = [plain(line) for line in store_text(store)]
    assert any("app:1  writable: work" in line for line in text)
    assert any(line.endswith(f"layer {state.rows[3].chain_id}") for line in text)
    assert all(line.isprintable() for line in text)


def test_an_empty_store_is_shown(store: LayerStore) -> None:
    for name in ("app:1", "app:2"):
        Images(store).remove(name)
    assert read_store(store).rows == ()
    assert [plain(line) for line in store_text(store)][-1] == "nothing"


def test_what_gc_would_remove_is_removed_after_a_question_only(store: LayerStore) -> None:
    alone = register(store, tars.tar(f(b"alone", b"x" * 10)))
    chain = alone.chain_id
    alone.close()

    async def script(pilot: Pilot[Any]) -> None:
        assert isinstance(pilot.app.screen, StoreScreen)
        assert "nothing refers to it" in screen_text(pilot)
        await press(pilot, "C")
        assert chain in screen_text(pilot)
        await press(pilot, "q", "n")
        assert store.has_layer(chain)
        await press(pilot, "C", "q", "y")
        assert not store.has_layer(chain)
        assert "gc removed 1 objects" in screen_text(pilot)
        assert "nothing refers to it" not in screen_text(pilot)
        await press(pilot, "P")
        assert "nothing" in screen_text(pilot)
        await press(pilot, "q", "R", "j", "enter")
        assert isinstance(pilot.app.screen, ImageScreen)
        assert pilot.app.screen.image.name == "app:1"
        await press(pilot, "q")
        assert isinstance(pilot.app.screen, StoreScreen)

    drive_app(store_app(store), script)
