"""Starting the program: what each way of calling it opens first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from layerstore_core.base.digests import ChainID
from layerstore_core.explore.app import ExploreApp, run
from layerstore_core.explore.comparison import LayerComparison, TreeComparison, compare_images
from layerstore_core.explore.filters import parse_filter
from layerstore_core.explore.image import ExploredImage, Scope
from layerstore_core.explore.screens.comparison import ComparisonScreen
from layerstore_core.explore.screens.image import ImageScreen
from layerstore_core.explore.screens.store import StoreScreen
from layerstore_core.explore.store_tree import read_store
from layerstore_core.images.api.images import Images
from layerstore_core.images.image import Image
from layerstore_core.store.store import LayerStore


def image_app(
    store: LayerStore,
    what: Image | ChainID,
    name: str,
    *,
    layer: int | None = None,
    scope: Scope = Scope.WHOLE,
    text: str = "",
) -> ExploreApp:
    """Return the program for an image, or for a chain of layers.

    Args:
        store: an open store, which stays open as long as the program runs.
        what: the image, or the layer's chain ID.
        name: what to call it.
        layer: index of the layer to begin with; `None` for the topmost one.
        scope: what the tree shows of it.
        text: the filter to begin with.

    Raises:
        ValueError: the filter cannot be understood.
    """
    return ExploreApp(name, image_opener(store, what, layer=layer, scope=scope, text=text))


def image_opener(
    store: LayerStore, what: Image | ChainID, *, text: str = "", **options: Any
) -> Callable[[ExploreApp], Callable[[], Screen[None]]]:
    """Return a function that opens an image in a thread, and returns one that makes its screen; as `image_app`."""
    chosen = parse_filter(text)

    def opener(app: ExploreApp) -> Callable[[], Screen[None]]:
        image = app.opened.enter_context(ExploredImage(store, what))

        def compare(image: ExploredImage, number: int, word: str) -> None:
            app.open_screen(comparison_opener(store, image, number, word))

        return lambda: ImageScreen(image, compare, chosen=chosen, text=text, **options)

    return opener


def explore_image(store: LayerStore, what: Image | ChainID, name: str, **options: Any) -> None:
    """Explore an image in the terminal, until the user ends it; arguments as for `image_app`.

    Raises:
        LayerDoesNotExist: a layer is missing.
        IntegrityError, InvalidLayer: a layer is damaged.
        OSError: the store cannot be read.
    """
    run(image_app(store, what, name, **options))


def comparison_opener(
    store: LayerStore, image: ExploredImage, number: int, word: str
) -> Callable[[ExploreApp], Callable[[], Screen[None]]]:
    """Return a function that compares a layer with another one, or an image with another one, in a thread.

    Args:
        store: an open store.
        image: the image that is explored.
        number: index of the layer at the cursor.
        word: the number of another layer, or the name or ID of another image.
    """

    def opener(app: ExploreApp) -> Callable[[], Screen[None]]:
        comparison: LayerComparison | TreeComparison
        if word.isdecimal() and int(word) < len(image.layers):
            comparison = LayerComparison(image, *sorted((int(word), number)))
        else:
            comparison = compare_images(store, image, Images(store).get(word), word)
            app.opened.callback(comparison.close)
        return lambda: ComparisonScreen(comparison)

    return opener


def store_app(store: LayerStore) -> ExploreApp:
    """Return the program for a whole store.

    Args:
        store: an open store, which stays open as long as the program runs.
    """

    def opener(app: ExploreApp) -> Callable[[], Screen[None]]:
        state = read_store(store)

        def explore(chain: ChainID, name: str | None) -> None:
            def open_it(app: ExploreApp) -> Callable[[], Screen[None]]:
                return image_opener(store, chain if name is None else Images(store).get(name))(app)

            app.open_screen(open_it)

        return lambda: StoreScreen(store, state, explore)

    return ExploreApp(f"the store {store.root}", opener)


def explore_store(store: LayerStore) -> None:
    """Explore a store in the terminal, until the user ends it; errors as from `explore_image`."""
    run(store_app(store))
