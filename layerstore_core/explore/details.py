"""What there is to say about a whole image: totals, waste, the worst offenders, duplicates, packages and the config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from layerstore_core.explore.image import ExploredImage
from layerstore_core.explore.lines import Line, Part, Role, shown_path
from layerstore_core.text import human_size, printable
from layerstore_core.view.analysis.duplicates import Duplicates
from layerstore_core.view.analysis.waste import offenders
from layerstore_core.view.packages.package import Package

_LABEL: Final = 12
_MOST_TEXT: Final = 2000


class Detail(NamedTuple):
    """A line of details.

    Attributes:
        line: the line.
        path: the path that it is about; `None` for none.
        layer: index of the layer in whose tree the path is; `None` for the whole image.
    """

    line: Line
    path: bytes | None = None
    layer: int | None = None


def total_lines(image: ExploredImage) -> list[Detail]:
    """Return the totals: sizes, efficiency, and what is wasted."""
    analysis = image.analysis
    overwritten = [one for one in analysis.wasted if one.kind == "overwritten"]
    deleted = [one for one in analysis.wasted if one.kind == "deleted"]
    facts = [
        ("Efficiency", f"{100 * analysis.efficiency:.1f}%"),
        ("Wasted", human_size(analysis.hidden)),
        ("Overwritten", f"{human_size(sum(one.size for one in overwritten))} in {_files(len(overwritten))}"),
        ("Deleted", f"{human_size(sum(one.size for one in deleted))} in {_files(len(deleted))}"),
        ("Written", f"{human_size(analysis.written)} in {len(image.layers)} layers"),
        ("Visible", human_size(analysis.visible)),
    ]
    title = (Part(printable(image.name, backslash=False), Role.HEADING), Part(f"  {image.digits}", Role.FAINT))
    return [Detail(title), *(Detail(_fact(name, text)) for name, text in facts)]


def waste_lines(image: ExploredImage) -> list[Detail]:
    """Return the worst offenders: the files and directories that have most of the wasted bytes."""
    found = offenders(image.analysis.wasted)
    if not found:
        return [Detail((Part("No layer hides a file of another layer: nothing is wasted.", Role.ADDED),))]
    lines = [Detail((Part(f"{'WASTED':>9}  {'FILES':>6}  {'WRITTEN BY':<12} {'HIDDEN BY':<12} PATH", Role.FAINT),))]
    for one in found:
        word = "same content again" if one.repeated else "overwritten" if one.overwritten == one.size else "deleted"
        role = Role.DELETED if one.overwritten != one.size else Role.CHANGED
        lines.append(
            Detail(
                (
                    Part(f"{human_size(one.size):>9}  {one.files:>6}  "),
                    Part(f"{_numbers(one.layers):<12} {_numbers(one.hidden_by):<12} ", Role.FAINT),
                    Part(shown_path(one.path) + ("/" if one.directory else ""), role),
                    Part(f"  {word}", Role.FAINT),
                ),
                one.path,
                one.hidden_by[-1],
            )
        )
    return lines


def duplicate_lines(found: Sequence[Duplicates] | None) -> list[Detail]:
    """Return the files with the same content; `None` means that they are still being looked for."""
    if found is None:
        return [Detail((Part("Reading files of the same size…", Role.FAINT),))]
    if not found:
        return [Detail((Part("No content is there twice.", Role.ADDED),))]
    total = sum(one.wasted for one in found)
    lines = [
        Detail((Part(f"{human_size(total)} in {_files(sum(len(one.paths) for one in found))}", Role.HEADING),)),
        Detail((Part(f"{'WASTED':>9}  {'EACH':>9}  PATHS", Role.FAINT),)),
    ]
    for one in found:
        lines.append(
            Detail(
                (
                    Part(f"{human_size(one.wasted):>9}  {human_size(one.size):>9}  "),
                    Part(shown_path(one.paths[0])),
                ),
                one.paths[0],
            )
        )
        lines += [Detail((Part(f"{'':>9}  {'':>9}  "), Part(shown_path(path))), path) for path in one.paths[1:]]
    return lines


def package_lines(found: Sequence[Package] | None) -> list[Detail]:
    """Return the installed packages; `None` means that they are still being read."""
    if found is None:
        return [Detail((Part("Reading the databases of packages…", Role.FAINT),))]
    if not found:
        return [Detail((Part("No database of packages can be read.", Role.FAINT),))]
    rows = [(printable(one.name), printable(one.version), human_size(one.size)) for one in found]
    width = max(len(name) for name, _, _ in rows)
    return [
        Detail((Part(f"{size:>9}  "), Part(f"{name:<{width}}  "), Part(version, Role.FAINT)))
        for name, version, size in rows
    ]


def config_lines(image: ExploredImage) -> list[Detail]:
    """Return the config of an image."""
    if image.config is None:
        return [Detail((Part("This is a layer, and has no config.", Role.FAINT),))]
    document = {key: value for key, value in image.config.document.items() if key not in ("history", "rootfs")}
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return [Detail((Part(printable(line, backslash=False)[:_MOST_TEXT]),)) for line in text.split("\n")]


def _fact(name: str, text: str) -> Line:
    return Part(f"{name:<{_LABEL}}", Role.FAINT), Part(text)


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _numbers(layers: Iterable[int]) -> str:
    """Return indexes of layers, the middle ones left out where there are many."""
    texts = [str(one) for one in layers]
    return ",".join(texts) if len(texts) < 4 else f"{texts[0]},{texts[1]}…{texts[-1]}"
