"""Wasted bytes by path: each path once, and the directories and files in which most of them are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from layerstore_core.view.analysis.layers import Wasted

#: `/usr` and `/var` say nothing: a directory is named from this depth on.
_LEAST_DEPTH: Final = 2


class WastedPath(NamedTuple):
    """A path, and all files there that later layers hide.

    Attributes:
        path: relative to the root, without a slash at the beginning.
        size: the bytes of these files.
        files: the files, the lowest layer first.
    """

    path: bytes
    size: int
    files: tuple[Wasted, ...]


class Offender(NamedTuple):
    """A file, or a directory with all in it, that has much of the wasted bytes.

    Attributes:
        path: relative to the root, without a slash at the beginning.
        size: the wasted bytes.
        overwritten: those of files that were overwritten; the rest are of files that were deleted.
        files: how many hidden files these are.
        directory: whether it is a directory.
        layers: indexes of the layers that have written them, ascending.
        hidden_by: indexes of the layers that hide them, ascending.
        repeated: whether all were overwritten by the same contents, as `chown` and `chmod` do.
    """

    path: bytes
    size: int
    overwritten: int
    files: int
    directory: bool
    layers: tuple[int, ...]
    hidden_by: tuple[int, ...]
    repeated: bool


def by_path(wasted: Iterable[Wasted]) -> tuple[WastedPath, ...]:
    """Return the wasted files of each path, the path with most bytes first."""
    files: dict[bytes, list[Wasted]] = {}
    for one in wasted:
        files.setdefault(one.path, []).append(one)
    found = [
        WastedPath(path, sum(one.size for one in those), tuple(sorted(those, key=lambda one: one.layer)))
        for path, those in files.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.size, one.path)))


@dataclass
class _Place:
    """A path on which wasted files are."""

    depth: int
    files: list[Wasted] = field(default_factory=list)
    inside: dict[bytes, _Place] = field(default_factory=dict)
    size: int = 0


def offenders(wasted: Iterable[Wasted]) -> tuple[Offender, ...]:
    """Return where the wasted bytes are, the place with most of them first; each wasted file belongs to one place.

    A directory stands for all in it if no part of it has half of its wasted bytes. Otherwise its parts are places of
    their own. The directories in the root always have parts of their own.
    """
    root = _Place(0)
    for one in wasted:
        place = root
        place.size += one.size
        for name in one.path.split(b"/"):
            place = place.inside.setdefault(name, _Place(place.depth + 1))
            place.size += one.size
        place.files.append(one)
    found = []
    pending = [(b"", root)]
    while pending:
        path, place = pending.pop()
        inside = place.inside
        if inside and (place.depth < _LEAST_DEPTH or 2 * max(one.size for one in inside.values()) >= place.size):
            prefix = path + b"/" if path else b""
            pending += [(prefix + name, one) for name, one in inside.items()]
            if place.files:  # files were here before the directory, or after it
                found.append(_offender(path, place.files, directory=False))
        else:
            found.append(_offender(path, _all_files(place), directory=bool(inside)))
    return tuple(sorted(found, key=lambda one: (-one.size, one.path)))


def _offender(path: bytes, files: list[Wasted], *, directory: bool) -> Offender:
    return Offender(
        path,
        sum(one.size for one in files),
        sum(one.size for one in files if one.kind == "overwritten"),
        len(files),
        directory,
        tuple(sorted({one.layer for one in files})),
        tuple(sorted({one.hidden_by for one in files})),
        all(one.repeated for one in files),
    )


def _all_files(place: _Place) -> list[Wasted]:
    found: list[Wasted] = []
    pending = [place]
    while pending:
        one = pending.pop()
        found += one.files
        pending += one.inside.values()
    return found
