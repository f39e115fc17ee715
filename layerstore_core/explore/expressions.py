"""Regular expressions whose time grows with the text only, whatever the expression and the text are.

Python's own engine tries one way after the other, and for some expressions there are more ways than anybody can wait
for; meanwhile no other thread runs. This one follows all ways at once, as K. Thompson described it ("Regular Expression
Search Algorithm", 1968), and keeps the sets of places that it has met, so that a character mostly costs one look-up.

An expression has what Python's have, but for what needs memory or a look-ahead: `.`, `[...]`, `\\d`, `\\w`, `\\s`,
`\\b` and their opposites, `^`, `$`, `\\A`, `\\Z`, `|`, `(...)`, `(?:...)`, `*`, `+`, `?` and `{2,5}`. `$` is the end of
the text only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, NoReturn, TypeAlias

#: The most parts that become places, each as often as it is repeated; the most groups in each other; the most times.
_MOST_PLACES: Final = 2000
_DEEPEST: Final = 50
_MOST_TIMES: Final = 1000
#: The most steps from one set of places to another that are kept.
_MOST_STEPS: Final = 20_000

_Fits: TypeAlias = Callable[[str], bool]


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


_KINDS: Final[dict[str, _Fits]] = {"d": str.isdecimal, "s": str.isspace, "w": _is_word}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_ANCHORS: Final = {"A": "start", "Z": "end", "b": "boundary", "B": "inside"}


class _Part(NamedTuple):
    """A part of an expression: a character that fits, an anchor, parts in turn, a choice of parts, or repetition."""

    kind: str
    parts: tuple[_Part, ...] = ()
    fits: _Fits | None = None
    least: int = 0
    most: int | None = None


class _Place(NamedTuple):
    """Where a search may be: before a character that has to fit, before an anchor, or at a fork."""

    kind: str
    ways: tuple[int, ...]
    fits: _Fits | None = None


class _State:
    """The places that a search is at between two characters."""

    __slots__ = ("first", "places", "steps", "word")

    def __init__(self, places: frozenset[int], *, first: bool, word: bool) -> None:
        self.places = places
        self.first = first
        self.word = word
        self.steps: dict[str, _State] = {}


_FOUND: Final = _State(frozenset(), first=False, word=False)


class Expression:
    """A regular expression.

    Args:
        text: the expression.

    Raises:
        ValueError: it is none, or one that this engine does not know; the message says where.
    """

    def __init__(self, text: str) -> None:
        self._places: list[_Place] = [_Place("found", ())]
        self._made = 0
        self._text = text
        self._start = self._make(_Parser(text).whole(), 0)
        self._first = _State(frozenset((self._start,)), first=True, word=False)
        self._states: dict[tuple[frozenset[int], bool], _State] = {}
        self._kept = 0

    def found_in(self, text: str) -> bool:
        """Return whether the expression fits somewhere in a text."""
        state = self._first
        for char in text:
            state = state.steps.get(char) or self._step(state, char)
            if state is _FOUND:
                return True
        return (state.steps.get("") or self._step(state, "")) is _FOUND

    def _step(self, state: _State, char: str) -> _State:
        """Return the state after a character, or, without one, at the end."""
        places = self._reached(state, char)
        if any(place.kind == "found" for place in places):
            after = _FOUND
        else:
            fitting = (place.ways for place in places if place.fits is not None and char and place.fits(char))
            found = frozenset(way for ways in fitting for way in ways) | {self._start}
            word = bool(char) and _is_word(char)
            after = self._states.get((found, word)) or _State(found, first=False, word=word)
            self._states[found, word] = after
        self._kept += 1
        if self._kept > _MOST_STEPS:
            self._kept = 0
            self._states.clear()
            self._first.steps.clear()
        state.steps[char] = after
        return after

    def _reached(self, state: _State, char: str) -> list[_Place]:
        """Return the places that are reached without a character, at the place of the next one."""
        holds = {"fork": True, "start": state.first, "end": not char}
        holds["boundary"] = state.word != (bool(char) and _is_word(char))
        holds["inside"] = not holds["boundary"]
        found = []
        seen = set(state.places)
        pending = list(seen)
        while pending:
            place = self._places[pending.pop()]
            found.append(place)
            if holds.get(place.kind):
                new = [way for way in place.ways if way not in seen]
                seen.update(new)
                pending += new
        return found

    def _add(self, kind: str, ways: Iterable[int], fits: _Fits | None = None) -> int:
        self._places.append(_Place(kind, tuple(ways), fits))
        return len(self._places) - 1

    def _make(self, part: _Part, after: int) -> int:
        """Make the places of a part that goes on at another place; return the first one."""
        self._made += 1
        if self._made > _MOST_PLACES:
            raise ValueError(f"{self._text!r} is too long: it repeats too much")
        if part.kind == "sequence":
            for inner in reversed(part.parts):
                after = self._make(inner, after)
            return after
        if part.kind == "choice":
            return self._add("fork", [self._make(inner, after) for inner in part.parts])
        if part.kind != "repeat":
            return self._add(part.kind, (after,), part.fits)
        (inner,) = part.parts
        here = after
        if part.most is None:
            fork = self._add("fork", ())
            self._places[fork] = _Place("fork", (self._make(inner, fork), after))
            here = fork
        for _ in range((part.most or part.least) - part.least):
            here = self._add("fork", (self._make(inner, here), after))
        for _ in range(part.least):
            here = self._make(inner, here)
        return here


class _Parser:
    """Reads an expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> _Part:
        found = self._choice()
        if self._at < len(self._text):
            self._refuse("unbalanced parenthesis", self._at)
        return found

    def _refuse(self, why: str, at: int) -> NoReturn:
        raise ValueError(f"{self._text!r} is no regular expression: {why} at position {at}")

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _next(self, missing: str) -> str:
        if self._at == len(self._text):
            self._refuse(f"missing {missing}", self._at)
        self._at += 1
        return self._text[self._at - 1]

    def _choice(self) -> _Part:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Part("choice", tuple(parts))

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._repeated(self._one()))
        return _Part("sequence", tuple(parts))

    def _repeated(self, part: _Part) -> _Part:
        at = self._at
        times = re.compile(r"\*|\+|\?|\{(\d*)(,?)(\d*)\}", re.ASCII).match(self._text, at)
        if times is None or times[0] == "{}":
            return part
        self._at = times.end()
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(times[0], (0, None))
        if times[0][0] == "{":
            low, comma, high = times.groups()
            if max(len(low), len(high)) > 4 or max(int(low or 0), int(high or 0)) > _MOST_TIMES:
                self._refuse(f"more than {_MOST_TIMES} times", at)
            least, most = int(low or 0), int(high) if high else None if comma else int(low)
            if most is not None and most < least:
                self._refuse("the least is more than the most", at)
        self._take("?")  # to take little or much first is the same: it is only asked whether it fits
        if re.compile(r"[*+?]|\{\d*,?\d*\}").match(self._text, self._at):
            self._refuse("repeated twice", self._at)
        if part.kind not in ("sequence", "choice", "char"):
            self._refuse("nothing to repeat", at)
        return _Part("repeat", (part,), least=least, most=most) if most != 0 else _Part("sequence")

    def _one(self) -> _Part:
        at = self._at
        char = self._next("part")
        if char == "(":
            return self._group(at)
        if char == "[":
            return _Part("char", fits=self._class(at))
        if char == "\\":
            return self._escaped(at)
        if char in "*+?":
            self._refuse("nothing to repeat", at)
        if char in "^$":
            return _Part("start" if char == "^" else "end")
        return _Part("char", fits="\n".__ne__ if char == "." else char.__eq__)

    def _group(self, at: int) -> _Part:
        if self._take("?") and not self._take(":"):
            self._refuse("groups are (...) and (?:...) only", at)
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"more than {_DEEPEST} groups in each other", at)
        found = self._choice()
        self._depth -= 1
        if not self._take(")"):
            self._refuse("missing ), unterminated group", at)
        return found if found.kind == "choice" else _Part("sequence", (found,))

    def _escaped(self, at: int) -> _Part:
        char = self._next("character after the backslash")
        if char in _ANCHORS:
            return _Part(_ANCHORS[char])
        return _Part("char", fits=_kind(char) or self._literal(char, at).__eq__)

    def _literal(self, char: str, at: int) -> str:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isascii() and char.isalnum():
            self._refuse(f"\\{char} is not known", at)
        return char

    def _class(self, at: int) -> _Fits:
        """Return whether a character is one of those in brackets."""
        negative = self._take("^")
        ranges: list[tuple[str, str]] = []
        kinds: list[_Fits] = []
        begin = self._at
        while not (self._at > begin and self._take("]")):
            low = self._member(kinds, at)
            if low is None:
                continue
            high = low
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                bound = self._member([], at)
                if bound is None or bound < low:
                    self._refuse("bad range in brackets", at)
                high = bound
            ranges.append((low, high))

        def fits(char: str) -> bool:
            inside = any(low <= char <= high for low, high in ranges) or any(kind(char) for kind in kinds)
            return inside is not negative

        return fits

    def _member(self, kinds: list[_Fits], at: int) -> str | None:
        """Return a character in brackets; `None` for a kind of characters, which is added."""
        char = self._next("], unterminated brackets")
        if char != "\\":
            return char
        char = self._next("character after the backslash")
        kind = _kind(char)
        if kind is None:
            return "\b" if char == "b" else self._literal(char, at)
        kinds.append(kind)
        return None


def _kind(char: str) -> _Fits | None:
    """Return the kind of characters that a letter after a backslash is; `None` if it is none."""
    fits = _KINDS.get(char.lower())
    if fits is None or char.islower():
        return fits
    positive = fits
    return lambda one: not positive(one)
