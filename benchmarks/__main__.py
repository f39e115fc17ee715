"""`python -m benchmarks`: run all that is installed, alternating, and write a table, JSON and charts."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import charts, inputs
from benchmarks.contenders import Contender, comparing, copying, docker_daemon, exporting, layerstore, registering

CHECKOUT: Final = Path(__file__).resolve().parents[1]
#: What each of these is compared with.
REFERENCES: Final = {"register": "GNU tar -x", "export": "GNU tar -c", "copy": "cp -a", "changes": "rsync -an --delete"}
Times = dict[str, list[float]]


def main() -> None:
    """Measure, and tell."""
    options = _parse()
    results: dict[str, Any] = {"machine": _machine(), "entries": options.entries, "work": {}, "growth": []}
    with (
        tempfile.TemporaryDirectory(prefix="layerstore-bench-", dir=options.work) as name,
        docker_daemon(Path(name)) as docker,
    ):
        work = Path(name)
        for what, contenders in _prepare(work, options.entries, docker).items():
            times = _run(contenders, work, options.rounds)
            results["work"][what] = {
                one.name: {"does": one.does, "seconds": times[one.name]} for one in contenders if times.get(one.name)
            }
            _print(what, contenders, times)
        results["growth"] = _growth(work, options.entries)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for what, found in results["work"].items():
        medians = [(name, statistics.median(one["seconds"])) for name, one in found.items()]
        (options.output / f"{what}.svg").write_text(charts.bars(f"{what}: {options.entries:,} entries", medians, "s"))
    growth = charts.curve("register: time per entry, by number of entries", results["growth"], "µs")
    (options.output / "growth.svg").write_text(growth)
    print(f"\nwritten to {options.output}", file=sys.stderr)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--entries", type=int, default=68_000, help="of the layer of small files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=CHECKOUT / "benchmarks" / "results")
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    parser.add_argument("--work", default=fast, help="where inputs and outputs are, best on a tmpfs; a few GB")
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    return {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg(), "kernel": os.uname().release}


def _prepare(work: Path, entries: int, docker: list[str] | None) -> dict[str, list[Contender]]:
    """Make the inputs, and say who works on them."""
    tar, large, archive = work / "small.tar", work / "large.tar", work / "image.tar"
    inputs.small_files(tar, entries)
    inputs.large_files(large, 1 << 30)
    with tar.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    if docker:
        inputs.docker_archive(archive, tar, diff_id)
    done = subprocess.run(
        layerstore("register", str(tar)), check=True, capture_output=True, text=True, cwd=work, env=_env()
    )
    trees = [work / "tree", work / "other"]
    for tree in trees:
        tree.mkdir()
        subprocess.run(["tar", "-xf", tar, "-C", tree], check=True)
    return {
        "register": registering(tar, docker, archive),
        "register-large": registering(large, None, archive),
        "export": exporting(work / "store", done.stdout.strip(), trees[0], docker),
        "copy": copying(trees[0]),
        "changes": comparing(*trees),
    }


def _run(contenders: list[Contender], work: Path, rounds: int) -> Times:
    """Run each in turn, so that what else the machine does meets all alike."""
    times: Times = {one.name: [] for one in contenders}
    for number in range(rounds):
        for one in contenders:
            if one.missing or (number and not times[one.name]):
                continue
            seconds = _once(one, work)
            if seconds is not None:
                times[one.name].append(seconds)
    return times


def _once(contender: Contender, work: Path) -> float | None:
    with tempfile.TemporaryDirectory(dir=work) as name:
        contender.before(Path(name))
        start = time.perf_counter()
        done = subprocess.run(contender.command, check=False, capture_output=True, cwd=name, env=_env())
        seconds = time.perf_counter() - start
        if done.returncode:
            print(f"{contender.name}: {done.stderr.decode(errors='replace').strip()}", file=sys.stderr)
            return None
        # Before the next one: to remove a tree is work too.
        for path in Path(name).iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        return seconds


def _env() -> dict[str, str]:
    # Peers do not flush. What a flush costs is the disk's business, and is told apart.
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "LAYERSTORE_DURABILITY": "none"}


def _print(what: str, contenders: list[Contender], times: Times) -> None:
    reference = times.get(REFERENCES.get(what, "GNU tar -x")) or [float("nan")]
    print(f"\n{what}\n{'':24} {'median':>8} {'spread':>14} {'ratio':>6}  does")
    for one in contenders:
        found = times[one.name]
        if not found:
            print(f"{one.name:24} {'-':>8}  {'not installed' if one.missing else 'failed here'}")
            continue
        # Rounds that have both, so that a ratio is of one moment.
        ratio = statistics.median(a / b for a, b in zip(found, reference, strict=False))
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(f"{one.name:24} {statistics.median(found):7.2f}s {spread:>14} {ratio:6.2f}  {one.does}")


def _growth(work: Path, entries: int) -> list[tuple[int, float]]:
    """Microseconds per entry of registering, over ever more entries; what one entry takes is taken off."""
    tar = work / "growing.tar"
    contender = Contender("layerstore", "", layerstore("register", str(tar)))

    def best(count: int) -> float:
        inputs.small_files(tar, count)
        return min(filter(None, (_once(contender, work) for _ in range(3))))

    start = best(1)
    found = []
    count = 1000
    while count <= entries * 2:
        found.append((count, (best(count) - start) / count * 1e6))
        count *= 4
    return found


if __name__ == "__main__":
    main()
