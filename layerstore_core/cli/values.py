"""Values of options that a function reads, so that an error names the option; and wrong values that show later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

from layerstore_core.errors import LayerStoreError

T = TypeVar("T")


class Parsed(click.ParamType[T]):
    """A text that a function reads; its `ValueError` is wrong usage of the option.

    Args:
        name: what the text is, in one word.
        parse: reads it. An error of the store passes through, such as a variable of the environment that is not set.
    """

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):
            read: T = value
            return read
        try:
            return self._parse(value)
        except ValueError as error:
            if isinstance(error, LayerStoreError):
                raise
            self.fail(str(error), param, ctx)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Make wrong usage of each `ValueError` in a `with` block that is no error of the store.

    Raises:
        click.UsageError: such an error.
    """
    try:
        yield
    except ValueError as error:
        if isinstance(error, LayerStoreError):
            raise
        raise click.UsageError(str(error)) from None


def _nanoseconds(text: str) -> int:
    from layerstore_core.images.make.sources import parse_time

    return parse_time(text)


def _created(text: str) -> str:
    from layerstore_core.images.config.created import creation_time

    creation_time(text)
    return text  # the word SOURCE_DATE_EPOCH is read when the image is made


def _mode(text: str) -> int:
    from layerstore_core.images.make.sources import parse_mode

    return parse_mode(text)


def _owner(text: str) -> str:
    from layerstore_core.images.make.sources import split_owner

    split_owner(text)
    return text  # the image has the numbers of names


#: The time of an image, as text that can be read.
CREATED: Final = Parsed("time", _created)
#: The time of files, in nanoseconds since 1970.
MTIME: Final = Parsed("time", _nanoseconds)
#: Permission bits.
MODE: Final = Parsed("mode", _mode)
#: An owner, as text that is one in its form.
OWNER: Final = Parsed("owner", _owner)
