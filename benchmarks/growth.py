"""The cost of an entry as layers get larger, of a layer as chains get deeper, and the memory of the largest layers."""

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

#: The number of entries of each layer of the deep chain.
_ENTRIES_OF_A_LAYER: Final = 200
#: So many layers of a chain together give one figure.
BUCKET: Final = 25
#: Bytes of an entry of `inputs.even_files` in a tree on disk, with its inode.
_ROOM_OF_AN_ENTRY: Final = 6 << 10

#: Called with a line before each measurement.
Progress = Callable[[str], object]
#: Seconds by work and kind of time, one for each repeat.
Seconds = dict[str, dict[str, list[float]]]
_Make = Callable[[Path, int], None]


def counts(options_entries: int, full: int | None) -> list[int]:
    """Return the numbers of entries that are measured: powers of ten."""
    most = max(full or 0, min(100_000, options_entries * 2))
    return [10**power for power in range(3, 10) if 10**power <= most]


def entries(shop: Workshop, progress: Progress) -> dict[str, Any]:
    """Measure the microseconds of an entry, by the number of entries, in each round."""
    options = shop.options
    found = _Growth("µs an entry", "vfs")
    for count in counts(options.entries, options.full_entries if options.full else None):
        tar = shop.work / "growing.tar"
        inputs.even_files(tar, count)
        repeats = max(1, options.growth_entries // count)
        # The largest numbers take long, and their noise averages out: fewer rounds are enough.
        for number in range(options.rounds if count <= 100_000 else min(2, options.rounds)):
            progress(f"{count:,} entries, round {number + 1}")
            seconds = _measure(shop, "entries", found.driver, str(shop.one_file), str(tar), str(repeats))
            found.add(count, seconds, lambda costs: min(costs) / count * 1e6)  # noqa: B023 - it is called at once
        tar.unlink()
    return found.as_json()


def depth(shop: Workshop, progress: Progress) -> dict[str, Any]:
    """Measure the milliseconds of a layer, by its depth in the chain, in each round.

    Each value is the median of a group of `BUCKET` successive layers, listed under the last depth of the group. An
    incomplete group at the end is left out.
    """
    found = _Growth("ms a layer", "overlay2" if os.geteuid() == 0 else "vfs")
    tars = []
    for number in range(shop.options.depth):
        tars.append(shop.work / f"deep-{number}.tar")
        inputs.even_files(tars[-1], _ENTRIES_OF_A_LAYER, b"layer-%d" % number)
    size = min(BUCKET, len(tars))
    for number in range(shop.options.rounds):
        progress(f"a chain of {len(tars)} layers, round {number + 1}")
        seconds = _measure(shop, "depth", found.driver, *map(str, tars))
        for end in range(size, len(tars) + 1, size):
            found.add(end, seconds, lambda costs: statistics.median(costs[end - size : end]) * 1e3)  # noqa: B023
    for tar in tars:
        tar.unlink()
    return found.as_json()


class _Growth:
    """The costs by a growing number, in each round.

    The processor's time counts. A round of small numbers is short, so other load on the machine affects only some
    rounds by the clock. The clock's time is kept too.
    """

    def __init__(self, unit: str, driver: str) -> None:
        self.unit = unit
        self.driver = driver
        self._kinds: dict[str, dict[str, dict[int, list[float]]]] = {"processor": {}, "clock": {}}

    def add(self, number: int, seconds: Seconds, cost: Callable[[list[float]], float]) -> None:
        """Add the seconds of a round. `cost` computes the cost from the seconds of all repeats."""
        for kind, of in self._kinds.items():
            for what, times in seconds.items():
                of.setdefault(what, {}).setdefault(number, []).append(cost(times[kind]))

    def as_json(self) -> dict[str, Any]:
        """Return the costs in the form of the file of results."""
        return {"unit": self.unit, "driver": self.driver, "of": self._kinds["processor"], "clock": self._kinds["clock"]}


def _measure(shop: Workshop, *arguments: str) -> Seconds:
    """Run `benchmarks.inside`. Return the seconds that it prints."""
    with tempfile.TemporaryDirectory(dir=shop.work) as name:
        output = Path(name) / "output"
        _checked(Contender(arguments[0], "", ["sh", "-c", f'"$@" > {output}', "sh", *inside(*arguments)]), shop.work)
        found: Seconds = json.loads(output.read_text())
        return found


def memory(shop: Workshop, progress: Progress) -> dict[str, dict[str, int | str]]:
    """Measure the greatest memory of registering and exporting, in bytes. Return a reason where it is not known."""
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
            progress(f"memory of {name}")
            store = where / "store"
            register = layerstore("register", str(tar), root=str(store))
            taken = {"register": _checked(Contender("register", "", register), where).memory}
            tar.unlink()
            export = layerstore("export", _only_layer(store), "-o", "/dev/null", root=str(store))
            found[name] = {**taken, "export": _checked(Contender("export", "", export), where).memory}
    return found


@contextmanager
def _directory(shop: Workshop, room: int) -> Iterator[Path | None]:
    """Yield a directory with room for so many bytes, or `None`.

    It is in the work directory if that takes no more than 30 % of its free space, otherwise on the disk.
    """
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
