"""Running contenders in turn, and the arithmetic of what was measured."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.contenders import Contender, environment


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Attributes:
        seconds: of the clock.
        processor: seconds of user and system time, of the command and what it waited for, not of a daemon's.
        memory: the most that one process of it had at once, in bytes. A process that is not larger than the one that
            starts it cannot be told from it, so this is what it took at most.
    """

    seconds: float
    processor: float
    memory: int


@dataclass
class Measured:
    """A contender's runs, one for each round; `None` where it failed."""

    does: str
    runs: list[Run | None] = field(default_factory=list)
    missing: str = ""

    @property
    def seconds(self) -> list[float | None]:
        """Of each round."""
        return [run.seconds if run else None for run in self.runs]

    @property
    def median(self) -> float:
        """Of the seconds.

        Raises:
            ValueError: there is none.
        """
        return statistics.median(one for one in self.seconds if one is not None)

    @property
    def ran(self) -> bool:
        """Whether there is any run."""
        return any(run is not None for run in self.runs)

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return {
            "does": self.does,
            "missing": self.missing,
            "runs": [asdict(run) if run is not None else None for run in self.runs],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From the file of results."""
        return cls(data["does"], [Run(**run) if run else None for run in data["runs"]], data["missing"])


#: What was measured of one piece of work, by contender.
Results = dict[str, Measured]


@dataclass(frozen=True)
class Ratio:
    """A median of the ratios of single rounds, and how far those lie apart."""

    median: float
    least: float
    most: float


def ratio(ours: Iterable[float | None], theirs: Iterable[float | None]) -> Ratio | None:
    """How many times as long ours takes, from the rounds that have both, so that each ratio is of one moment."""
    found = [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]
    return Ratio(statistics.median(found), min(found), max(found)) if found else None


def flatness(costs: Iterable[float]) -> float:
    """The ratio of the largest cost to the smallest; 1 is flat."""
    found = list(costs)
    return max(found) / min(found)


def alternate(contenders: Sequence[Contender], work: Path, rounds: int, tell: Callable[[str], object]) -> Results:
    """Run each in turn, so that what else the machine does meets all alike. Who fails in the first round is left out."""
    results = {one.name: Measured(one.does, missing=one.missing) for one in contenders}
    for number in range(rounds):
        for one in contenders:
            found = results[one.name]
            if found.missing:
                continue
            tell(f"round {number + 1} of {rounds}: {one.name}")
            run, problem = once(one, work)
            if run is None:
                print(f"{one.name}: {problem}", file=sys.stderr)
            if run is None and not number:
                found.missing = f"failed: {problem.splitlines()[0] if problem else 'it does not say why'}"
                continue
            found.runs.append(run)
    return results


def once(contender: Contender, work: Path) -> tuple[Run | None, str]:
    """Run a contender in a fresh directory, which is removed; on failure, give what it said."""
    with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as name, tempfile.TemporaryFile() as said:
        contender.before(Path(name))
        start = time.perf_counter()
        with subprocess.Popen(
            contender.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if contender.tells else subprocess.DEVNULL,
            stderr=said,
            cwd=name,
            env=environment(),
        ) as process:
            output = process.stdout.read() if process.stdout else b""
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            return None, said.read().decode(errors="replace").strip()
        _clear(Path(name))  # now: to remove a tree is work too, but nobody's
        processor = usage.ru_utime + usage.ru_stime
        if contender.tells:
            seconds, processor = map(float, output.split())
        return Run(seconds, processor, usage.ru_maxrss * 1024), ""


def _clear(directory: Path) -> None:
    """Remove what a command made, also where it left a mount behind, as containers-storage does."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (mount := line.split()[4]).startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", mount], check=False)
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
