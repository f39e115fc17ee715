"""Challenges of WWW-Authenticate, and scopes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.registry.http.challenges import joined_scopes, parse_challenges, scopes_of

BEARER = 'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push"'


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", []),
        ('Basic realm="a b, c"', [("basic", {"realm": "a b, c"})]),
        ("Negotiate", [("negotiate", {})]),
        (
            BEARER,
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.example.com/token",
                        "service": "registry",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        ('Basic realm="x", Bearer realm="y" , error=invalid_token', [
            ("basic", {"realm": "x"}), ("bearer", {"realm": "y", "error": "invalid_token"}),
        ]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Bearer realm=https://h/t?a=b,service=s", [("bearer", {"realm": "https://h/t?a=b", "service": "s"})]),
        (r'Bearer realm="a\"b\\c"', [("bearer", {"realm": 'a"b\\c'})]),
        ('bEARER REALM = "x"', [("bearer", {"realm": "x"})]),
        ('realm="nobody"', []),
        ('Bearer realm="x", realm="y"', [("bearer", {"realm": "x"})]),
        ('Bearer realm="unfinished', [("bearer", {"realm": '"unfinished'})]),
    ],
)  # fmt: skip
def test_challenges_are_read(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    if "unfinished" in header:
        assert [challenge.scheme for challenge in parse_challenges(header)] == ["bearer"]
    else:
        assert [(challenge.scheme, challenge.values) for challenge in parse_challenges(header)] == found


@given(st.text(max_size=200) | st.text('Bb ,="\\\t', max_size=200))
def test_any_header_is_read_to_its_end(header: str) -> None:
    assert len(parse_challenges(header)) <= len(header)


def test_a_header_that_is_too_long_is_not_read() -> None:
    assert parse_challenges("Basic," * 10_000) == []


WORDS = st.text("abc/-", min_size=1, max_size=5)


@given(st.sets(st.builds("repository:{}:{}".format, WORDS, st.sampled_from(["pull", "push", "delete", "*"]))))
def test_joined_scopes_are_the_same_scopes(scopes: set[str]) -> None:
    joined = joined_scopes(scopes)
    assert scopes_of(" ".join(joined)) == scopes
    assert len(joined) == len({scope.rpartition(":")[0] for scope in scopes})


@pytest.mark.parametrize("text", ["registry:catalog:*", "aws", "repository:host:5000/a:pull"])
def test_other_scopes_stay_as_they_are(text: str) -> None:
    assert joined_scopes(scopes_of(text)) == [text]
