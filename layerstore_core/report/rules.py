"""Whether the numbers of a report keep to rules, such as `max wasted=20MB`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from layerstore_core.config.rules import COUNTS, EFFICIENCY, OPTIONS, SIZES, Rule
from layerstore_core.text import human_size

#: The fields of an image in the document that have another name than the number.
_FIELDS: Final = {"size": "visible", "layers": "layer_count", "files": "entries", "packages": "package_count"}
_WORDS: Final = {"fail_under": "at least", "max": "at most"}


class RuleResult(NamedTuple):
    """What has become of a rule.

    Attributes:
        rule: the rule.
        value: the number of the image, in the unit of the rule's name: bytes, a count, or from 0 to 1.
        limit: the limit in the same unit.
        passed: whether the image keeps to it.
    """

    rule: Rule
    value: float
    limit: float
    passed: bool

    @property
    def name(self) -> str:
        """The rule as an option of the command has it: `--max wasted=20MB`."""
        return f"{OPTIONS[self.rule.kind]} {self.rule.name}={self.rule.text}"

    @property
    def line(self) -> str:
        """The result in one line: `failed: wasted is 25 MiB, at most 20.0 MiB is allowed`."""
        value, limit = _text(self.rule, self.value), _text(self.rule, self.limit)
        if value == limit and self.value != self.limit:
            unit = " bytes" if self.rule.name in SIZES else ""
            value, limit = f"{self.value:.10g}{unit}", f"{self.limit:.10g}{unit}"
        if self.rule.share:
            limit = f"{self.rule.text} ({limit})"
        passed = "passed" if self.passed else "failed"
        return f"{passed}: {self.rule.name} is {value}, {_WORDS[self.rule.kind]} {limit} is allowed"

    def document(self) -> dict[str, Any]:
        """Return the result as JSON has it."""
        return {
            "kind": self.rule.kind,
            "name": self.rule.name,
            "given": self.rule.text,
            "value": self.value,
            "limit": self.limit,
            "passed": self.passed,
            "line": self.line,
        }


def evaluate(rules: Iterable[Rule], report: Mapping[str, Any]) -> tuple[RuleResult, ...]:
    """Return what has become of each rule.

    Args:
        rules: the rules. One about growth needs the report of a comparison.
        report: the document of an image or of a comparison; of the latter, the second image counts.
    """
    image, before = report["image"], report.get("before")
    found = []
    for rule in rules:
        of = image["written"]
        if rule.name == "growth":
            assert before is not None, "the caller leaves the rule out"
            value, of = image["visible"] - before["visible"], before["visible"]
        else:
            value = image[_FIELDS.get(rule.name, rule.name)]
        limit = of * rule.limit / 100 if rule.share else rule.limit
        found.append(RuleResult(rule, value, limit, value >= limit if rule.kind == "fail_under" else value <= limit))
    return tuple(found)


def _text(rule: Rule, value: float) -> str:
    if rule.name == EFFICIENCY:
        return f"{value:.4f}"
    if rule.name in COUNTS:
        return f"{value:.0f}"
    return f"-{human_size(-int(value))}" if value < 0 else human_size(int(value))
