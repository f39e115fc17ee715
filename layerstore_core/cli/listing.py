"""The options of commands that list objects: `-q`, `--filter`, `--format`, `--no-trunc`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import KeyValueType
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_F = TypeVar("_F", bound=Callable[..., Any])
_ACTION: Final = r"(?a)\{\{-?\s*(json\s+)?\.(\w*)\s*-?\}\}"
_TABLE: Final = "table"
_NONE: Final = "<none>"
#: The keys of `images.filters.KEYS`, which is not imported for a help text.
IMAGE_FILTERS: Final = ("reference", "dangling", "label", "label!", "before", "since", "until")


class FilterType(KeyValueType):
    """`KEY=VALUE`, a condition; completes the keys.

    Args:
        keys: the keys that there are.
    """

    name = "filter"

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(f"{key}=") for key in self._keys if key.startswith(incomplete)]


class FormatType(click.ParamType["Template"]):
    """A form of the lines; the value is a `Template`.

    Args:
        fields: the fields that it may name.
    """

    name = "format"

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Template:
        if isinstance(value, Template):
            return value
        try:
            return Template.parse(value, self._fields)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        words = ["json", "table", *(f"{{{{.{field}}}}}" for field in self._fields)]
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class Template(NamedTuple):
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
            raise ValueError(f"the format is empty; name fields, as in {_example(fields)}")
        parts: list[str | tuple[str, bool]] = []
        end = 0
        for action in re.finditer(_ACTION, body):
            parts.append(_literal(body[end : action.start()], fields))
            end = action.end()
            name, as_json = action[2], bool(action[1])
            if name not in fields and not (as_json and not name):
                raise ValueError(f"there is no field .{name}; the fields are {_listed(fields)}")
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
                import json

                yield json.dumps(row[part[0]] if part[0] else dict(row))
            else:
                yield text_of(row[part[0]])


def text_of(value: Any) -> str:
    """Return a field as text for a person, in one line."""
    if value is None:
        return _NONE
    return str(value).lower() if isinstance(value, bool) else output.printable(str(value))


class Listing(NamedTuple):
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


def listing_options(keys: Sequence[str], fields: Sequence[str]) -> Callable[[_F], _F]:
    """Add the options of a list to a command, which gets the session and, as the argument `listing`, a `Listing`.

    The decorator comes after `click.pass_obj`.

    Args:
        keys: the keys of its filters.
        fields: the fields of its format.
    """

    def add(command: _F) -> _F:
        import functools

        @functools.wraps(command)
        def with_listing(session: Session, *args: Any, **kwargs: Any) -> Any:
            template, quiet = kwargs.pop("template"), kwargs.pop("quiet")
            if quiet and template is not None:
                raise click.UsageError("-q prints IDs only; it cannot be combined with --format")
            if session.json and (quiet or template is not None):
                raise click.UsageError("--json is a form of its own; it cannot be combined with -q or --format")
            listing = Listing(quiet, kwargs.pop("conditions"), template, kwargs.pop("no_trunc"))
            return command(session, *args, listing=listing, **kwargs)

        for option in (
            click.option("--no-trunc", is_flag=True, help="Print whole IDs."),
            click.option(
                "--format",
                "template",
                metavar="FORMAT",
                type=FormatType(fields),
                help=f"Form of the lines: text with fields, such as {_example(fields)}, or 'table' and these, "
                f"or 'json'. Fields: {_listed(fields)}.",
            ),
            click.option(
                "--filter",
                "conditions",
                metavar="KEY=VALUE",
                type=FilterType(keys),
                multiple=True,
                help=f"List only what fulfils this condition; may be repeated. Keys: {', '.join(keys)}.",
            ),
            click.option("-q", "--quiet", is_flag=True, help="Print IDs only."),
        ):
            with_listing = option(with_listing)
        return with_listing  # type: ignore[return-value]

    return add


def _literal(text: str, fields: Sequence[str]) -> str:
    if "{{" in text or "}}" in text:
        wrong = text[max(text.find("{{"), 0) :][:80]
        raise ValueError(
            f"{wrong!r} cannot be used: a format has text, {{{{.Field}}}}, {{{{json .Field}}}} and {{{{json .}}}}; "
            f"the fields are {_listed(fields)}"
        )
    return text.replace("\\t", "\t").replace("\\n", "\n")


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(f".{field}" for field in fields)


def _example(fields: Sequence[str]) -> str:
    return f"'{{{{.{fields[0]}}}}} {{{{.{fields[1]}}}}}'"
