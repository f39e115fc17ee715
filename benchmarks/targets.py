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
        processor: the target for the processor's time, if there is one.
        plus: another peer, which does the rest of the work: its time is added.
    """

    work: str
    ours: str
    peers: tuple[str, ...]
    factor: float
    which: str = "fastest"
    processor: float | None = None
    plus: str = ""

    def row(self, title: str, results: Results) -> Row:
        """Compare the results with the target. Return the row."""
        names = [name for name in self.peers if name in results and results[name].ran]
        ours = results.get(self.ours)
        title = f"{title}: {self.ours}"
        if ours is None or not ours.ran:
            return Row(title, self._target, f"not measured: {ours.missing if ours else 'left out'}", None)
        if not names or (self.plus and not (self.plus in results and results[self.plus].ran)):
            return Row(title, self._target, f"not measured: {self._why(results)}", None)
        choose = max if self.which == "slowest" else min
        peer = choose(names, key=lambda name: results[name].median)
        rest = results[self.plus] if self.plus else None
        found = ratio(ours.seconds, _sums(results[peer].seconds, rest.seconds if rest else None))
        processor = ratio(ours.processor, _sums(results[peer].processor, rest.processor if rest else None))
        if found is None:
            return Row(title, self._target, "not measured: no round has both", None)
        against = f" of {peer}" if len(self.peers) > 1 else ""
        used = f"; processor {_text(processor)}" if processor else ""
        met = found.median <= self.factor
        if self.processor is not None:
            met = met and processor is not None and processor.median <= self.processor
        return Row(title, self._target, f"{_text(found)}{against}{used}", met)

    @property
    def _target(self) -> str:
        used = f", and {self.processor:g} × its processor time" if self.processor is not None else ""
        if self.plus:
            return f"at most {self.factor:g} × the sum of {self._description} and {self.plus}{used}"
        return f"at most {self.factor:g} × {self._description}{used}"

    @property
    def _description(self) -> str:
        if len(self.peers) == 1:
            return self.peers[0]
        return f"the {'slower' if self.which == 'slowest' else 'fastest'} of {', '.join(self.peers)}"

    def _why(self, results: Results) -> str:
        names = [*self.peers, self.plus]
        found = [f"{name}: {results[name].missing}" for name in names if name in results and not results[name].ran]
        return "; ".join(found) or "left out"


def _sums(first: Sequence[float | None], rest: Sequence[float | None] | None) -> Sequence[float | None]:
    if rest is None:
        return first
    return [None if one is None or two is None else one + two for one, two in zip(first, rest, strict=False)]


_INFLATERS: Final = ("isal in Python", "igzip -dc", "libdeflate-gunzip -c", "pigz -dc", "gzip -dc")
_DRIVERS: Final = ("layerstore, vfs", "layerstore, overlay2")
_FOUR: Final = "create, mount, umount, rm"
AGAINST: Final = (
    *(Against("register-real", ours, ("GNU tar -x",), 0.9, processor=1.6) for ours in _DRIVERS),
    Against("export-real", "layerstore export", ("GNU tar -c",), 0.9, processor=1.5),
    *(Against("register", ours, ("GNU tar -x",), 0.85, processor=1.4) for ours in _DRIVERS),
    *(Against("register", ours, ("docker load",), 0.13) for ours in _DRIVERS),
    *(Against("register-large", ours, ("sha256sum", "GNU tar -x"), 1.1, "slowest") for ours in _DRIVERS),
    *(Against("register-gzip", ours, _INFLATERS, 0.8, plus="GNU tar -x, not compressed") for ours in _DRIVERS),
    *(Against("register-gzip-large", ours, _INFLATERS, 1.1) for ours in _DRIVERS),
    *(Against("pipe", f"{ours}, through a pipe", (f"{ours}, from a file",), 1.05) for ours in _DRIVERS),
    Against("export", "layerstore export", ("GNU tar -c",), 0.9, processor=1.5),
    Against("export", "layerstore export", ("docker save",), 0.15),
    Against("copy", "layerstore copy_tree", ("cp -a",), 0.45),
    Against("changes", "layerstore compare_trees", ("rsync -an --checksum --delete",), 0.6),
    Against("commit", "layerstore rw commit, overlay2", ("docker commit",), 0.2),
    Against("check", "layerstore check --full", ("sha256sum",), 1.3),
    Against("load", "layerstore load, overlay2", ("docker load",), 0.12),
    Against("start", "layerstore --version", ("python -c pass",), 2),
    Against("start", "layerstore ls", ("python -c pass",), 3.5),
    Against("start", "layerstore register", ("python -c pass",), 4.5),
    Against("start", f"layerstore rw {_FOUR}", (f"podman {_FOUR}",), 1),
    *(
        Against("pull", f"layerstore pull, {driver}", (peer,), factor)
        for driver in ("vfs", "overlay2")
        for peer, factor in (("docker pull", 0.35), ("curl; tar -xz", 0.7))
    ),
    Against("layers", "layerstore export, many layers", ("layerstore export, 10 layers",), 1.2),
)
#: The most seconds that contenders may take, by work.
ABSOLUTE: Final = {
    "layers": {"layerstore, opening": 0.5, "layerstore ls": 0.5},
    "files": {"layerstore files -R": 1.0},
    "start": {"layerstore, in one process": 0.005},
}
#: The most seconds that the pull of one small layer may take.
UPDATE: Final = 0.3
MEMORY: Final = 120 * _MIB
FLAT: Final = 1.1
#: What is done at once may take at most so many times the time that the cores allow.
NEAR: Final = 1.2
#: How the layers of a work are registered at once, and how one by one.
_AT_ONCE: Final = {"image": ("together", "one by one"), "processes": ("at once", "one after another")}


def peers_of(work: str) -> set[str]:
    """Return the peers that a target of a piece of work names."""
    return {peer for one in AGAINST if one.work == work for peer in (*one.peers, one.plus)}


def rows(results: Mapping[str, Any]) -> list[Row]:
    """Return the rows of all targets that were measured."""
    works = {
        name: {one: Measured.from_json(data) for one, data in work["contenders"].items()}
        for name, work in results["work"].items()
    }
    titles = {name: work["title"] for name, work in results["work"].items()}
    found = [target.row(titles[target.work], works[target.work]) for target in AGAINST if target.work in works]
    for work in (one for one in ABSOLUTE if one in works):
        found += [_absolute(titles[work], name, works[work][name], most) for name, most in ABSOLUTE[work].items()]
    if "pull-update" in works:
        ours = [name for name in works["pull-update"] if name.startswith("layerstore")]
        found += [_absolute(titles["pull-update"], name, works["pull-update"][name], UPDATE) for name in ours]
    if "pull" in works:
        ours = [name for name in works["pull"] if name.startswith("layerstore") and works["pull"][name].ran]
        found += [_memory(f"{name} of {titles['pull']}", _peak(works["pull"][name])) for name in ours]
    cores = results["machine"]["cores"]
    for work, (together, single) in _AT_ONCE.items():
        for driver in ("overlay2", "vfs") if work in works else ():
            both = [works[work][f"layerstore, {driver}, {how}"] for how in (together, single)]
            found.append(_at_once(f"{titles[work]}: {driver}", single, both, cores))
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
    digits = 2 if most >= 0.1 else 4
    text = f"{found.median:.{digits}f} s ({min(times):.{digits}f} to {max(times):.{digits}f})"
    return Row(f"{title}: {name}", target, text, found.median < most)


def _at_once(title: str, how: str, measured: Sequence[Measured], cores: int) -> Row:
    """Compare layers registered at once with layers registered one by one. The limit is that all cores always work."""
    together, single = measured
    target = f"within {NEAR - 1:.0%} of what {cores} cores allow, {how} being 1"
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
