"""The options of commands that list objects: `-q`, `--filter`, `--format`, `--no-trunc`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from layerstore_core.cli.listing import Listing, Template, example, listed
from layerstore_core.cli.parameters import KeyValueType
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_F = TypeVar("_F", bound=Callable[..., Any])
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
                help=f"Form of the lines: text with fields, such as {example(fields)}, or 'table' and these, "
                f"or 'json'. Fields: {listed(fields)}.",
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
