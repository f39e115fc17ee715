"""Sizes and durations with units, in options."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = r"(?ai)(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?"
_DURATION: Final = r"(?a)(?:\d{1,9}(?:\.\d{1,9})?(?:w|d|h|m|s))+"
_PART: Final = r"(?a)([\d.]+)([wdhms])"
_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
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
    found = re.fullmatch(_SIZE, text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is not a size: write a number of bytes, or a number with a unit, such as 512m or 10G"
        )
    number, unit = found.groups()
    factor: int = 1024 ** _POWERS[unit.lower()]
    whole, _, fraction = number.partition(".")
    return int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)


def parse_duration(text: str) -> float:
    """Return the seconds in a text such as `7d`, `12h` or `1d12h`.

    Args:
        text: one or more numbers, each with one of the units w, d, h, m and s: weeks, days, hours, minutes, seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    parts = re.findall(_PART, text) if re.fullmatch(_DURATION, text) else []
    units = [unit for _, unit in parts]
    if not parts or units != sorted(set(units), key=list(_SECONDS).index):
        raise ValueError(
            f"{text!r} is not a duration: write numbers with units from w, d, h, m and s, the longest first, "
            "such as 7d, 12h or 1d12h"
        )
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))
