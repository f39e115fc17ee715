"""Values as a Dockerfile has them, good and bad. What is expected was seen with a Docker daemon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.images.config.instructions import (
    Command,
    HealthcheckOptions,
    duration,
    ports,
    stop_signal,
    volumes,
    working_directory,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["/bin/sh", "-c", "a b"]', ["/bin/sh", "-c", "a b"]),
        (' [ "é" ] ', ["é"]),
        ("[]", []),
        ("", []),
        ("  ", []),
        ("echo  $A | cat", ["SHELL", "echo  $A | cat"]),
        ("[ -f /x ] && y", ["SHELL", "[ -f /x ] && y"]),
        ("[NaN]", ["SHELL", "[NaN]"]),
        ('["a"] b', ["SHELL", '["a"] b']),
        ("['a']", ["SHELL", "['a']"]),
        (["a", ""], ["a", ""]),
        ([], []),
    ],
)
def test_commands_have_two_forms(text: str, words: list[str]) -> None:
    command = Command.of(text)
    assert command.with_shell(["SHELL"]) == words
    assert Command.of(str(command)).with_shell(["SHELL"]) == words


@pytest.mark.parametrize(
    "text", ["[1]", '["a", 1]', ' [["a"]]', "[null]", pytest.param("[" * 100_000 + "]" * 100_000, id="deep")]
)
def test_arrays_of_other_things_than_words_are_refused(text: str) -> None:
    for read in (Command.of, volumes, lambda text: HealthcheckOptions.of(f"CMD {text}")):
        with pytest.raises(ValueError, match="JSON array") as caught:
            read(text)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("0", ["0/tcp"]),
        ("100-102/sctp", ["100/sctp", "101/sctp", "102/sctp"]),
    ],
)
def test_ports(text: str, found: list[str]) -> None:
    assert ports(text) == found


@pytest.mark.parametrize(
    "text", ["", "x", "70000", "80/foo", "9-8", "1:2", "-1", "80/", "1-70000", "٣", "80 ", "1-2-3"]
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        ports(text)


def test_volumes() -> None:
    assert volumes("/a b") == ["/a b"]
    assert volumes('["/a", "b"]') == ["/a", "b"]
    for bad in ("", " ", '["/a", ""]'):
        with pytest.raises(ValueError, match="is empty"):
            volumes(bad)


@pytest.mark.parametrize(
    ("new", "current", "found"),
    [
        ("c", "/a/b", "/a/b/c"), ("../z", "/a/b", "/a/z"), ("/x/../y/", "/a", "/y"), ("x", None, "/x"),
        ("x", "", "/x"), ("x", "a", "/a/x"), ("..", "/", "/"), ("../../..", "/a", "/"), ("//x", "/a", "/x"),
        (".", "//", "/"),
    ],
)  # fmt: skip
def test_a_working_directory_is_in_the_current_one(new: str, current: str | None, found: str) -> None:
    assert working_directory(new, current) == found


@pytest.mark.parametrize("text", ["SIGTERM", "term", "9", "64", "SIGRTMIN", "RTMIN+3", "SIGRTMAX-30", "sigquit"])
def test_signals_are_kept_as_they_are(text: str) -> None:
    assert stop_signal(text) == text


@pytest.mark.parametrize("text", ["SIGFOO", "0", "65", "-9", "", "SIG", "RTMIN+31", "RTMIN-1", "9 ", "999"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a signal"):
        stop_signal(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1h2m", 3720_000_000_000), ("0.5s", 500_000_000), ("1m1.5s", 61_500_000_000), ("1ms", 1_000_000), ("0", 0),
        ("1500us", 1_500_000), (".5s", 500_000_000), ("1.s", 1_000_000_000), ("5000000ns", 5_000_000), ("0s", 0),
        ("0.1h", 360_000_000_000),
    ],
)  # fmt: skip
def test_durations_are_in_nanoseconds(text: str, found: int) -> None:
    assert duration(text) == found


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1us", "1d", "1 s", "9" * 30 + "h", "1s5", "5e3s", "0x1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(text)


@given(st.text("0123456789.hmsunµ-", max_size=40))
def test_durations_never_fail_in_another_way(text: str) -> None:
    try:
        found = duration(text)
    except ValueError:
        return
    assert found == 0 or 1_000_000 <= found < 1 << 63


def test_healthchecks() -> None:
    found = HealthcheckOptions.of("--interval=1h2m --timeout=0.5s  --retries=3 CMD curl -f x || exit 1")
    assert (found.test, found.interval, found.timeout, found.retries, found.start_period) == (
        ["CMD-SHELL", "curl -f x || exit 1"],
        3720_000_000_000,
        500_000_000,
        3,
        0,
    )
    assert HealthcheckOptions.of('--start-period=1s --start-interval=2s CMD ["curl"]').test == ["CMD", "curl"]
    assert HealthcheckOptions.of(" none ").test == ["NONE"]
    assert HealthcheckOptions.of("cmd true").test == ["CMD-SHELL", "true"]


@pytest.mark.parametrize(
    "text",
    ["x", "CMD", "CMD []", "NONE x", "--interval=1s NONE", "--interval=1us CMD x", "--retries=-1 CMD x",
     "--retries=x CMD x", "--foo=1 CMD x", "--interval=1s --interval=2s CMD x", "--interval 1s CMD x", "--interval=1s",
     "CMD \ud800"],
)  # fmt: skip
def test_what_is_no_healthcheck_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"healthcheck|duration|retries|UTF-8"):
        HealthcheckOptions.of(text)
