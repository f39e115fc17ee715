"""containerd's filters, with which clients ask for some of the snapshots.

A filter is a list of selectors, with commas between them; all of them must match::

    kind==committed,labels."containerd.io/snapshot.ref"=="sha256:…",parent!=""

A selector is a field, and may have an operator and a value: `==` and `!=` compare, `~=` looks for a regular expression
of RE2. Without an operator the field must be there. Fields are `name`, `parent`, `kind` (its values are "active",
"view" and "committed") and each label, after `labels.`. A part of a field may be quoted, and so may a value: `""` is
the empty string. A regular expression may also be between `/` or `|`. Escapes in quotes are those of Go.

The grammar, and what it does in rare cases, are those of containerd's package `filters`. Regular expressions go to RE2
rather than to Python's own `re`, which has another syntax, and takes time without limit for some expressions.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from layerstore_core.log import logger

#: Decides whether a snapshot is asked for, by its name, parent, kind and labels.
Filter = Callable[[str, str, str, Mapping[str, str]], bool]

#: The most characters of all filters of one call. containerd's own have a few hundred.
MAX_LENGTH: Final = 1 << 16
#: The most memory that one regular expression may take, in bytes.
_MAX_MEMORY: Final = 4 << 20

_ALTERNATIVE_QUOTES: Final = "/|"
_QUOTES: Final = '"' + _ALTERNATIVE_QUOTES
_OPERATOR_CHARACTERS: Final = "=!~"
_FIELD_CHARACTERS: Final = frozenset("-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_SIMPLE_ESCAPES: Final = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
#: How many hexadecimal digits follow.
_HEX_ESCAPES: Final = {"x": 2, "u": 4, "U": 8}
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_OCTAL_DIGITS: Final = frozenset("01234567")
#: Blanks for Python, and not for Go.
_NO_BLANKS: Final = "\x1c\x1d\x1e\x1f"


class InvalidFilter(ValueError):
    """A filter does not follow the grammar. The message says where, and what would be right there."""


def parse_filters(filters: Sequence[str]) -> Filter | None:
    """Return what the filters of a call let through: what at least one of them does.

    Returns:
        The filter; `None` if everything passes, as without any filter.

    Raises:
        InvalidFilter: a filter is wrong, or all together are longer than `MAX_LENGTH`.
    """
    if sum(map(len, filters)) > MAX_LENGTH:
        raise InvalidFilter(f"the filters have more than {MAX_LENGTH} characters: ask for fewer at once")
    alternatives = [_Parser(text).parse() for text in filters]
    if not all(alternatives):  # an empty filter, or none, lets everything through
        return None

    def matches(name: str, parent: str, kind: str, labels: Mapping[str, str]) -> bool:
        fields = {"name": name, "parent": parent, "kind": kind}
        return any(all(selector.matches(fields, labels) for selector in selectors) for selectors in alternatives)

    return matches if alternatives else None


@dataclass(frozen=True)
class _Selector:
    """A field, and what its value has to be."""

    path: tuple[str, ...]
    operator: str = ""
    value: str = ""

    def matches(self, fields: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        # In containerd, the parts after `labels` are joined again: labels.a.b is the label "a.b".
        found = labels.get(".".join(self.path[1:])) if self.path[0] == "labels" else fields.get(self.path[0])
        if self.operator == "":
            return found is not None
        if self.operator == "==":
            return found == self.value
        # A field that is not there has the empty value for these two.
        if self.operator == "!=":
            return (found or "") != self.value
        expression = _expression(self.value)
        return expression is not None and expression.search(found or "") is not None


@functools.lru_cache(maxsize=16)
def _expression(text: str) -> Any:
    """Compile a regular expression. Return `None` if it is wrong: as in containerd, it matches nothing then."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    try:
        return re2.compile(text, options)
    except (re2.error, UnicodeEncodeError) as error:
        logger.warning("a filter's regular expression is wrong, so that it matches nothing: {!r}: {}", text, error)
        return None


class _Token(Enum):
    QUOTED = auto()
    VALUE = auto()
    FIELD = auto()
    SEPARATOR = auto()
    OPERATOR = auto()
    END = auto()
    OTHER = auto()


class _Parser:
    """Reads one filter.

    Args:
        text: the filter.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        #: Whether an operator came last: what follows is a value, which may have more characters than a field.
        self._value_follows = False

    def parse(self) -> list[_Selector]:
        if not self._text:
            return []
        selectors = [self._selector()]
        while self._at < len(self._text):
            if self._text[self._at] != ",":
                raise self._error(self._at, "expected a comma, or the end")
            self._scan()
            selectors.append(self._selector())
        return selectors

    def _selector(self) -> _Selector:
        path = [self._field()]
        while self._peek() == ".":
            self._scan()
            path.append(self._field())
        if self._peek() in ("", ","):
            return _Selector(tuple(path))
        at, token, operator = self._scan()
        if token is not _Token.OPERATOR or operator not in ("==", "!=", "~="):
            raise self._error(at, "expected an operator: ==, != or ~=")
        return _Selector(tuple(path), operator, self._value(alternative_quotes=operator == "~="))

    def _field(self) -> str:
        at, token, text = self._scan()
        if token is _Token.FIELD:
            return text
        if token is _Token.QUOTED:
            return self._unquoted(at, text, alternative_quotes=False)
        raise self._error(at, "expected a field: letters, digits, - and _, or a text in double quotes")

    def _value(self, *, alternative_quotes: bool) -> str:
        at, token, text = self._scan()
        if token in (_Token.VALUE, _Token.FIELD):
            return text
        if token is _Token.QUOTED:
            return self._unquoted(at, text, alternative_quotes=alternative_quotes)
        raise self._error(at, 'expected a value; the empty one is ""')

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _scan(self) -> tuple[int, _Token, str]:
        """Return the next token: where it begins, its kind, and its text."""
        while _is_blank(self._peek()):
            self._at += 1
        start = self._at
        first = self._peek()
        self._at += len(first)
        if first == "":
            return start, _Token.END, ""
        if first in "\0\ufffd":
            return start, _Token.OTHER, first
        if first in _QUOTES:
            self._skip_quoted(start, first)
            return start, _Token.QUOTED, self._text[start : self._at]
        if first in ",.":
            self._value_follows = False
            return start, _Token.SEPARATOR, first
        if first in _OPERATOR_CHARACTERS:
            self._skip_while(_OPERATOR_CHARACTERS.__contains__)
            self._value_follows = True
            return start, _Token.OPERATOR, self._text[start : self._at]
        if self._value_follows:
            self._skip_while(_is_in_value)
            self._value_follows = False
            return start, _Token.VALUE, self._text[start : self._at]
        if first in _FIELD_CHARACTERS:
            self._skip_while(_FIELD_CHARACTERS.__contains__)
            return start, _Token.FIELD, self._text[start : self._at]
        return start, _Token.OTHER, first

    def _skip_while(self, wanted: Callable[[str], bool]) -> None:
        while self._at < len(self._text) and wanted(self._text[self._at]):
            self._at += 1

    def _skip_quoted(self, start: int, quote: str) -> None:
        while (character := self._peek()) != quote:
            if character in ("", "\n", "\0", "\ufffd"):
                raise self._error(start, f"the text in {quote} does not end")
            # What follows a backslash is looked at by `_unquoted`; here it only must not end the text.
            self._at += 2 if character == "\\" else 1
        self._at += 1

    def _unquoted(self, at: int, quoted: str, *, alternative_quotes: bool) -> str:
        quote = quoted[0]
        if quote in _ALTERNATIVE_QUOTES and not alternative_quotes:
            raise self._error(at, f'{quote} is for regular expressions (~=); use " here')
        try:
            return _unescape(quoted[1:-1], quote)
        except InvalidFilter as error:
            raise self._error(at, str(error)) from None

    def _error(self, at: int, message: str) -> InvalidFilter:
        text, shift = self._text, 0
        if len(text) > 120:  # a message is for people
            shift = max(0, at - 60)
            text = text[shift : shift + 120]
        return InvalidFilter(f"wrong filter {text!r}, at character {at + 1}: {message}")


def _is_blank(character: str) -> bool:
    return character.isspace() and character not in _NO_BLANKS


def _is_in_value(character: str) -> bool:
    if character in ",\ufffd" or _is_blank(character):
        return False
    category = unicodedata.category(character)
    return category[0] in "LMNPS" or category == "Zs"


def _unescape(text: str, quote: str) -> str:
    """Return what a quoted text stands for, by the rules of strings in Go.

    An escape may stand for a byte. Bytes that are not UTF-8 become half surrogates, which no name and no label has.
    """
    if "\\" not in text:
        return text
    return b"".join(_unescaped_parts(text, quote)).decode("utf-8", "surrogateescape")


def _unescaped_parts(text: str, quote: str) -> Iterable[bytes]:
    at = 0
    while at < len(text):
        backslash = text.find("\\", at)
        if backslash < 0:
            yield text[at:].encode()
            return
        yield text[at:backslash].encode()
        escape = text[backslash + 1 : backslash + 2]
        at = backslash + 2
        if escape == quote:
            yield quote.encode()
        elif escape in _SIMPLE_ESCAPES:
            yield bytes([_SIMPLE_ESCAPES[escape]])
        elif escape in _HEX_ESCAPES:
            digits = text[at : at + _HEX_ESCAPES[escape]]
            at += len(digits)
            if len(digits) < _HEX_ESCAPES[escape] or not _HEX_DIGITS.issuperset(digits):
                raise InvalidFilter(f"\\{escape} needs {_HEX_ESCAPES[escape]} hexadecimal digits")
            yield _encoded(int(digits, 16), is_byte=escape == "x")
        elif escape in _OCTAL_DIGITS and escape:
            digits = text[at - 1 : at + 2]
            at += 2
            if len(digits) < 3 or not _OCTAL_DIGITS.issuperset(digits) or int(digits, 8) > 255:
                raise InvalidFilter(f"\\{digits} is no byte: three octal digits up to 377 are")
            yield bytes([int(digits, 8)])
        else:
            raise InvalidFilter(f"unknown escape \\{escape}; a backslash itself is written \\\\")


def _encoded(number: int, *, is_byte: bool) -> bytes:
    if is_byte:
        return bytes([number])
    if number > 0x10FFFF:
        raise InvalidFilter(f"there is no character {number:#x}")
    # Go writes the replacement character for half surrogates.
    return chr(0xFFFD if 0xD800 <= number <= 0xDFFF else number).encode()
