"""The report as Markdown, for a page or an issue."""

from __future__ import annotations

from layerstore_core.conformance.outcomes.results import DriverResult, Run
from layerstore_core.conformance.reports import facts, speed

_MARKS = {
    "passed": "✅ passed",
    "limited": "🟡 limited",
    "incomplete": "⚪ incomplete",
    "failed": "❌ failed",
    "not tried": "⚪ not tried",
    "measured": "⏱ measured",
}


def document(run: Run) -> str:
    """Return the report as Markdown."""
    lines: list[str] = []
    for driver in run.drivers:
        lines += [f"# {facts.title(driver)}: {driver.summary}".replace("# driver", "# Driver"), ""]
        lines += [f"{run.means(driver)}.", ""]
        if driver.selection:
            lines += [f"Chosen: {driver.selection}.", ""]
        lines += ["| group | verdict | passed | of | other |", "| --- | --- | ---: | ---: | --- |"]
        lines += [
            f"| {group.group} | {_MARKS[group.verdict]} | {group.count('passed')} | {group.known} | "
            f"{facts.counts(group)} |"
            for group in driver.groups
        ]
        lines += _lists(driver)
        for failure in facts.failures(driver):
            lines += ["", *_failure(failure)]
        lines.append("")
    return "\n".join(lines)


def _lists(driver: DriverResult) -> list[str]:
    lines: list[str] = []
    if table := speed.table(driver):
        lines += ["", "## Speed, in milliseconds", "", "```text", *table, "```"]
    for name, found in (("Declared limits", facts.limits(driver)), ("Not tried", facts.not_tried(driver))):
        if found:
            lines += ["", f"## {name}", "", *(f"- {_code(tests)}: {reason}" for tests, reason in found)]
    if capabilities := facts.could_declare(driver):
        lines += ["", "## Could be declared", "", *(f"- {one}" for one in capabilities)]
    if notes := facts.notes(driver):
        lines += ["", "## Notes", "", *(f"- {group}: {note}" for group, note in notes)]
    return lines


def _failure(failure: facts.Failed) -> list[str]:
    test = failure.test
    lines = [
        f"## Failed: {_code(f'{test.group}: {test.name}')}",
        "",
        f"The contract demands: {test.demand}",
        "",
        f"{test.loss}",
        "",
        "```text",
        *(line.replace("```", "'''") for line in test.message.splitlines()),
        "```",
        "",
        "Where to look:",
        "",
        *(f"- {_code(place)}" for place in test.where),
    ]
    for one in (test, *failure.others):
        if one.kept:
            lines += ["", f"Kept: {_code(one.kept)}; to remove it: {_code(one.removal)}"]
    return [*lines, "", failure.same[:1].upper() + failure.same[1:]] if failure.same else lines


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"
