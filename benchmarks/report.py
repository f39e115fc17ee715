"""`python -m benchmarks.report RESULTS…`: write the tables of docs/performance.md, the charts, and README's section.

Several files of results are joined: the last measurement counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import charts
from benchmarks.contenders import CHECKOUT
from benchmarks.measuring import Measured, ratio
from benchmarks.targets import Row, rows

BEGIN: Final = "<!-- Written by benchmarks.report: begin -->"
END: Final = "<!-- end -->"
_PAGE: Final = CHECKOUT / "docs" / "performance.md"
_CHARTS: Final = CHECKOUT / "docs" / "charts"
_README: Final = CHECKOUT / "README.md"
#: The charts that README shows, with their titles.
_SHOWN: Final = {
    "register-real": "Registering a realistic layer, peers side by side",
    "export-real": "Exporting a realistic layer, peers side by side",
    "growth": "Cost of an entry by number of entries",
}
_VERDICTS: Final = {True: "met", False: "**not met**", None: "not measured"}


def main() -> None:
    """Write the page and the charts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="the results that python -m benchmarks has written")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page that gets the tables between its markers")
    parser.add_argument(
        "--readme", type=Path, default=_README, help="the page that shows the charts between its markers"
    )
    parser.add_argument(
        "--charts", type=Path, default=_CHARTS, help="the directory of the charts and the joined results"
    )
    options = parser.parse_args()
    results = join([json.loads(path.read_text()) for path in options.results])
    options.page.write_text(put(options.page.read_text(), markdown(results)))
    write_charts(results, options.charts)
    (options.charts / "results.json").write_text(with_rows(results))
    options.readme.write_text(put(options.readme.read_text(), shown(options.charts, options.readme.parent)))


def join(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of several runs as one."""
    joined = {key: value for one in found for key, value in one.items() if key != "rows"}
    loads = [load for one in found for load in one["machine"]["load"]]
    return {
        **joined,
        "machine": {**joined["machine"], "load": [min(loads), max(loads)]},
        "rounds": max(one["rounds"] for one in found),
        "work": {name: work for one in found for name, work in one["work"].items()},
        "memory": {name: sizes for one in found for name, sizes in one.get("memory", {}).items()},
    }


def with_rows(results: Mapping[str, Any]) -> str:
    """Return the text of a file of results, with the table of targets in it."""
    return json.dumps({**results, "rows": [vars(row) for row in rows(results)]}, indent=1) + "\n"


def shown(directory: Path, readme: Path) -> str:
    """Return README's text: the existing charts, and links to the figures."""
    where = os.path.relpath(directory, readme)
    charts_there = [
        f"![{title}]({where}/{name}.svg)" for name, title in _SHOWN.items() if (directory / f"{name}.svg").exists()
    ]
    link = f"[All figures, and how they were taken](docs/performance.md); [as JSON]({where}/results.json)."
    return "\n\n".join(["## How fast it is", *charts_there, link]) + "\n"


def put(page: str, tables: str) -> str:
    """Return the page with other tables between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}: the tables go between them")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def markdown(results: Mapping[str, Any]) -> str:
    """Return all tables."""
    machine = results["machine"]
    load = " to ".join(f"{one:.1f}" for one in machine["load"])
    conditions = (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory'] / 2**30:.0f} GiB, "
        f"Linux {machine['kernel']}, Python {machine['python']}, {machine['file_system']}; "
        f"{machine.get('engine', 'no kernels')}; up to {results['rounds']} rounds; load {load}. "
        "A ratio is the median of the ratios of single rounds, with the least and the most. "
        "Processor time is that of all processes that take part, daemons too."
    )
    parts = [conditions, table(rows(results))]
    for work in results["work"].values():
        parts += [f"### {work['title'][0].upper()}{work['title'][1:]}", _peers(work)]
    for name, title in (("growth", "By number of entries"), ("depth", "By depth of the chain")):
        if name in results:
            parts += [f"### {title} ({results[name]['driver']})", _costs(results[name])]
    return "\n\n".join(parts) + "\n"


def table(found: Iterable[Row]) -> str:
    """Return the table of targets, and whether they are met."""
    return _table(
        ("work", "target", "measured", ""),
        [(row.work, row.target, row.found, _VERDICTS[row.met]) for row in found],
    )


def plain(found: Sequence[Row]) -> str:
    """Return the table of targets for a terminal."""
    width = max((len(row.work) for row in found), default=0)
    verdicts = {True: "met", False: "NOT MET", None: "-"}
    return "\n".join(f"{row.work:{width}}  {verdicts[row.met]:8} {row.found}  [{row.target}]" for row in found)


def peers(work: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return for each contender: name, seconds, spread, ratio, processor seconds, their ratio, and what it does.

    The ratios are to the reference.
    """
    found = {name: Measured.from_json(data) for name, data in work["contenders"].items()}
    reference = found.get(work["reference"])
    lines: list[tuple[str, ...]] = []
    for name, one in found.items():
        if not one.ran:
            lines.append((name, "-", "-", "-", "-", "-", one.missing))
            continue
        times = [second for second in one.seconds if second is not None]
        processor = statistics.median(second for second in one.processor if second is not None)
        # Small work takes milliseconds.
        digits = 2 if one.median >= 0.1 else 4
        lines.append(
            (
                name,
                f"{one.median:.{digits}f}",
                f"{min(times):.{digits}f} to {max(times):.{digits}f}",
                _relative(one.seconds, reference.seconds if reference else ()),
                f"{processor:.{digits}f}",
                _relative(one.processor, reference.processor if reference else ()),
                one.does,
            )
        )
    return lines


def _relative(ours: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    found = ratio(ours, theirs)
    return f"{found.median:.2f}" if found else "-"


def _peers(work: Mapping[str, Any]) -> str:
    return _table(("who", "s", "spread", f"× {work['reference']}", "processor s", "× its", "does"), peers(work))


def _costs(costs: Mapping[str, Any]) -> str:
    names = list(costs["of"])
    medians = {name: {int(count): statistics.median(of) for count, of in costs["of"][name].items()} for name in names}
    lines = [(f"{count:,}", *(f"{medians[name][count]:.2f}" for name in names)) for count in sorted(medians[names[0]])]
    return _table(("", *(f"{name}, {costs['unit']}" for name in names)), lines)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(heads)
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *lines))


def write_charts(results: Mapping[str, Any], directory: Path) -> None:
    """Write a chart of the contenders for each piece of work, and one for each growth."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, work in results["work"].items():
        found = {one: Measured.from_json(data) for one, data in work["contenders"].items()}
        if values := [(one, measured.median) for one, measured in found.items() if measured.ran]:
            (directory / f"{name}.svg").write_text(charts.bars(work["title"], values, "s"))
    for name, title in (("growth", "Cost of an entry by number of entries"), ("depth", "Cost of a layer by depth")):
        if name in results:
            of = results[name]["of"]
            lines = {
                what: [(int(count), statistics.median(found)) for count, found in costs.items()]
                for what, costs in of.items()
            }
            (directory / f"{name}.svg").write_text(charts.curves(title, lines, results[name]["unit"]))


if __name__ == "__main__":
    main()
