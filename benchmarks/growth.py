"""What an entry costs as layers get larger, what a layer costs as chains get deeper, and the memory of the largest."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import inputs
from benchmarks.contenders import Contender, inside, layerstore
from benchmarks.measuring import Run, once
from benchmarks.workshop import Workshop

#: Of each layer of the deep chain.
_ENTRIES_OF_A_LAYER: Final = 200
#: So many layers of a chain together give one figure.
BUCKET: Final = 25
#: A round of fewer entries than this in all is no measure.
_ENTRIES_OF_A_ROUND: Final = 20_000
#: Bytes of a tree on disk, for an entry of one of `inputs.even_files`, with its inode.
_ROOM_OF_AN_ENTRY: Final = 6 << 10

Tell = Callable[[str], object]
#: Seconds by work and kind of time, one for each repeat.
Told = dict[str, dict[str, list[float]]]
_Make = Callable[[Path, int], None]


def counts(options_entries: int, full: int | None) -> list[int]:
    """The numbers of entries that are measured: powers of ten."""
    most = max(full or 0, min(100_000, options_entries * 2))
    return [10**power for power in range(3, 10) if 10**power <= most]


def entries(shop: Workshop, tell: Tell) -> dict[str, Any]:
    """Microseconds an entry, by number of entries, of each round."""
    options = shop.options
    found = _Growth("µs an entry", "vfs")
    for count in counts(options.entries, options.full_entries if options.full else None):
        tar = shop.work / "growing.tar"
        inputs.even_files(tar, count)
        repeats = max(1, _ENTRIES_OF_A_ROUND // count)
        # The largest takes its time, and its noise averages out.
        for number in range(options.rounds if count <= 100_000 else min(2, options.rounds)):
            tell(f"{count:,} entries, round {number + 1}")
            told = _told(shop, "entries", found.driver, str(shop.one_file), str(tar), str(repeats))
            found.add(count, told, lambda costs: min(costs) / count * 1e6)  # noqa: B023 - it is called at once
        tar.unlink()
    return found.as_json()


def depth(shop: Workshop, tell: Tell) -> dict[str, Any]:
    """Milliseconds a layer, by depth in the chain, of each round: medians of neighbours, by the last depth of each group.

    What is left over at the end is dropped.
    """
    found = _Growth("ms a layer", "overlay2" if os.geteuid() == 0 else "vfs")
    tars = []
    for number in range(shop.options.depth):
        tars.append(shop.work / f"deep-{number}.tar")
        inputs.even_files(tars[-1], _ENTRIES_OF_A_LAYER, b"layer-%d" % number)
    size = min(BUCKET, len(tars))
    for number in range(shop.options.rounds):
        tell(f"a chain of {len(tars)} layers, round {number + 1}")
        told = _told(shop, "depth", found.driver, *map(str, tars))
        for end in range(size, len(tars) + 1, size):
            found.add(end, told, lambda costs: statistics.median(costs[end - size : end]) * 1e3)  # noqa: B023
    for tar in tars:
        tar.unlink()
    return found.as_json()


class _Growth:
    """Costs by a growing number, of each round.

    What counts is the time of the processor: a round of small numbers is short, and what else the machine does falls on
    some of them only. The clock's time stands beside it.
    """

    def __init__(self, unit: str, driver: str) -> None:
        self.unit = unit
        self.driver = driver
        self._kinds: dict[str, dict[str, dict[int, list[float]]]] = {"processor": {}, "clock": {}}

    def add(self, number: int, told: Told, cost: Callable[[list[float]], float]) -> None:
        """Add a round."""
        for kind, of in self._kinds.items():
            for what, times in told.items():
                of.setdefault(what, {}).setdefault(number, []).append(cost(times[kind]))

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return {"unit": self.unit, "driver": self.driver, "of": self._kinds["processor"], "clock": self._kinds["clock"]}


def _told(shop: Workshop, *arguments: str) -> Told:
    """What `benchmarks.inside` tells."""
    with tempfile.TemporaryDirectory(dir=shop.work) as name:
        told = Path(name) / "told"
        _checked(Contender(arguments[0], "", ["sh", "-c", f'"$@" > {told}', "sh", *inside(*arguments)]), shop.work)
        found: Told = json.loads(told.read_text())
        return found


def memory(shop: Workshop, tell: Tell) -> dict[str, dict[str, int | str]]:
    """Bytes of memory that registering and exporting take at most; or why that is not known."""
    options = shop.options
    found: dict[str, dict[str, int | str]] = {}
    small = options.entries * _ROOM_OF_AN_ENTRY
    cases: list[tuple[str, int, str, int, _Make]] = [
        ("a layer of small files", options.entries, "entries", small, inputs.even_files)
    ]
    if options.full:
        large = options.full_entries * _ROOM_OF_AN_ENTRY
        cases = [
            ("a layer of one large file", options.full_bytes, "bytes", options.full_bytes, inputs.hollow_file),
            ("a layer of very many entries", options.full_entries, "entries", large, inputs.even_files),
        ]
    for title, size, unit, room, make in cases:
        name = f"{title}: {size:,} {unit}"
        with _directory(shop, room) as where:
            if where is None:
                found[name] = {"register": "no room", "export": "no room"}
                continue
            tar = where / "tar"
            make(tar, size)
            tell(f"memory of {name}")
            store = where / "store"
            register = layerstore("register", str(tar), root=str(store))
            taken = {"register": _checked(Contender("register", "", register), where).memory}
            tar.unlink()
            export = layerstore("export", _only_layer(store), "-o", "/dev/null", root=str(store))
            found[name] = {**taken, "export": _checked(Contender("export", "", export), where).memory}
    return found


@contextmanager
def _directory(shop: Workshop, room: int) -> Iterator[Path | None]:
    """A directory with room for so many bytes: at work if it takes no more than a third of what is free, or else on the disk."""
    for place, most in ((shop.work, 0.3), (shop.options.disk, 0.9)):
        if shutil.disk_usage(place).free * most >= room:
            with tempfile.TemporaryDirectory(prefix="layerstore-bench-", dir=place) as name:
                yield Path(name)
            return
    yield None


def _only_layer(store: Path) -> str:
    return next((store / "image" / "vfs" / "layerdb" / "sha256").iterdir()).name


def _checked(contender: Contender, where: Path) -> Run:
    run, problem = once(contender, where)
    if run is None:
        raise RuntimeError(f"{contender.name} failed: {problem}")
    return run
