"""Where the requests for a repository go, and which files and settings decide it."""

from __future__ import annotations

import pytest

from layerstore_core.config.registries import HostSettings
from layerstore_core.registry.hosts import endpoints_of, is_loopback


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("index.docker.io", "https://registry-1.docker.io/v2"),
        ("registry.example.com:5000", "https://registry.example.com:5000/v2"),
    ],
)
def test_the_server_of_a_registry(host: str, url: str) -> None:
    (only,) = endpoints_of(host, {})
    assert (only.url, only.mirror, only.verify) == (url, False, True)
    assert only.repository("a/b") == "a/b"


def test_plain_http_where_it_is_configured() -> None:
    settings = {"registry.example.com": HostSettings(plain_http=True)}
    assert endpoints_of("registry.example.com", settings)[-1].url == "http://registry.example.com/v2"
    assert endpoints_of("other.example.com", settings)[-1].url == "https://other.example.com/v2"


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.1.2.3", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("[2001:db8::1]:5000", False),
        ("localhost.example.com", False),
        ("10.0.0.1:5000", False),
        ("registry.example.com", False),
    ],
)
def test_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) == is_it
