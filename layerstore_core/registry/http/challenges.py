"""Challenges: what a header `WWW-Authenticate` asks for (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_MAX_HEADER: Final = 16 << 10
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
#: A value without quotes should be a word, but some servers leave out the quotes of URLs.
_PARAMETER = re.compile(rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.ASCII)
_SCHEME = re.compile(rf"{_WORD}(?=[\s,]|$)", re.ASCII)
_BETWEEN = re.compile(r"[\s,]*")
_ESCAPED = re.compile(r"\\(.)")
_SCOPE = re.compile(r"([^\s:]+:[^\s]+):([^\s:]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers.

    Attributes:
        scheme: `basic` or `bearer`, or another one, in lower case.
        values: its parameters, by their names in lower case.
    """

    scheme: str
    values: Mapping[str, str]

    @property
    def scopes(self) -> frozenset[str]:
        """The rights that the server wants to see, as in `scopes_of`."""
        return scopes_of(self.values.get("scope", ""))


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges of a header; several headers may be joined with commas. What cannot be read is left out."""
    found: list[Challenge] = []
    if len(header) > _MAX_HEADER:
        return found
    position = 0
    while position < len(header):
        position = _matched_end(_BETWEEN, header, position)
        if parameter := _PARAMETER.match(header, position):
            if found:
                name, quoted, word = parameter.groups()
                value = word if quoted is None else _ESCAPED.sub(r"\1", quoted)
                assert isinstance(found[-1].values, dict)
                found[-1].values.setdefault(name.lower(), value)
            position = parameter.end()
        elif scheme := _SCHEME.match(header, position):
            found.append(Challenge(scheme[0].lower(), {}))
            position = scheme.end()
        else:
            # Go on after what cannot be read.
            position = header.find(",", position) + 1 or len(header)
    return found


def scopes_of(text: str) -> frozenset[str]:
    """Return the scopes in a text, each with one action: `repository:a:pull,push` is two."""
    found = set()
    for scope in text.split():
        if parts := _SCOPE.fullmatch(scope):
            found |= {f"{parts[1]}:{action}" for action in parts[2].split(",") if action}
        else:
            found.add(scope)
    return frozenset(found)


def joined_scopes(scopes: Iterable[str]) -> list[str]:
    """Return scopes as token servers want them: one for each resource, with all of its actions."""
    actions: dict[str, list[str]] = {}
    for scope in sorted(scopes):
        resource, _, action = scope.rpartition(":")
        actions.setdefault(resource, []).append(action)
    return [f"{resource}:{','.join(found)}" if resource else ",".join(found) for resource, found in actions.items()]


def _matched_end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    assert found is not None
    return found.end()
