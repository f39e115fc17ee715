"""Sizes with units, in options of drivers and of layers."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_size(text: str) -> int:
    """Return the number of bytes in a text, with or without a unit.

    `10G`, `10g`, `10GB` and `10GiB` are all 10 * 1024**3, as in Docker's storage options. A fraction, as in `1.5G`, is
    rounded down to whole bytes.

    Args:
        text: the number, and optionally one of the units k, m, g, t, p in either case.

    Raises:
        ValueError: the text is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is not a size: write a number of bytes, or a number with a unit, such as 512m or 10G"
        )
    number, unit = found.groups()
    factor: int = 1024 ** _POWERS[unit.lower()]
    whole, _, fraction = number.partition(".")
    return int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
