"""What a program gives to the images' methods, looked at once, with a message that says what is expected."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Literal, cast

from layerstore_core.images.output import BinaryWriter

ImageFormat = Literal["docker", "oci"]


def names_in(value: Sequence[str] | str) -> list[str]:
    """Take one name or several.

    Raises:
        TypeError: it is neither.
    """
    names: list[object] = [value]
    if not isinstance(value, (str, bytes)):
        try:
            names = list(value)
        except TypeError:
            raise TypeError(f"images are called by a name, or a list of names, not {value!r}") from None
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"an image is called by a name or an ID, a str, not {name!r}")
    return cast("list[str]", names)


def check_form(form: str) -> None:
    """Look whether images can be saved in a form.

    Raises:
        ValueError: it is unknown.
    """
    if form not in ("docker", "oci"):
        raise ValueError(f'an image is saved in the form "docker" or "oci", not {form!r}')


def target_of(target: object) -> str | BinaryWriter:
    """Take what images are to be saved to.

    Raises:
        TypeError: it is neither a path nor a binary file object.
    """
    if isinstance(target, (str, os.PathLike)):
        path = os.fspath(target)
        if isinstance(path, str):
            return path
    elif hasattr(target, "write") and not isinstance(target, io.TextIOBase):
        return cast("BinaryWriter", target)
    raise TypeError(f"images are saved to a path or a binary file object, not to {target!r}")
