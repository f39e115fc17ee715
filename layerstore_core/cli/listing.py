"""Lists of objects in the form that the user wants: a table, IDs, JSON, or lines of a template."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from layerstore_core.base.structs import struct
from layerstore_core.cli import output
from layerstore_core.cli.session import Session

#: A field in a template. It is compiled only where there is a template.
_ACTION: Final = r"\{\{-?\s*(json\s+)?\.(\w*)\s*-?\}\}"
_TABLE: Final = "table"
_NONE: Final = "<none>"


@struct(frozen=True)
class Template:
    """What to print for each object: text, and the fields to put into it.

    Attributes:
        parts: texts, and pairs of a field's name (empty for all fields) and whether to write it as JSON.
        is_table: whether to print a line with the names of the fields first, and to align the columns.
    """

    parts: tuple[str | tuple[str, bool], ...]
    is_table: bool

    @classmethod
    def parse(cls, text: str, fields: Sequence[str]) -> Template:
        r"""Read a template: a part of what Docker's `--format` takes.

        `{{.Field}}` is a field's text, `{{json .Field}}` the field as JSON, `{{json .}}` all fields as an object, and
        `json` the same as that. `\t` and `\n` are a tab and a new line. After `table`, columns are separated by `\t`.

        Raises:
            ValueError: it names an unknown field, or has another action of Go's templates.
        """
        is_table = text == _TABLE or text.startswith(f"{_TABLE} ")
        body = text.removeprefix(_TABLE).strip() if is_table else text
        if body == "json":
            body = "{{json .}}"
        if not body:
            raise ValueError(f"the format is empty; name fields, as in {example(fields)}")
        parts: list[str | tuple[str, bool]] = []
        end = 0
        for action in re.finditer(_ACTION, body, re.ASCII):
            parts.append(_literal(body[end : action.start()], fields))
            end = action.end()
            name, as_json = action[2], bool(action[1])
            if name not in fields and not (as_json and not name):
                raise ValueError(f"there is no field .{name}; the fields are {listed(fields)}")
            parts.append((name, as_json))
        parts.append(_literal(body[end:], fields))
        return cls(tuple(part for part in parts if part), is_table)

    def lines(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return the lines for some objects.

        Args:
            rows: the fields of each object: text, numbers, true or false, or `None` for none.
        """
        if not self.is_table:
            return ["".join(self._texts(row)) for row in rows]
        header = "".join(part if isinstance(part, str) else part[0].upper() for part in self.parts)
        body = ["".join(self._texts(row)) for row in rows]
        # The values have no tabs: they are escaped there.
        cells = [tuple(line.split("\t")) for line in (header, *body)]
        return output.columns(cells)

    def _texts(self, row: Mapping[str, Any]) -> Iterable[str]:
        for part in self.parts:
            if isinstance(part, str):
                yield part
            elif part[1]:
                yield json.dumps(row[part[0]] if part[0] else dict(row))
            else:
                yield text_of(row[part[0]])


def text_of(value: Any) -> str:
    """Return a field as text for a person, in one line."""
    if value is None:
        return _NONE
    return str(value).lower() if isinstance(value, bool) else output.printable(str(value))


@struct(frozen=True)
class Listing:
    """The options with which a list is to be printed.

    Attributes:
        quiet: print the IDs only.
        conditions: keys and values of filters.
        template: the form of the lines; `None` for the usual table.
        whole: print whole IDs.
    """

    quiet: bool
    conditions: tuple[tuple[str, str], ...]
    template: Template | None
    whole: bool

    def answer(
        self,
        session: Session,
        document: Callable[[], Mapping[str, Any]],
        rows: Callable[[], Sequence[Mapping[str, Any]]],
        table: Callable[[], Iterable[str]],
    ) -> None:
        """Print a list in the form that the options choose.

        Args:
            session: the session.
            document: returns the JSON document.
            rows: returns the fields of each object; `ID` is printed with `-q`, each ID once.
            table: returns the lines of the usual table.
        """
        if self.quiet:
            session.answer({}, lambda: dict.fromkeys(str(row["ID"]) for row in rows()))
        elif self.template is not None:
            template = self.template
            session.answer({}, lambda: template.lines(rows()))
        else:
            session.answer(document() if session.json else {}, table)


def _literal(text: str, fields: Sequence[str]) -> str:
    if "{{" in text or "}}" in text:
        wrong = text[max(text.find("{{"), 0) :][:80]
        raise ValueError(
            f"{wrong!r} cannot be used: a format has text, {{{{.Field}}}}, {{{{json .Field}}}} and {{{{json .}}}}; "
            f"the fields are {listed(fields)}"
        )
    return text.replace("\\t", "\t").replace("\\n", "\n")


def listed(fields: Sequence[str]) -> str:
    """Return the fields for a sentence."""
    return ", ".join(f".{field}" for field in fields)


def example(fields: Sequence[str]) -> str:
    """Return a template with two of the fields."""
    return f"'{{{{.{fields[0]}}}}} {{{{.{fields[1]}}}}}'"
