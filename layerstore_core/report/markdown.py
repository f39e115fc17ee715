"""A short text of a report in Markdown, for a comment on a pull request.

It is GitHub's dialect. Names come from images, so they are code: there no character has a meaning but the backtick,
and, in a table, the bar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from layerstore_core.text import human_size, printable

#: How many rows the longest table has.
_ROWS: Final = 10
#: The most characters of a name or a command.
_LONGEST: Final = 120


def markdown(document: Mapping[str, Any]) -> str:
    """Return the text of a report, with a new line at its end.

    Args:
        document: from `layerstore_core.report.document`.
    """
    parts = {"image": _image, "comparison": _comparison, "store": _store}[document["kind"]]
    return "\n".join([*parts(document), *_rules(document.get("rules", ()))]) + "\n"


def _rules(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if rules:
        yield from ("", "**Rules**", "")
        for one in rules:
            yield f"- {'' if one['passed'] else '**'}{one['line']}{'' if one['passed'] else '**'}"


def _image(document: Mapping[str, Any]) -> Iterator[str]:
    image = document["image"]
    yield from (f"### {code(image['name'])}", "")
    yield from table(("", ""), [(name, value) for name, value, _ in _figures(image)])
    rows = [
        (str(number), code(layer["created_by"] or "unknown"), human_size(layer["written"]), human_size(layer["wasted"]))
        for number, layer in enumerate(image["layers"])
    ]
    largest = sorted(rows, key=lambda row: -image["layers"][int(row[0])]["written"])[:_ROWS]
    if rows:
        title = f"The largest {_ROWS} of {len(rows)} layers" if len(rows) > _ROWS else "Layers"
        yield from ("", f"**{title}**", "")
        yield from table(
            ("layer", "made by", "written", "wasted"), sorted(largest, key=lambda row: int(row[0])), "rlrr"
        )
    yield from _places(image["places"])


def _places(places: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not places:
        return
    yield from ("", "**Where the wasted bytes are**", "")
    rows = [(code(one["path"]), human_size(one["size"]), _how(one)) for one in places[:_ROWS]]
    yield from table(("path", "wasted", "why"), rows, "lrl")
    yield from _more(places, "place")


def _how(place: Mapping[str, Any]) -> str:
    layers = "layer" if len(place["hidden_by"]) == 1 else "layers"
    by = f"{layers} {', '.join(map(str, place['hidden_by'][:5]))}"
    if place["repeated"]:
        return f"the same contents again in {by}"
    if place["overwritten"] == place["size"]:
        return f"overwritten by {by}"
    return f"overwritten or deleted by {by}" if place["overwritten"] else f"deleted by {by}"


def _comparison(document: Mapping[str, Any]) -> Iterator[str]:
    before, after, found = document["before"], document["image"], document["comparison"]
    yield from (f"### {code(before['name'])} → {code(after['name'])}", "")
    yield from table(
        ("", "before", "after", "change"),
        [
            (name, old, new, change(one, other) if form is human_size else f"{other - one:+d}" if form else "")
            for (name, old, (form, one)), (_, new, (_, other)) in zip(_figures(before), _figures(after), strict=True)
        ],
        "lrrr",
    )
    counts = f"{_count(found['added'], 'file')} added, {found['changed']} changed, {found['deleted']} deleted"
    yield from ("", f"{counts}; {found['shared_layers']} of {after['layer_count']} layers are shared.")
    grown = sorted((one for one in found["files"] if grown_by(one)), key=lambda one: -abs(grown_by(one)))
    if grown:
        yield from ("", "**The largest changes**", "")
        rows = [
            (code(one["path"]), one["kind"], change(one["before"] or 0, one["after"] or 0)) for one in grown[:_ROWS]
        ]
        yield from table(("path", "", "change"), rows, "llr")
        yield from _more(grown, "file")
    if packages := found["packages"]:
        yield from ("", "**Packages**", "")
        rows = [(code(one["name"]), _versions(one["before"]), _versions(one["after"])) for one in packages[:_ROWS]]
        yield from table(("package", "before", "after"), rows)
        yield from _more(packages, "package")
    if settings := found["config"]:
        names = ", ".join(code(one["setting"]) for one in settings[:_ROWS])
        yield from ("", f"Settings that changed: {names}{' …' if len(settings) > _ROWS else ''}")


def grown_by(file: Mapping[str, Any]) -> int:
    """Return how many bytes a changed file of a comparison has grown."""
    return int(file["after"] or 0) - int(file["before"] or 0)


def _versions(versions: Sequence[str]) -> str:
    return ", ".join(code(version) for version in versions[:3]) or "–"


def _store(document: Mapping[str, Any]) -> Iterator[str]:
    store = document["store"]
    yield from ("### Store", "")
    rows = [
        (one["kind"], str(one["count"]), str(one["in_use"]), human_size(one["size"]), human_size(one["reclaimable"]))
        for one in store["totals"]
        if one["count"] or one["kind"] in ("images", "layers")
    ]
    yield from table(("", "count", "in use", "size", "reclaimable"), rows, "lrrrr")
    images = sorted(store["images"], key=lambda one: (-one["own"], one["id"]))
    if images:
        yield from ("", "**Images that have most bytes of their own**", "")
        of_images = [
            (
                code(one["names"][0] if one["names"] else one["id"]),
                human_size(one["own"]),
                human_size(one["size"]),
                "yes" if one["in_use"] else "no",
            )
            for one in images[:_ROWS]
        ]
        yield from table(("image", "own", "with shared layers", "in use"), of_images, "lrrl")
        yield from _more(images, "image")


def _figures(image: Mapping[str, Any]) -> list[tuple[str, str, tuple[Any, int]]]:
    """Return the numbers of an image: a name, a text, and how the text is made of which number."""
    waste = image["wasted"]
    share = f" ({100 * waste / image['written']:.1f} %)" if image["written"] else ""
    found: list[tuple[str, str, tuple[Any, int]]] = [
        ("size", human_size(image["visible"]), (human_size, image["visible"])),
        ("written by all layers", human_size(image["written"]), (human_size, image["written"])),
        ("wasted", human_size(waste) + share, (human_size, waste)),
        ("efficiency", f"{100 * image['efficiency']:.1f} %", (None, 0)),
    ]
    for name, key in (("files", "entries"), ("layers", "layer_count"), ("packages", "package_count")):
        found.append((name, str(image[key]), (str, image[key])))
    return found


def change(before: int, after: int) -> str:
    """Return the difference of two sizes, with its sign."""
    sign = "+" if after > before else "−" if after < before else "±"
    return sign + human_size(abs(after - before))


def code(text: str) -> str:
    """Return text of unknown origin as code that ends where it should, in a line and in a table."""
    shown = printable(" ".join(text.split()), backslash=False)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST - 1]}…"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    if not shown:
        return "` `"
    blank = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{blank}{shown}{blank}{fence}".replace("|", "\\|")


def table(heading: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        heading: the first row.
        rows: the others, whose texts are Markdown without line breaks and bars.
        align: `l` or `r` for each column.
    """
    yield f"| {' | '.join(heading)} |"
    yield f"| {' | '.join('---:' if one == 'r' else '---' for one in align.ljust(len(heading), 'l'))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _more(rows: Sequence[object], noun: str) -> Iterator[str]:
    if len(rows) > _ROWS:
        yield from ("", f"and {_count(len(rows) - _ROWS, f'more {noun}')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
