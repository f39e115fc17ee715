"""The targets, and whether they are met: plain arithmetic on the file of results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.measuring import Measured, Ratio, Results, flatness, ratio

_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Row:
    """One row of the table of targets.

    Attributes:
        work: the work, and who did it.
        target: the target, as text.
        found: the measured value, or why nothing was measured, as text.
        met: whether the target is met. `None` if nothing was measured.
    """

    work: str
    target: str
    found: str
    met: bool | None


@dataclass(frozen=True)
class Against:
    """A target relative to peers that do the same work: `ours` takes at most `factor` times as long as a peer.

    Attributes:
        work: the name of the work in `works.WORKS`.
        ours: our contender.
        peers: the peers to compare with.
        factor: the target.
        which: the one of several peers that counts, by the medians: "fastest" or "slowest".
    """

    work: str
    ours: str
    peers: tuple[str, ...]
    factor: float
    which: str = "fastest"

    def row(self, title: str, results: Results) -> Row:
        """Compare the results with the target. Return the row."""
        names = [name for name in self.peers if name in results and results[name].ran]
        ours = results.get(self.ours)
        target = f"at most {self.factor:g} × {self._description}"
        title = f"{title}: {self.ours}"
        if ours is None or not ours.ran:
            return Row(title, target, f"not measured: {ours.missing if ours else 'left out'}", None)
        if not names:
            return Row(title, target, f"not measured: {self._why(results)}", None)
        choose = max if self.which == "slowest" else min
        peer = choose(names, key=lambda name: results[name].median)
        found = ratio(ours.seconds, results[peer].seconds)
        if found is None:
            return Row(title, target, "not measured: no round has both", None)
        against = f" of {peer}" if len(self.peers) > 1 else ""
        return Row(title, target, f"{_text(found)}{against}", found.median <= self.factor)

    @property
    def _description(self) -> str:
        if len(self.peers) == 1:
            return self.peers[0]
        return f"the {'slower' if self.which == 'slowest' else 'fastest'} of {', '.join(self.peers)}"

    def _why(self, results: Results) -> str:
        return "; ".join(f"{name}: {results[name].missing}" for name in self.peers if name in results) or "left out"


_INFLATERS: Final = ("isal in Python", "igzip -dc", "libdeflate-gunzip -c", "pigz -dc", "gzip -dc")
_DRIVERS: Final = ("layerstore, vfs", "layerstore, overlay2")
AGAINST: Final = (
    *(Against("register", ours, ("GNU tar -x",), 1.0) for ours in _DRIVERS),
    *(Against("register", ours, ("docker load",), 0.2) for ours in _DRIVERS),
    *(Against("register-large", ours, ("sha256sum", "GNU tar -x"), 1.1, "slowest") for ours in _DRIVERS),
    *(Against("register-gzip", ours, _INFLATERS, 1.1) for ours in _DRIVERS),
    *(Against("register-gzip-large", ours, _INFLATERS, 1.1) for ours in _DRIVERS),
    Against("export", "layerstore export", ("GNU tar -c",), 1.0),
    Against("export", "layerstore export", ("docker save",), 0.15),
    Against("copy", "layerstore copy_tree", ("cp -a",), 1.0),
    Against("changes", "layerstore compare_trees", ("rsync -an --delete",), 0.5),
    *(
        Against("pull", f"layerstore pull, {driver}", (peer,), factor)
        for driver in ("vfs", "overlay2")
        for peer, factor in (("docker pull", 0.35), ("curl; tar -xz", 0.7))
    ),
    Against("layers", "layerstore export, many layers", ("layerstore export, 10 layers",), 1.2),
)
#: The most seconds that contenders of the work `layers` may take.
ABSOLUTE: Final = {"layerstore, opening": 0.5, "layerstore ls": 0.5}
#: The most seconds that the listing of an image may take.
LISTING: Final = 1.0
#: The most seconds that the pull of one small layer may take.
UPDATE: Final = 0.3
MEMORY: Final = 120 * _MIB
FLAT: Final = 1.2
#: The layers of an image may take at most so many times the time that the cores allow.
NEAR: Final = 1.2


def rows(results: Mapping[str, Any]) -> list[Row]:
    """Return the rows of all targets that were measured."""
    works = {
        name: {one: Measured.from_json(data) for one, data in work["contenders"].items()}
        for name, work in results["work"].items()
    }
    titles = {name: work["title"] for name, work in results["work"].items()}
    found = [target.row(titles[target.work], works[target.work]) for target in AGAINST if target.work in works]
    if "layers" in works:
        found += [_absolute(titles["layers"], name, works["layers"][name], most) for name, most in ABSOLUTE.items()]
    if "files" in works:
        name = "layerstore files -R"
        found.append(_absolute(titles["files"], name, works["files"][name], LISTING))
    if "pull-update" in works:
        ours = [name for name in works["pull-update"] if name.startswith("layerstore")]
        found += [_absolute(titles["pull-update"], name, works["pull-update"][name], UPDATE) for name in ours]
    if "pull" in works:
        ours = [name for name in works["pull"] if name.startswith("layerstore") and works["pull"][name].ran]
        found += [_memory(f"{name} of {titles['pull']}", _peak(works["pull"][name])) for name in ours]
    if "image" in works:
        cores = results["machine"]["cores"]
        found += [_image(titles["image"], driver, works["image"], cores) for driver in ("overlay2", "vfs")]
    for title, sizes in results.get("memory", {}).items():
        found += [_memory(f"{what} of {title}", size) for what, size in sizes.items()]
    for name, what in (("growth", "entries of a layer"), ("depth", "layers below")):
        if name in results:
            found += [_flat(f"{work}: cost by {what}", costs) for work, costs in results[name]["of"].items()]
    return found


def _absolute(title: str, name: str, found: Measured, most: float) -> Row:
    target = f"under {most:g} s"
    if not found.ran:
        return Row(f"{title}: {name}", target, f"not measured: {found.missing}", None)
    times = [one for one in found.seconds if one is not None]
    text = f"{found.median:.2f} s ({min(times):.2f} to {max(times):.2f})"
    return Row(f"{title}: {name}", target, text, found.median < most)


def _image(title: str, driver: str, results: Results, cores: int) -> Row:
    """Compare layers registered together with layers registered one by one. The limit is that all cores always work."""
    together, single = (results[f"layerstore, {driver}, {how}"] for how in ("together", "one by one"))
    title, target = f"{title}: {driver}", f"within {NEAR - 1:.0%} of what {cores} cores allow, one by one being 1"
    found = ratio(together.seconds, single.seconds)
    if found is None:
        return Row(title, target, f"not measured: {together.missing or single.missing}", None)
    least = statistics.median(run.processor / cores / run.seconds for run in single.runs if run is not None)
    return Row(title, target, f"{_text(found)}; the cores allow {least:.2f}", found.median <= least * NEAR)


def _memory(title: str, size: int | str) -> Row:
    target = f"under {MEMORY // _MIB} MiB"
    if isinstance(size, str):
        return Row(title, target, f"not measured: {size}", None)
    return Row(title, target, f"{size / _MIB:.0f} MiB", size < MEMORY)


def _peak(found: Measured) -> int:
    return max(run.memory for run in found.runs if run is not None)


def _flat(title: str, costs: Mapping[int | str, Sequence[float]]) -> Row:
    target = f"largest at most {FLAT:g} × the smallest"
    medians = {int(count): statistics.median(found) for count, found in costs.items()}
    if len(medians) < 2:
        return Row(title, target, "not measured: too few sizes", None)
    found = flatness(medians.values())
    return Row(title, target, f"{found:.2f}, from {min(medians):,} to {max(medians):,}", found <= FLAT)


def _text(found: Ratio) -> str:
    return f"{found.median:.2f} ({found.least:.2f} to {found.most:.2f})"
