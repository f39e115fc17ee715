"""What is wrong with JSON that cannot be read, in our words."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 200


def json_problem(error: ValueError | RecursionError) -> str:
    """Return why a text is no JSON, or none that can be used.

    Args:
        error: what `json.loads` has raised, or the reader of what it has returned.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8, at byte {error.start}"
    if "integer string conversion" in str(error):  # a limit of Python, against work that grows with the square
        return "it has a number with thousands of digits"
    return str(error)[:_LONGEST]
