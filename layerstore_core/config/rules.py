"""Rules about an image's numbers, as `layerstore report` takes them: names, limits, and where they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from layerstore_core.base.units import parse_size

#: Whether a number must not be less than the limit, or must not be more.
RuleKind: TypeAlias = Literal["fail_under", "max"]

KINDS: Final[tuple[RuleKind, ...]] = ("fail_under", "max")
#: The option of each kind.
OPTIONS: Final[Mapping[RuleKind, str]] = {"fail_under": "--fail-under", "max": "--max"}
#: Numbers of bytes of which a limit may also be a share: of all written bytes, or, for the last one, of the baseline.
SHARES: Final = ("wasted", "overwritten", "deleted", "duplicated", "growth")
SIZES: Final = (*SHARES, "size", "written")
COUNTS: Final = ("layers", "files", "packages")
EFFICIENCY: Final = "efficiency"
NAMES: Final = (EFFICIENCY, *SIZES, *COUNTS)
#: The limit that takes a rule of the configuration away.
OFF: Final = "off"
_NUMBER: Final = r"(?a)\d{1,15}(\.\d{1,15})?"


class Rule(NamedTuple):
    """A limit of one number of an image.

    Attributes:
        kind: whether the number must not be less, or must not be more.
        name: the number.
        limit: bytes, a count, or, for the efficiency, from 0 to 1. Of a share: percents.
        share: whether the limit is a share, in percents.
        text: the limit as it was given.
    """

    kind: RuleKind
    name: str
    limit: float
    share: bool
    text: str


def rule_of(kind: RuleKind, name: str, value: object) -> Rule | None:
    """Return a rule; `None` for the limit `off`.

    Args:
        kind: whether the number must not be less, or must not be more.
        name: one of `NAMES`.
        value: the limit: a number, or a text such as `20MB`, `0.95` or `5%`.

    Raises:
        ValueError: there is no such number, or the limit cannot be one of it.
    """
    if name not in NAMES:
        raise ValueError(f"there is no number {name!r}; there are {', '.join(NAMES)}")
    text = str(value).strip()
    if text == OFF:
        return None
    percent = re.fullmatch(_NUMBER, text[:-1].strip()) is not None and text.endswith("%")
    if percent and name in SHARES:
        return Rule(kind, name, float(text[:-1]), True, text)
    if name == EFFICIENCY:
        limit = float(text[:-1]) / 100 if percent else float(text) if re.fullmatch(_NUMBER, text) else -1.0
        if not 0 <= limit <= 1:
            raise ValueError(f"{name} is a number from 0 to 1, or from 0% to 100%, not {text!r}")
        return Rule(kind, name, limit, False, text)
    if name in COUNTS:
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError(f"{name} is a whole number, not {text!r}")
        return Rule(kind, name, int(text), False, text)
    try:
        return Rule(kind, name, parse_size(text), False, text)
    except ValueError as error:
        raise ValueError(f"{error}{', or 5%' if name in SHARES else ''}") from None


def parse_rule(kind: RuleKind, text: str) -> tuple[str, Rule | None]:
    """Return the name and the rule that `NAME=VALUE` stands for; no rule for the value `off`.

    Raises:
        ValueError: the text has another form, or `rule_of` refuses it.
    """
    name, equals, value = text.partition("=")
    if not (equals and value):
        raise ValueError(f"{text!r} is not of the form NAME=VALUE, such as wasted=20MB")
    return name, rule_of(kind, name, value)


def merged_rules(
    table: Mapping[str, Mapping[str, Any]], given: Mapping[RuleKind, Iterable[str]], *, baseline: bool
) -> tuple[Rule, ...]:
    """Return the rules of the configuration, and those given, which count instead if they have the same name.

    Args:
        table: the setting `report`.
        given: `NAME=VALUE` by kind.
        baseline: whether there is a baseline. If not, rules of the configuration that need one are left out.

    Raises:
        ValueError: a rule cannot be used, or needs a baseline.
    """
    rules: dict[tuple[RuleKind, str], Rule | None] = {}
    for kind in KINDS:
        for name, value in table.get(kind, {}).items():
            if baseline or name != "growth":
                rules[kind, name] = rule_of(kind, name, value)
        for text in given.get(kind, ()):
            name, rule = parse_rule(kind, text)
            if rule is not None and name == "growth" and not baseline:
                raise ValueError("growth needs something to compare with: give --baseline IMAGE")
            rules[kind, name] = rule
    return tuple(rule for rule in rules.values() if rule is not None)


def check_table(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Check the setting `report`.

    Raises:
        ValueError: a table or a number is unknown, or a limit cannot be used.
    """
    for kind, limits in table.items():
        known = next((one for one in KINDS if one == kind), None)
        if known is None:
            raise ValueError(f"there is no table {kind!r}; there are {' and '.join(KINDS)}")
        for name, value in limits.items():
            rule_of(known, name, value)
    return table
