"""`python -m benchmarks`: run all installed contenders in turn, and write a table, JSON and charts."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks import growth, report
from benchmarks.contenders import CHECKOUT
from benchmarks.daemons import containerd_daemon, docker_daemon, registry
from benchmarks.measuring import alternate
from benchmarks.targets import peers_of, rows
from benchmarks.works import REGISTRIES, WORKS
from benchmarks.workshop import Options, Workshop
from layerstore_core.base.kernels import engine

_GROWTH: Final = ("growth", "depth", "memory")
#: The pieces of work with daemons among the contenders.
_WITH_DAEMONS: Final = {
    *("register-real", "export-real", "register", "register-gzip", "export", "commit"),
    *("image", "load", "files", "cat", "diff", *REGISTRIES),
}


def main() -> None:
    """Measure, print the table, and write the results."""
    arguments = _parse()
    options = _options(arguments)
    names = arguments.only or [*WORKS, *_GROWTH]
    results: dict[str, Any] = {"machine": _machine(arguments.work), "rounds": options.rounds, "work": {}}
    results["sizes"] = {name: value for name, value in vars(options).items() if isinstance(value, int)}
    load = [os.getloadavg()[0]]
    for name in names:
        # Each piece of work has its own directory, so that only the space of one is taken at a time.
        with tempfile.TemporaryDirectory(
            prefix="layerstore-bench-", dir=arguments.work, ignore_cleanup_errors=True
        ) as at:
            _measure(
                name,
                Path(at),
                options,
                results,
                daemons=not arguments.no_daemons,
                targets_only=arguments.targets_only,
            )
        load.append(os.getloadavg()[0])
        results["machine"]["load"] = [min(load), max(load)]
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.json").write_text(report.with_rows(results))
    report.write_charts(results, arguments.output)
    print(f"\n{report.plain(rows(results))}")
    _progress(f"written to {arguments.output}")


def _measure(
    name: str, work: Path, options: Options, results: dict[str, Any], *, daemons: bool, targets_only: bool
) -> None:
    with ExitStack() as stack:
        docker = ctr = host = None
        if daemons and name in _WITH_DAEMONS:
            docker = stack.enter_context(docker_daemon(work))
            ctr = stack.enter_context(containerd_daemon(work))
        if name in REGISTRIES:
            host = stack.enter_context(registry(work))
        shop = Workshop(work, options, docker, ctr, host)
        if name == "memory":
            results[name] = growth.memory(shop, _progress)
        elif name in _GROWTH:
            # Through JSON, so that the results have the same form as those read from a file.
            measure = {"growth": growth.entries, "depth": growth.depth}[name]
            results[name] = json.loads(json.dumps(measure(shop, _progress)))
        else:
            _progress(f"\n{name}: making the inputs")
            one = WORKS[name]
            title = one.title.format(options=options, megabytes=options.large // 10**6)
            rounds = options.rounds * one.times if options.rounds > 1 else 1  # a single round is a trial
            contenders = one.contenders(shop)
            if targets_only:
                named = {one.reference, *peers_of(name)}
                contenders = [who for who in contenders if who.name.startswith("layerstore") or who.name in named]
            found = alternate(contenders, work, rounds, _progress)
            results["work"][name] = {
                "title": title,
                "reference": one.reference,
                "contenders": {who: measured.as_json() for who, measured in found.items()},
            }
            print(f"\n{title}\n{'':40} {'s':>7} {'spread':>16} {'ratio':>6} {'cpu':>7} {'ratio':>6}")
            for who, *figures, does in report.peers(results["work"][name]):
                print("{:40} {:>7} {:>16} {:>6} {:>7} {:>6}  {}".format(who, *figures, does))


def _progress(line: str) -> None:
    print(line, file=sys.stderr)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*WORKS, *_GROWTH]
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="WORK", help=f"measure only these: {', '.join(names)}"
    )
    parser.add_argument("--entries", type=int, default=68_000, help="entries of the layer of small files")
    parser.add_argument("--real-entries", type=int, default=40_000, help="entries of the realistic layer")
    parser.add_argument("--checked", type=int, default=100, help="layers that are checked")
    parser.add_argument("--changed", type=int, default=10_000, help="files that are changed and committed")
    parser.add_argument("--large-bytes", type=int, default=2 << 30, help="bytes of the layer of few large files")
    parser.add_argument("--layers", type=int, default=10_000, help="layers of the store of many layers")
    parser.add_argument("--depth", type=int, default=125, help="layers of the deepest chain")
    parser.add_argument("--pulled-entries", type=int, default=36_000, help="small files of the image that is pulled")
    parser.add_argument("--pulled-bytes", type=int, default=750_000_000, help="bytes of its large files")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender")
    parser.add_argument(
        "--full", action="store_true", help="also measure a million entries and ten GB; takes an hour and 12 GB"
    )
    parser.add_argument("--full-entries", type=int, default=1_000_000, help="entries for --full")
    parser.add_argument("--full-bytes", type=int, default=10**10, help="bytes for --full")
    # Rounds of fewer entries would be too short to measure.
    parser.add_argument("--growth-entries", type=int, default=20_000, help="entries of a round of growth, at least")
    parser.add_argument("--no-daemons", action="store_true", help="leave Docker and containerd out")
    parser.add_argument("--targets-only", action="store_true", help="leave out peers that no target names")
    parser.add_argument(
        "--output", type=Path, default=CHECKOUT / "benchmarks" / "results", help="directory of the results"
    )
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    parser.add_argument(
        "--work", default=fast, help="directory of inputs and outputs, best on a tmpfs with 12 GB [%(default)s]"
    )
    parser.add_argument(
        "--disk", default=tempfile.gettempdir(), help="directory for inputs too large for --work [%(default)s]"
    )
    return parser.parse_args()


def _options(found: argparse.Namespace) -> Options:
    return Options(
        entries=found.entries,
        real_entries=found.real_entries,
        checked=found.checked,
        changed=found.changed,
        large=found.large_bytes,
        layers=found.layers,
        depth=found.depth,
        pulled_entries=found.pulled_entries,
        pulled_bytes=found.pulled_bytes,
        rounds=found.rounds,
        full=found.full,
        full_entries=found.full_entries,
        full_bytes=found.full_bytes,
        growth_entries=found.growth_entries,
        disk=Path(found.disk),
    )


def _machine(work: str) -> dict[str, Any]:
    models = [
        line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    kind = subprocess.run(["stat", "-f", "-c", "%T", work], check=False, capture_output=True, text=True).stdout.strip()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": models[0] if models else platform.machine(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": os.uname().release.partition("-")[0],
        "python": platform.python_version(),
        "engine": engine().reason,
        "file_system": kind or "an unknown file system",
        "load": [],
    }


if __name__ == "__main__":
    main()
