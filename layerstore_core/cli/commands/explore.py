"""`layerstore explore`: look into an image in the terminal."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import CHAIN, json_option
from layerstore_core.cli.session import Session
from layerstore_core.cli.values import usage_errors

_EXTRA = "pip install 'layerstore-core[explore]'"


@click.command()
@click.argument("image", metavar="IMAGE|CHAIN", type=CHAIN, required=False)
@click.option("--store", "whole_store", is_flag=True, help="Explore the whole store instead of an image.")
@click.option("--layer", type=click.IntRange(min=0), metavar="N", help="Begin with this layer; the base is 0.")
@click.option("--whole", is_flag=True, help="With --layer, show all files up to the layer, and not only its changes.")
@click.option("--filter", "words", default="", metavar="WORDS", help="Show only files that fit these words.")
@click.option("--plain", is_flag=True, help="Write lines of text, as for a screen reader.")
@json_option
@click.pass_obj
def explore(
    session: Session, image: str | None, *, whole_store: bool, layer: int | None, whole: bool, words: str, plain: bool
) -> None:
    """Look into an image, layer by layer, in the terminal.

    On the left are the layers, each with its size and the step that has made it; on the right is the tree of a layer,
    with what it has added, changed, deleted and moved; below are totals, wasted space, duplicates, packages and the
    config. `?` shows the keys: they are those of dive and of vim.

    WORDS are parts of paths, patterns such as *.pyc, sizes such as '>1M' and '<10k', kinds such as :added,deleted, and
    a regular expression after ~; all of them have to fit.

    --store shows all layers with their sizes, the images and writable layers on them, and what can be reclaimed; C and
    P show what gc and prune would remove, and can remove it.

    Without a terminal, with TERM=dumb, and with --plain, the same is written as lines of text: all about the image, or
    with --layer or --filter the files of a layer. The program in the terminal needs an extra:
    pip install 'layerstore-core[explore]'.

    \b
    Examples:
      layerstore explore debian:12
      layerstore explore debian:12 --layer 0 --filter '>1M *.so'
      layerstore explore debian:12 --plain
      layerstore explore --store
    """
    interactive = not (plain or session.json or not _is_terminal())
    if interactive and find_spec("textual") is None:
        raise click.UsageError(f"the program in the terminal needs Textual: {_EXTRA}; --plain does without it")
    if whole_store:
        if image or layer is not None or whole or words:
            raise click.UsageError("--store is for all of the store: it takes no image, --layer, --whole and --filter")
        _explore_store(session, interactive=interactive)
        return
    if image is None:
        raise click.UsageError("name an image or a layer, or give --store for all of the store")
    with session.open(reading=True, content=True) as store:
        from layerstore_core.cli.parameters import resolve_image_or_chain
        from layerstore_core.explore.filters import parse_filter
        from layerstore_core.explore.image import ExploredImage, Scope

        with usage_errors():
            chosen = parse_filter(words)
        found = resolve_image_or_chain(store, image)
        scope = Scope.WHOLE if whole or layer is None else Scope.LAYER
        if interactive:
            from layerstore_core.explore.start import explore_image

            explore_image(store, found, image, layer=layer, scope=scope, text=words)
            return
        from layerstore_core.explore.plain import image_document, image_text

        with ExploredImage(store, found) as explored:
            if layer is not None and layer >= len(explored.layers):
                raise click.UsageError(f"{image} has {len(explored.layers)} layers, and no layer {layer}")
            if session.json:
                session.answer(image_document(explored, layer, scope, chosen), lambda: ())
            else:
                output.write_lines(image_text(explored, layer, scope, chosen))


def _explore_store(session: Session, *, interactive: bool) -> None:
    """Explore all of the store. In the terminal it may be changed, and so has to be writable."""
    if session.json:
        raise click.UsageError("--store has no JSON; 'layerstore du -v --json' has the same numbers")
    with session.open(reading=not interactive, content=True) as store:
        if interactive:
            from layerstore_core.explore.start import explore_store

            explore_store(store)
            return
        from layerstore_core.explore.lines import plain
        from layerstore_core.explore.store_tree import store_text

        output.write_lines(map(plain, store_text(store)))


def _is_terminal() -> bool:
    """Return whether a program with a cursor can run here."""
    streams = (sys.stdin, sys.stdout)
    return os.environ.get("TERM", "dumb") != "dumb" and all(one is not None and one.isatty() for one in streams)
