"""The filter of a tree: one line of words, all of which a file has to fit.

- `added`, `changed`, `deleted`, `moved`, `same` with a colon before them (`:added,moved`): what was done to it.
- `>1M`, `<10k`: its size; of a directory nothing is measured, only files fit.
- `~EXPRESSION`: a regular expression of RE2, found somewhere in the path. It takes the rest of the line, and capital
  letters matter. Python's own engine would stop the whole program for some expressions, such as `(a*)*b`.
- any other word: a name. With `*`, `?` or `[` it is a pattern for the whole name, or, with a slash, for the whole path;
  otherwise a part of the path. Without capital letters, capital letters do not matter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from typing import Final

from layerstore_core.base.units import parse_size
from layerstore_core.explore.file_tree import File
from layerstore_core.explore.marks import Mark

_WILD: Final = frozenset("*?[")
#: The memory that an expression may take, in bytes.
_MOST_MEMORY: Final = 8 << 20


@dataclass(frozen=True)
class FileFilter:
    """What a file has to fit. Without any condition, all files fit.

    Attributes:
        marks: its mark is one of these; empty for any.
        larger: it is a file with more than so many bytes.
        smaller: it is a file with fewer bytes.
        names: what is found in the name, or, if the second value is true, in the path.
    """

    marks: frozenset[Mark] = frozenset()
    larger: int | None = None
    smaller: int | None = None
    names: tuple[tuple[Callable[[str], object], bool], ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is a condition."""
        return bool(self.marks or self.names) or self.larger is not None or self.smaller is not None

    def fits(self, file: File) -> bool:
        """Return whether a file fits."""
        if self.marks and file.mark not in self.marks:
            return False
        if self.larger is not None or self.smaller is not None:
            if file.node.is_directory:
                return False
            if self.larger is not None and file.size <= self.larger:
                return False
            if self.smaller is not None and file.size >= self.smaller:
                return False
        if self.names:
            path = os.fsdecode(file.path)
            name = path.rpartition("/")[2]
            return all(found_in(path if whole else name) for found_in, whole in self.names)
        return True


def parse_filter(text: str) -> FileFilter:
    """Return the filter that a line of words means; see the module.

    Raises:
        ValueError: a word cannot be understood; the message says what to write.
    """
    words, has_expression, expression = _split(text)
    marks: set[Mark] = set()
    larger = smaller = None
    names: list[tuple[Callable[[str], object], bool]] = []
    for word in words:
        if word.startswith(":"):
            marks.update(_marks(word[1:]))
        elif word.startswith(">"):
            larger = parse_size(word[1:])
        elif word.startswith("<"):
            smaller = parse_size(word[1:])
        else:
            names.append(_name(word))
    if has_expression:
        names.append((_expression(expression), True))
    return FileFilter(frozenset(marks), larger, smaller, tuple(names))


def _split(text: str) -> tuple[list[str], bool, str]:
    """Return the words before a regular expression, whether there is one, and what it is."""
    found = re.search(r"(?:^|(?<=\s))~", text)
    if found is None:
        return text.split(), False, ""
    return text[: found.start()].split(), True, text[found.end() :].strip()


def _marks(words: str) -> list[Mark]:
    found = []
    for word in filter(None, words.split(",")):
        chosen = [mark for mark in Mark if mark.value.startswith(word)]
        if len(chosen) != 1:
            raise ValueError(f"{word!r} is no kind: write {', '.join(mark.value for mark in Mark)}")
        found += chosen
    if not found:
        raise ValueError(f"a kind is missing after the colon: write {', '.join(mark.value for mark in Mark)}")
    return found


def _expression(text: str) -> Callable[[str], object]:
    """Return a function that looks for a regular expression in a path; of other bytes than UTF-8 each is a `?` there.

    Raises:
        ValueError: it is no expression, or RE2 is not installed.
    """
    try:
        import re2
    except ImportError:
        needed = "pip install 'layerstore-core[explore]'"
        raise ValueError(f"a filter with a regular expression needs the package google-re2: {needed}") from None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    try:
        expression = re2.compile(text, options)
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} is no regular expression: it is not UTF-8") from None
    except re2.error as error:
        (why,) = error.args
        raise ValueError(f"{text!r} is no regular expression: {why.decode('utf-8', 'replace')}") from None
    return lambda path: expression.search(path.encode("utf-8", "replace"))


def _name(word: str) -> tuple[Callable[[str], object], bool]:
    flags = re.IGNORECASE if word == word.lower() else re.NOFLAG
    if _WILD.isdisjoint(word):
        return re.compile(re.escape(word.lstrip("/") if len(word) > 1 else word), flags).search, True
    whole = "/" in word
    return re.compile(r"\A" + translate(word.lstrip("/")), flags).search, whole
