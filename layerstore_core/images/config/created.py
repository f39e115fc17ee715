"""The time of a new image: given, or `SOURCE_DATE_EPOCH`, or now.

`SOURCE_DATE_EPOCH` is the convention of reproducible-builds.org: seconds since 1970, for everything that a build dates.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Final

from layerstore_core.base.arguments import check_type
from layerstore_core.errors import LayerStoreError

#: The variable of the environment, and the word for it in `--created`.
SOURCE_DATE_EPOCH: Final = "SOURCE_DATE_EPOCH"
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII | re.IGNORECASE,
)


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
        return _text(given)
    if given is None and SOURCE_DATE_EPOCH not in os.environ:
        return _text(datetime.now(UTC))
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
        return _text(datetime.fromtimestamp(int(text), UTC))
    except (OverflowError, ValueError, OSError):
        raise ValueError(f"{text} seconds after 1970 is no time that an image can have") from None


def _of_rfc_3339(text: str) -> str:
    match = _RFC_3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        seconds, fraction, zone = match[1].upper(), match[2], match[3].upper()
        whole = datetime.fromisoformat(seconds + zone.replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:80]!r} is not a time; write it as 2024-05-06T07:08:09Z, or as seconds since 1970"
        ) from None
    # A datetime has microseconds only, and Docker's times have nanoseconds.
    return f"{whole:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + (fraction or "").rstrip("0").rstrip(".") + "Z"


def _text(time: datetime) -> str:
    whole = time.astimezone(UTC)
    fraction = f".{whole.microsecond:06}".rstrip("0") if whole.microsecond else ""
    return f"{whole:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "Z"
