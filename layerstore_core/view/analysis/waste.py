"""Wasted bytes by path: each path once, and the directories and files in which most of them are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from layerstore_core.view.analysis.layers import Wasted

#: `/usr` and `/var` say nothing: a directory is named from this depth on.
_LEAST_DEPTH: Final = 2
#: The cause of the waste at a place where there are several, or where it is not one that says the same of all files.
_NO_CAUSE: Final = -1


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
        partly: of a directory: whether parts of it are places of their own, and so are not counted here.
        layers: indexes of the layers that have written them, ascending.
        hidden_by: indexes of the layers that hide them, ascending.
        repeated: whether all were overwritten by the same contents, as `chown` and `chmod` do.
    """

    path: bytes
    size: int
    overwritten: int
    files: int
    directory: bool
    partly: bool
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


class _Place:
    """A path on which wasted files are.

    Attributes:
        depth: how many names the path has.
        files: the files that were at this very path.
        inside: the places in it, by name.
        size: the wasted bytes of all these.
        cause: index of the layer that has overwritten all of them by the same contents; `_NO_CAUSE` if none has; `None`
            as long as there are no files.
    """

    __slots__ = ("cause", "depth", "files", "inside", "size")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.files: list[Wasted] = []
        self.inside: dict[bytes, _Place] = {}
        self.size = 0
        self.cause: int | None = None

    def count(self, one: Wasted) -> None:
        """Count a file that is here, or below."""
        cause = one.hidden_by if one.repeated else _NO_CAUSE
        self.size += one.size
        self.cause = cause if self.cause in (None, cause) else _NO_CAUSE


def offenders(wasted: Iterable[Wasted]) -> tuple[Offender, ...]:
    """Return where the wasted bytes are, the place with most of them first; each wasted file belongs to one place.

    A directory stands for all in it, with these exceptions:

    - The parts of the root, and of the directories in it, are always places of their own.
    - A part that has half of the bytes of a directory is a place of its own. The rest of the directory is judged again
      without it, until no part has half of what is left.
    - If one layer has overwritten all of a directory by the same contents, as `chown -R` does, its parts stay together,
      unless one of them has all the bytes.
    """
    root = _Place(0)
    for one in wasted:
        place = root
        place.count(one)
        for name in one.path.split(b"/"):
            inner = place.inside.get(name)
            if inner is None:
                inner = place.inside[name] = _Place(place.depth + 1)
            place = inner
            place.count(one)
        place.files.append(one)
    found = []
    pending = [(b"", root)]
    while pending:
        path, place = pending.pop()
        own, rest = _split(place)
        prefix = path + b"/" if path else b""
        pending += [(prefix + name, part) for name, part in own]
        files = [*place.files, *(one for part in rest for one in _all_files(part))]
        if files:
            found.append(_offender(path, files, directory=bool(rest), partly=bool(own and rest)))
    return tuple(sorted(found, key=lambda one: (-one.size, one.path)))


def _split(place: _Place) -> tuple[list[tuple[bytes, _Place]], list[_Place]]:
    """Return the parts of a place that are places of their own, and those for which it stands."""
    parts = sorted(place.inside.items(), key=lambda item: -item[1].size)
    if place.depth < _LEAST_DEPTH:
        return parts, []
    one_cause = place.cause != _NO_CAUSE
    left = place.size
    count = 0
    for _, part in parts:
        if not part.size or (part.size < left if one_cause else 2 * part.size < left):
            break
        left -= part.size
        count += 1
    return parts[:count], [part for _, part in parts[count:]]


def _offender(path: bytes, files: list[Wasted], *, directory: bool, partly: bool) -> Offender:
    return Offender(
        path,
        sum(one.size for one in files),
        sum(one.size for one in files if one.kind == "overwritten"),
        len(files),
        directory,
        partly,
        tuple(sorted({one.layer for one in files})),
        tuple(sorted({one.hidden_by for one in files})),
        all(one.repeated for one in files),
    )


def _all_files(place: _Place) -> list[Wasted]:
    """Return the files at a place and below it."""
    found: list[Wasted] = []
    pending = [place]
    while pending:
        one = pending.pop()
        found += one.files
        pending += one.inside.values()
    return found
