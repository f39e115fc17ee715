"""Checks of the arguments of public methods. Their messages say what is expected."""

from __future__ import annotations

import io
import os
from typing import TypeVar

_T = TypeVar("_T")


def chain_id_in(value: object) -> str:
    """Return the chain ID in an argument for a layer: a chain ID, or a handle to the layer.

    Raises:
        TypeError: the argument is neither.
    """
    found = value if isinstance(value, str) else getattr(value, "chain_id", None)
    if not isinstance(found, str):
        raise TypeError(f"a layer is named by its chain ID, a str, or given as a Layer, not {value!r}")
    return found


def parent_in(value: object) -> str:
    """Return the chain ID in an argument for a parent, as `chain_id_in`; `""` for no parent (`""` or `None`)."""
    return "" if value is None else chain_id_in(value)


def check_stream(value: object) -> None:
    """Check that an argument can be read as a layer or an archive.

    Raises:
        TypeError: the argument is neither a path nor a binary file object.
    """
    readable = hasattr(value, "read") and not isinstance(value, io.TextIOBase)
    if not (readable or isinstance(value, (str, os.PathLike))):
        raise TypeError(
            f"a tar is given as a path, or as a file object that is open in binary mode, not as {_shown(value)}"
        )


def check_type(value: object, kind: type[_T], what: str) -> None:
    """Check that a value is an instance of a class.

    Args:
        value: the value.
        kind: the class.
        what: the expected value in words, for the error message.

    Raises:
        TypeError: the value is not an instance of the class.
    """
    if not isinstance(value, kind):
        raise TypeError(f"expected {what}, not {_shown(value)}")


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r:.100}"
