"""Which proxy a request goes through, from variables of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore_core import ConfigError
from layerstore_core.registry.proxies import proxy_for, without_password
from tests.registry.surroundings import own_places

PROXY = "http://proxy.example.com:3128"


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_places(tmp_path, monkeypatch)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)


def test_by_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("https://a.example.com/v2/") is None
    monkeypatch.setenv("https_proxy", "proxy.example.com:1")
    assert proxy_for("https://a.example.com/v2/") == "http://proxy.example.com:1"
    assert proxy_for("http://a.example.com/v2/") is None
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("HTTP_PROXY", "https://user:word@other.example.com")
    assert proxy_for("https://a.example.com/v2/") == PROXY
    assert proxy_for("http://a.example.com/v2/") == "https://user:word@other.example.com"


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000"])
def test_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    assert proxy_for(f"http://{host}/v2/") is None


@pytest.mark.parametrize(
    ("excluded", "host", "directly"),
    [
        ("*", "a.example.com", True),
        ("example.com", "example.com", True),
        ("example.com", "a.example.com", True),
        ("Example.COM , x", "a.example.com", True),
        ("example.com", "badexample.com", False),
        ("example.com", "a.example.com:5000", True),
        (".example.com", "a.example.com", True),
        (".example.com", "example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("a.example.com:5000", "a.example.com:5000", True),
        ("a.example.com:5000", "a.example.com", False),
        ("a.example.com:443", "a.example.com", True),
        ("10.1.2.3", "10.1.2.3:5000", True),
        ("10.1.2.3:5000", "10.1.2.3:5000", True),
        ("10.1.2.3:1", "10.1.2.3:5000", False),
        ("10.1.0.0/16", "10.1.2.3:5000", True),
        ("10.1.2.0/16", "10.1.2.3:5000", True),
        ("10.1.0.0/16", "10.2.2.3", False),
        ("10.1.0.0/99", "10.1.2.3", False),
        ("2001:db8::1", "[2001:db8::1]:5000", True),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000", True),
        ("2001:db8::/32", "[2001:db8::1]", True),
        ("", "a.example.com", False),
        (" , ,", "a.example.com", False),
    ],
)
def test_what_is_excluded(monkeypatch: pytest.MonkeyPatch, excluded: str, host: str, directly: bool) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", excluded)
    assert proxy_for(f"https://{host}/v2/") == (None if directly else PROXY)


@pytest.mark.parametrize(
    "value", ["ftp://word", "http://:3128", "socks5://word:1", "http://[word", "http://u:word@x:y", "http://word:99999"]
)
def test_what_is_no_proxy_is_an_error_without_its_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(ConfigError, match="the variable https_proxy does not hold") as caught:
        proxy_for("https://a.example.com/v2/")
    assert "word" not in str(caught.value)


def test_a_cgi_program_takes_no_proxy_from_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert proxy_for("http://a.example.com/v2/") is None


def test_a_proxy_is_shown_without_its_password() -> None:
    assert without_password("http://user:word@proxy.example.com:3128") == PROXY
