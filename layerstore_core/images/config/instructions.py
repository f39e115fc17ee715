"""Values of a config as users write them: the forms of Dockerfile's instructions.

The rules are Docker's (moby, `builder/dockerfile/instructions`; `docs.docker.com/reference/dockerfile`): a command is a
JSON array of words, or a line for a shell; a port has a protocol; a healthcheck has options before its command.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: The shell of a line, unless the config names another one.
DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-z]+))?", re.ASCII | re.IGNORECASE)
_LAST_PORT: Final = 65535
_REAL_TIME = re.compile(r"RTM(?:IN(?:\+([0-9]{1,2}))?|AX(?:-([0-9]{1,2}))?)", re.ASCII)
_LAST_SIGNAL: Final = 64
#: The numbers of real-time signals on Linux: 34 to 64.
_REAL_TIME_SIGNALS: Final = 30
_OPTION = re.compile(r"--([a-z-]+)=(\S*)\s+", re.ASCII)
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:h|ms|m|s|us|µs|μs|ns)", re.ASCII)
_NANOSECONDS: Final = {
    "h": 3600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "μs": 1_000,  # U+03BC, the Greek letter
    "ns": 1,
}
_SHORTEST_DURATION: Final = 1_000_000
_LONGEST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Command:
    """A command in one of its two forms.

    Attributes:
        words: its words; one for a line.
        for_shell: whether it is a line for a shell.
    """

    words: tuple[str, ...]
    for_shell: bool = False

    @classmethod
    def of(cls, value: str | Sequence[str]) -> Command:
        """Read a command.

        Args:
            value: its words, or a text: a JSON array of words, or a line for a shell. Without words it is none.

        Raises:
            ValueError: it is neither. As in a Dockerfile, text that is no JSON array is a line, and an array of other
                things than strings is refused.
        """
        if not isinstance(value, str):
            return cls(tuple(check_text(word, "a word of a command") for word in value))
        words = json_words(value)
        if words is not None:
            return cls(words)
        line = check_text(value, "a command").strip()
        return cls((line,), for_shell=True) if line else cls(())

    def with_shell(self, shell: Sequence[str]) -> list[str]:
        """Return all words, with those of a shell before a line."""
        return [*(shell if self.for_shell else ()), *self.words]

    def __str__(self) -> str:
        return self.words[0] if self.for_shell else json.dumps(list(self.words), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class HealthcheckOptions:
    """A healthcheck as an instruction has it; durations are in nanoseconds, and 0 is Docker's default.

    Attributes:
        command: the command; `None` for no check.
        interval: the time between two checks.
        timeout: how long a check may take.
        start_period: how long failures do not count after the start.
        start_interval: the time between two checks in that period.
        retries: how many failures in a row make a container unhealthy.
    """

    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    @classmethod
    def of(cls, text: str) -> HealthcheckOptions:
        """Read `NONE`, or `[--interval=D] [--timeout=D] [--start-period=D] [--retries=N] CMD command`.

        Raises:
            ValueError: it is neither.
        """
        rest = check_text(text, "a healthcheck").strip()
        given: dict[str, int] = {}
        while match := _OPTION.match(rest):
            name = match[1].replace("-", "_")
            if name in given or name not in ("interval", "timeout", "start_period", "start_interval", "retries"):
                raise _bad_healthcheck(text, f"--{match[1]} is not an option of it, or is there twice")
            given[name] = _retries(match[2]) if name == "retries" else duration(match[2])
            rest = rest[match.end() :]
        kind, _, line = rest.partition(" ")
        if kind.upper() == "NONE" and not line.strip() and not given:
            return cls(None)
        command = Command.of(line)
        if kind.upper() != "CMD" or not command.words:
            raise _bad_healthcheck(text, "after the options comes CMD and a command")
        return cls(command, **given)

    @property
    def test(self) -> list[str]:
        """The command as a config has it."""
        if self.command is None:
            return ["NONE"]
        return ["CMD-SHELL" if self.command.for_shell else "CMD", *self.command.words]


def json_words(text: str) -> tuple[str, ...] | None:
    """Return the words of a JSON array of strings; `None` for text that is no JSON array.

    Raises:
        ValueError: there is something else in the array.
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        found = [None]
    except ValueError:
        return None
    if not all(isinstance(word, str) for word in found):
        raise ValueError(f'{text[:80]!r} is a JSON array of other things than strings; write it as ["word", "1"]')
    return tuple(check_text(word, "a word of a command") for word in found)


def ports(text: str) -> list[str]:
    """Return the ports of `80`, `53/udp` or `8000-8003`, as a config has them: `80/tcp`.

    Raises:
        ValueError: it is neither.
    """
    match = _PORT.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:80]!r} is not a port; write it as 80, 53/udp or 8000-8003/tcp")
    first, last, protocol = int(match[1]), int(match[2] or match[1]), (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{text!r}: a port's protocol is {', '.join(_PROTOCOLS)}, not {protocol!r}")
    if not first <= last <= _LAST_PORT:
        raise ValueError(f"{text!r}: ports are numbers up to {_LAST_PORT}, the lower one of a range first")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def volumes(text: str) -> list[str]:
    """Return the paths of one path, or of a JSON array of paths.

    Raises:
        ValueError: one is empty.
    """
    found = json_words(text)
    paths = [text] if found is None else list(found)
    if not all(path.strip() for path in paths):
        raise ValueError("the path of a volume is empty; write it as /data")
    return [check_text(path, "the path of a volume") for path in paths]


def working_directory(new: str, current: str | None) -> str:
    """Return a working directory; one that is not absolute is in the current one, which is `/` if it is not set."""
    return "/" + posixpath.normpath(posixpath.join("/", current or "", new)).lstrip("/")


def stop_signal(text: str) -> str:
    """Return a signal as it was given: its name, with or without `SIG`, or its number.

    Raises:
        ValueError: Linux has no such signal.
    """
    name = text.upper().removeprefix("SIG")
    number = int(text) if re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) else 0
    real_time = _REAL_TIME.fullmatch(name)
    if not (
        0 < number <= _LAST_SIGNAL
        or f"SIG{name}" in signal.Signals.__members__
        or (real_time and int(real_time[1] or real_time[2] or 0) <= _REAL_TIME_SIGNALS)
    ):
        raise ValueError(f"{text[:80]!r} is not a signal; write it as SIGTERM or 15")
    return text


def duration(text: str) -> int:
    """Return the nanoseconds of a duration such as `30s` or `1h2m3.5s`.

    Raises:
        ValueError: it is not one, or is shorter than a millisecond.
    """
    parts = _DURATION.findall(text)
    if "".join(parts) != text or not text:
        if text == "0":
            return 0
        raise ValueError(f"{text[:80]!r} is not a duration; write it as 30s or 1m30s")
    total = 0
    for part in parts:
        number = part.rstrip("hmsunµμ")
        whole, _, fraction = number.partition(".")
        unit = _NANOSECONDS[part[len(number) :]]
        digits = fraction[:18]
        total += int((whole or "0")[:20]) * unit + (int(digits) * unit // 10 ** len(digits) if digits else 0)
    if total > _LONGEST or 0 < total < _SHORTEST_DURATION:
        raise ValueError(f"{text[:80]!r}: a duration of a healthcheck is 1ms or longer, and at most 292 years")
    return total


def check_text(text: object, what: str) -> str:
    """Return a text that a config can have.

    Raises:
        ValueError: it has bytes that are not UTF-8, or a zero byte.
        TypeError: it is not a `str`.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {text!r}")
    if "\0" in text:
        raise ValueError(f"{what} has a zero byte: {text[:80]!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not UTF-8: {text[:80]!r}") from None
    return text


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is no JSON")


def _retries(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise ValueError(f"{text[:80]!r} is not a number of retries")
    return int(text)


def _bad_healthcheck(text: str, reason: str) -> ValueError:
    return ValueError(
        f"{text[:80]!r} is not a healthcheck: {reason}; write it as NONE, or as "
        "--interval=30s --timeout=5s --retries=3 CMD curl -f http://localhost/"
    )
