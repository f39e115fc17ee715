"""The facts of the program as lines of text: for a screen reader, a pipe, and a terminal that has no cursor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from layerstore_core.explore.describe import file_words, layer_lines, step_of
from layerstore_core.explore.details import config_lines, duplicate_lines, package_lines, total_lines, waste_lines
from layerstore_core.explore.file_tree import File, FileTree
from layerstore_core.explore.filters import FileFilter
from layerstore_core.explore.image import ExploredImage, Scope
from layerstore_core.explore.lines import plain, share_of, shown_path
from layerstore_core.explore.marks import Mark
from layerstore_core.text import human_size
from layerstore_core.view.analysis.waste import offenders


def image_text(image: ExploredImage, layer: int | None, scope: Scope, chosen: FileFilter) -> Iterator[str]:
    """Yield an image as lines of text.

    Args:
        image: the image.
        layer: index of a layer: only that, and its files, are written.
        scope: which of its files.
        chosen: only these files.
    """
    if layer is not None or chosen:
        number = max(len(image.layers) - 1, 0) if layer is None else layer
        yield from map(plain, layer_lines(image, number))
        yield ""
        yield f"Files of {scope.value}:"
        yield from (file_words(file) for file in files_of(image, number, scope, chosen))
        return
    yield from (plain(detail.line) for detail in total_lines(image))
    yield ""
    yield "Layers, the base first:"
    for number, one in enumerate(image.layers):
        written, share = one.analysis.written, share_of(one.analysis.written, image.analysis.written)
        yield f"Layer {number}: {human_size(written)}, {share} of all, {_counts(image, number)}. {step_of(one)}"
    for title, details in (
        ("Waste, the worst first:", waste_lines(image)),
        ("The same content several times:", duplicate_lines(image.duplicates())),
        ("Packages:", package_lines(image.packages())),
        ("Config:", config_lines(image)),
    ):
        yield ""
        yield title
        yield from (plain(detail.line) for detail in details)


def image_document(image: ExploredImage, layer: int | None, scope: Scope, chosen: FileFilter) -> dict[str, Any]:
    """Return an image as a JSON object; arguments as for `image_text`."""
    analysis = image.analysis
    document: dict[str, Any] = {
        "id": image.digits,
        "written": analysis.written,
        "visible": analysis.visible,
        "wasted": analysis.hidden,
        "efficiency": analysis.efficiency,
        "layers": [
            {
                "chain_id": str(one.chain_id),
                "created": one.created,
                "created_by": one.created_by,
                "comment": one.comment,
                "written": one.analysis.written,
                "wasted": one.analysis.wasted,
                **{mark.value: image.marks(number, Scope.LAYER).count(mark) for mark in Mark if mark is not Mark.SAME},
            }
            for number, one in enumerate(image.layers)
        ],
        "offenders": [
            {
                "path": shown_path(one.path),
                "size": one.size,
                "files": one.files,
                "layers": list(one.layers),
                "hidden_by": list(one.hidden_by),
            }
            for one in offenders(analysis.wasted)
        ],
    }
    if layer is not None or chosen:
        number = max(len(image.layers) - 1, 0) if layer is None else layer
        document["files"] = [
            {
                "path": shown_path(file.path),
                "mark": file.mark.value,
                "size": file.size,
                "moved": None if file.moved is None else shown_path(file.moved),
            }
            for file in files_of(image, number, scope, chosen)
        ]
    return document


def files_of(image: ExploredImage, layer: int, scope: Scope, chosen: FileFilter) -> Iterator[File]:
    """Yield the files of a layer that are chosen, parents first."""
    tree = FileTree(image.tree(layer), image.marks(layer, scope), only_marked=scope is Scope.LAYER)
    for file in tree.walk():
        if scope is Scope.LAYER and file.mark is Mark.SAME:
            continue  # a directory on the way
        if chosen.fits(file):
            yield file


def _counts(image: ExploredImage, number: int) -> str:
    marks = image.marks(number, Scope.LAYER)
    counts = [f"{marks.count(mark)} {mark.value}" for mark in Mark if mark is not Mark.SAME and marks.count(mark)]
    return ", ".join(counts) or "no change"
