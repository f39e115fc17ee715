"""Times: texts of RFC 3339, as configs and options have them, and nanoseconds since 1970.

A `datetime` has microseconds only, and the times of Docker and of files have nanoseconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000_000
_STRICT: Final = r"(?ai)(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)"
_LENIENT: Final = r"(?ai)(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?"
#: The last second of the year 9999: a file may have a later time.
_LAST: Final = 253_402_300_799


def parse_rfc3339(text: str, *, lenient: bool = False) -> int | None:
    """Return a time of RFC 3339 in nanoseconds since 1970; `None` if the text is none.

    Args:
        text: the time.
        lenient: whether a time without an offset is one in UTC, a blank may stand for the `T`, and digits after the
            nanoseconds are left out, as in configs of other programs.
    """
    match = re.fullmatch(_LENIENT if lenient else _STRICT, text)
    if match is None:
        return None
    day, time, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in (None, 'Z', 'z') else zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return nanoseconds_of(whole) + int((fraction or "")[:9].ljust(9, "0"))


def format_rfc3339(time_ns: int) -> str:
    """Return a time in nanoseconds since 1970 as text, in UTC, with as many digits after the seconds as it needs.

    Raises:
        OverflowError: it is before the year 1, or after the year 9999.
    """
    seconds, fraction = divmod(time_ns, _SECOND)
    text = f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
    return f"{text}.{fraction:09}".rstrip("0") + "Z" if fraction else f"{text}Z"


def nanoseconds_of(time: datetime) -> int:
    """Return a time, which has a time zone, in nanoseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def datetime_of(time_ns: int) -> datetime:
    """Return a time in nanoseconds since 1970 in UTC, to the microsecond.

    Raises:
        OverflowError: as from `format_rfc3339`.
    """
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def time_of(seconds: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339, to the second; the last that there is for a later one."""
    return datetime.fromtimestamp(min(max(seconds, 0), _LAST), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
