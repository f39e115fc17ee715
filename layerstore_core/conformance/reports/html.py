"""The report as one HTML file, which needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from layerstore_core.conformance.outcomes.results import DriverResult, Run
from layerstore_core.conformance.reports import facts, speed
from layerstore_core.conformance.reports.bars import svg

_STYLE: Final = """\
:root { color-scheme: light dark; --text: #1f2328; --page: #ffffff; --line: #d0d7de; --quiet: #59636e;
  --own: #2563eb; --other: #94a3b8; --conforms: #1a7f37; --incomplete: #9a6700; --failed: #cf222e; --code: #f3f5f7; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --page: #0d1117; --line: #3d444d; --quiet: #9198a1;
  --own: #60a5fa; --other: #64748b; --conforms: #3fb950; --incomplete: #d29922; --failed: #f85149; --code: #161b22; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; }
td.number, th.number { text-align: right; }
code, pre { font: 13px/1.45 ui-monospace, monospace; background: var(--code); border-radius: 4px; }
code { padding: .1rem .3rem; overflow-wrap: anywhere; } pre { padding: .7rem; overflow-x: auto; }
svg { width: 100%; max-width: 40rem; display: block; margin: 1rem 0; font: 13px system-ui, sans-serif; }
svg text { fill: var(--text); } svg .title { font-size: 15px; font-weight: 600; }
svg .own { fill: var(--own); } svg .other { fill: var(--other); }
.quiet { color: var(--quiet); }
.conforms, .passed { color: var(--conforms); } .failed { color: var(--failed); }
.incomplete, .limited { color: var(--incomplete); }
"""


def document(run: Run) -> str:
    """Return the report as HTML."""
    names = ", ".join(driver.driver for driver in run.drivers) or "no driver"
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Conformance of {_text(names)}</title>",
        f"<style>\n{_STYLE}</style>",
        "</head>",
        "<body>",
    ]
    for driver in run.drivers:
        lines += _driver(run, driver)
    return "\n".join([*lines, "</body>", "</html>"]) + "\n"


def _driver(run: Run, driver: DriverResult) -> Iterator[str]:
    title = facts.title(driver)
    yield f'<h1>D{_text(title[1:])}: <span class="{_kind(driver.verdict)}">{_text(driver.summary)}</span></h1>'
    yield f'<p class="quiet">{_text(run.means(driver))}.</p>'
    if driver.selection:
        yield f"<p>Chosen: {_text(driver.selection)}.</p>"
    yield (
        '<table><thead><tr><th>group</th><th>verdict</th><th class="number">passed</th><th class="number">of</th>'
        "<th>other</th></tr></thead><tbody>"
    )
    for group in driver.groups:
        yield (
            f'<tr><td>{_text(group.group)}</td><td class="{_kind(group.verdict)}">{_text(group.verdict)}</td>'
            f'<td class="number">{group.count("passed")}</td><td class="number">{group.known}</td>'
            f"<td>{_text(facts.counts(group))}</td></tr>"
        )
    yield "</tbody></table>"
    for failure in facts.failures(driver):
        yield from _failure(failure)
    for name, found in (("Declared limits", facts.limits(driver)), ("Not tried", facts.not_tried(driver))):
        yield from _list(name, (f"<code>{_text(tests)}</code>: {_text(reason)}" for tests, reason in found))
    yield from _list("Could be declared", map(_text, facts.could_declare(driver)))
    yield from _list("Notes", (f"{_text(group)}: {_text(note)}" for group, note in facts.notes(driver)))
    if charts := speed.charts(driver):
        yield "<h2>Speed</h2>"
        yield '<p class="quiet">The time of each step in milliseconds: the least of three, on one file system.</p>'
        for chart in charts:
            yield svg(chart, driver.driver)


def _failure(failure: facts.Failed) -> Iterator[str]:
    test = failure.test
    yield f'<h2><span class="failed">Failed</span>: <code>{_text(test.group)}: {_text(test.name)}</code></h2>'
    yield f"<p>The contract demands: {_text(test.demand)}</p>"
    yield f"<p>{_text(test.loss)}</p>"
    yield f"<pre>{_text(test.message)}</pre>"
    yield "<p>Where to look:</p>"
    yield from _items(f"<code>{_text(place)}</code>" for place in test.where)
    for one in (test, *failure.others):
        if one.kept:
            yield f"<p>Kept: <code>{_text(one.kept)}</code>; to remove it: <code>{_text(one.removal)}</code></p>"
    if failure.same:
        yield f"<p>{_text(failure.same[:1].upper() + failure.same[1:])}</p>"


def _list(title: str, items: Iterable[str]) -> Iterator[str]:
    if found := list(items):
        yield f"<h2>{title}</h2>"
        yield from _items(found)


def _items(items: Iterable[str]) -> Iterator[str]:
    yield "<ul>"
    yield from (f"<li>{item}</li>" for item in items)
    yield "</ul>"


def _kind(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _text(text: str) -> str:
    """Return text for a place in the page: escaped, and without control characters."""
    return escape("".join(c if c in "\n\t" or (c >= " " and c != "\x7f") else "\ufffd" for c in text))
