"""Run contenders in turn, and compute medians and ratios."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.contenders import Contender, environment

#: Runs a command, and writes its seconds, its processor's seconds and its memory to a descriptor. It is a process of
#: its own because the kernel counts the memory of the one that starts a command as the command's, too.
_LAUNCH: Final = """
import os, sys, time
figures = int(sys.argv[1])
os.set_inheritable(figures, False)
start = time.perf_counter()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - start
text = f"{seconds} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss * 1024}"
os.write(figures, text.encode())
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Attributes:
        seconds: the seconds by the clock.
        processor: the seconds of user and system time of the command, of its children, and of its daemon.
        memory: the greatest memory of one of its processes, in bytes.
    """

    seconds: float
    processor: float
    memory: int


@dataclass
class Measured:
    """The runs of a contender, one for each round. `None` for a run that failed."""

    does: str
    runs: list[Run | None] = field(default_factory=list)
    missing: str = ""

    @property
    def seconds(self) -> list[float | None]:
        """The seconds of each round."""
        return [run.seconds if run else None for run in self.runs]

    @property
    def processor(self) -> list[float | None]:
        """The processor's seconds of each round."""
        return [run.processor if run else None for run in self.runs]

    @property
    def median(self) -> float:
        """The median of the seconds.

        Raises:
            ValueError: no run has succeeded.
        """
        return statistics.median(one for one in self.seconds if one is not None)

    @property
    def ran(self) -> bool:
        """Whether any run has succeeded."""
        return any(run is not None for run in self.runs)

    def as_json(self) -> dict[str, Any]:
        """Return the runs in the form of the file of results."""
        return {
            "does": self.does,
            "missing": self.missing,
            "runs": [asdict(run) if run is not None else None for run in self.runs],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the runs from the file of results."""
        return cls(data["does"], [Run(**run) if run else None for run in data["runs"]], data["missing"])


#: The measurements of one piece of work, by contender.
Results = dict[str, Measured]


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of single rounds, the least and the greatest."""

    median: float
    least: float
    most: float


def ratio(ours: Iterable[float | None], theirs: Iterable[float | None]) -> Ratio | None:
    """Return how many times as long ours takes. Only rounds with both count, so that each ratio is of one moment."""
    found = [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]
    return Ratio(statistics.median(found), min(found), max(found)) if found else None


def flatness(costs: Iterable[float]) -> float:
    """Return the ratio of the largest cost to the smallest. 1 is flat."""
    found = list(costs)
    return max(found) / min(found)


def alternate(contenders: Sequence[Contender], work: Path, rounds: int, progress: Callable[[str], object]) -> Results:
    """Run the contenders in turn, so that other load on the machine affects all alike.

    A contender that fails in the first round is left out. `progress` is called with a line before each run.
    """
    results = {one.name: Measured(one.does, missing=one.missing) for one in contenders}
    for number in range(rounds):
        for one in contenders:
            found = results[one.name]
            if found.missing:
                continue
            progress(f"round {number + 1} of {rounds}: {one.name}")
            run, problem = once(one, work)
            if run is None:
                print(f"{one.name}: {problem}", file=sys.stderr)
            if run is None and not number:
                found.missing = f"failed: {problem.splitlines()[0] if problem else 'no error message'}"
                continue
            found.runs.append(run)
    return results


def once(contender: Contender, work: Path) -> tuple[Run | None, str]:
    """Run a contender in a new directory, which is then removed. Return the run, or the error output if it fails."""
    with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as name, tempfile.TemporaryFile() as errors:
        contender.before(Path(name))
        before = _used_by(contender.daemon)
        figures, theirs = os.pipe()
        with (
            open(figures, "rb") as usage,
            subprocess.Popen(
                [sys.executable, "-IS", "-c", _LAUNCH, str(theirs), *contender.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if contender.prints_seconds else subprocess.DEVNULL,
                stderr=errors,
                cwd=name,
                env={**environment(), **contender.environment},
                pass_fds=[theirs],
            ) as process,
        ):
            os.close(theirs)
            output = process.stdout.read() if process.stdout else b""
            found = usage.read().split()
        if process.returncode or not found:
            errors.seek(0)
            return None, errors.read().decode(errors="replace").strip()
        daemon = _used_by(contender.daemon) - before
        _clear(Path(name))  # after the clock has stopped: removing the tree is no part of the work
        seconds, processor = map(float, output.split() if contender.prints_seconds else found[:2])
        return Run(seconds, processor + daemon, int(found[2])), ""


def _used_by(daemon: Path | None) -> float:
    """Return the processor's seconds of a daemon and of all its descendants. The argument has its process ID."""
    if daemon is None:
        return 0
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # the process has ended
        parents[int(path.parent.name)] = int(fields[1])
        used[int(path.parent.name)] = sum(map(int, fields[11:15]))  # with children that have ended
    top, total = int(daemon.read_text()), 0
    for process, ticks in used.items():
        above = process
        while above and above != top:
            above = parents.get(above, 0)
        total += ticks if above else 0
    return total / _TICKS


def _clear(directory: Path) -> None:
    """Remove what a command has created. Unmount first: containers-storage leaves a mount behind."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (mount := line.split()[4]).startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", mount], check=False)
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
