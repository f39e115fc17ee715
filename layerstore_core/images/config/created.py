"""The time of a new image: given, or `SOURCE_DATE_EPOCH`, or now.

`SOURCE_DATE_EPOCH` is the convention of reproducible-builds.org: seconds since 1970, for everything that a build dates.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Final

from layerstore_core.base.arguments import check_type
from layerstore_core.base.times import format_rfc3339, nanoseconds_of, parse_rfc3339
from layerstore_core.errors import LayerStoreError

#: The variable of the environment, and the word for it in `--created`.
SOURCE_DATE_EPOCH: Final = "SOURCE_DATE_EPOCH"
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


def creation_time(given: str | datetime | None = None) -> str:
    """Return the time of a new image, in RFC 3339 and UTC, as configs have it.

    Args:
        given: an RFC 3339 time, seconds since 1970, a `datetime` with a time zone, or `"SOURCE_DATE_EPOCH"` for that
            variable of the environment. `None` for the variable, if it is set, and otherwise the current time.

    Raises:
        ValueError: it is not a time.
        LayerStoreError: the variable is not set, or is not a number of seconds.
    """
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ValueError(f"{given!r} has no time zone; give one, such as datetime.now(UTC)")
        return format_rfc3339(nanoseconds_of(given))
    if given is None and SOURCE_DATE_EPOCH not in os.environ:
        return format_rfc3339(nanoseconds_of(datetime.now(UTC)))
    if given is None or given == SOURCE_DATE_EPOCH:
        return _from_environment()
    check_type(given, str, "a time, a str or a datetime")
    return _of_seconds(given) if _SECONDS.fullmatch(given) else _of_rfc_3339(given)


def _from_environment() -> str:
    found = os.environ.get(SOURCE_DATE_EPOCH)
    if found is None:
        raise LayerStoreError(f"the variable {SOURCE_DATE_EPOCH} is not set; set it to a number of seconds since 1970")
    try:
        if not _SECONDS.fullmatch(found):
            raise ValueError
        return _of_seconds(found)
    except ValueError:
        raise LayerStoreError(
            f"the variable {SOURCE_DATE_EPOCH} is {found[:80]!r}; set it to a number of seconds since 1970, or unset it"
        ) from None


def _of_seconds(text: str) -> str:
    try:
        return format_rfc3339(int(text) * 1_000_000_000)
    except OverflowError:
        raise ValueError(f"{text} seconds after 1970 is no time that an image can have") from None


def _of_rfc_3339(text: str) -> str:
    time = parse_rfc3339(text)
    if time is None:
        raise ValueError(f"{text[:80]!r} is not a time; write it as 2024-05-06T07:08:09Z, or as seconds since 1970")
    return format_rfc3339(time)
