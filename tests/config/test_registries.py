"""The setting `registries`: mirrors, certificates and plain HTTP of registries, by host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import ConfigError, HostSettings, StoreConfig, load_config
from layerstore_core.config.registries import Address
from tests.registry.surroundings import Places, own_places


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    return own_places(tmp_path, monkeypatch)


def file(places: Places, text: str) -> Path:
    return places.write("~/.config/layerstore/config.toml", text)


def test_all_keys(places: Places) -> None:
    path = file(
        places,
        """
        [registries."docker.io"]
        mirrors = ["mirror.example.com:5000/hub", "http://127.0.0.1:5000"]
        insecure = true
        ca = "/ca.pem"
        client_cert = "~/cert.pem"
        client_key = "~/key.pem"
        [registries."[::1]:5000"]
        plain_http = false
        """,
    )
    config = load_config()
    assert config.registries == {
        "docker.io": HostSettings(
            mirrors=("mirror.example.com:5000/hub", "http://127.0.0.1:5000"),
            insecure=True,
            ca=Path("/ca.pem"),
            client_cert=places.home / "cert.pem",
            client_key=places.home / "key.pem",
        ),
        "[::1]:5000": HostSettings(plain_http=False),
    }
    assert config.sources["registries"] == f"file {path}"


def test_what_is_shown_makes_the_same_settings() -> None:
    config = load_config(
        registries={"a.example.com": HostSettings(ca=Path("/x")), "b.example.com": {"mirrors": ["localhost:5000"]}}
    )
    shown = config.document()["registries"]
    assert shown == {"a.example.com": {"ca": "/x"}, "b.example.com": {"mirrors": ["localhost:5000"]}}
    assert StoreConfig(registries=shown).registries == config.registries


def test_they_are_put_together_key_by_key(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    file(places, '[registries."a.b"]\nmirrors = ["x.y"]\ninsecure = true\n[registries."c.d"]\ninsecure = true\n')
    monkeypatch.setenv("LAYERSTORE_REGISTRIES", json.dumps({"a.b": {"insecure": False}}))
    config = load_config(registries={"e.f": HostSettings(plain_http=True)})
    assert {host: one.given() for host, one in config.registries.items()} == {
        "a.b": {"mirrors": ("x.y",)},
        "c.d": {"insecure": True},
        "e.f": {"plain_http": True},
    }
    for source in ("argument", "LAYERSTORE_REGISTRIES", "config.toml"):
        assert source in config.sources["registries"]
    changed = config.with_overrides(registries={"a.b": {"ca": "/ca.pem"}})
    assert changed.registries["a.b"] == HostSettings(mirrors=("x.y",), ca=Path("/ca.pem"))
    assert changed.registries["c.d"] == config.registries["c.d"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "setting 'registries'"),
        ({"docker.io": 3}, "setting 'registries.docker.io': Input should be a dictionary"),
        ({"docker.io": {"mirror": []}}, "unknown setting 'registries.docker.io.mirror'.*did you mean mirrors?"),
        ({"docker.io": {"mirrors": "x"}}, "setting 'registries.docker.io.mirrors'"),
        ({"docker.io": {"insecure": "perhaps"}}, "setting 'registries.docker.io.insecure'"),
        ({"docker.io": {"mirrors": ["ftp://x"]}}, "'ftp://x' is no address of a mirror; its form is HOST"),
        ({"docker.io": {"mirrors": ["x y"]}}, "'x y' is no address of a mirror"),
        ({"docker.io": {"mirrors": ["u:p@x"]}}, "is no address of a mirror"),
        ({"docker.io": {"mirrors": ["x/../y?z"]}}, "is no address of a mirror"),
        ({"docker.io": {"mirrors": [""]}}, "'' is no address of a mirror"),
        ({"docker.io": {"ca": "ca.pem"}}, "ca = 'ca.pem': give an absolute path"),
        ({"docker.io": {"ca": "~no such user/x"}}, "no home directory found for ~no such user"),
        ({"docker.io": {"client_key": "/x"}}, "client_key is given without client_cert"),
        ({"docker.io": {"plain_http": True, "insecure": True}}, "plain_http excludes insecure, ca and client_cert"),
        ({"docker.io/library": {}}, "'docker.io/library' is not the address of a registry; give HOST or HOST:PORT"),
        ({"https://docker.io": {}}, "'https://docker.io' is not the address of a registry"),
        ({"": {}}, "'' is not the address of a registry"),
    ],
)
def test_what_cannot_be_used(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"{said}.*\(from argument\)|unknown setting.*\(from argument\); did you"):
        load_config(registries=given)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.example.com", ("", "a.example.com", "")),
        ("a.example.com:5000/x/y/", ("", "a.example.com:5000", "x/y")),
        ("https://a.example.com/", ("https", "a.example.com", "")),
        ("http://[::1]:5000/x", ("http", "[::1]:5000", "x")),
    ],
)
def test_addresses_of_mirrors(text: str, parts: tuple[str, str, str]) -> None:
    found = Address.parse(text)
    assert (found.scheme, found.host, found.path) == parts


def test_the_class_is_not_loaded_where_no_registry_is_set(places: Places) -> None:
    program = "import sys, layerstore_core; layerstore_core.load_config(); print(*sys.modules)"
    for text, loaded in (("durability = 'none'\n", False), ("[registries.'a.b']\n", True)):
        file(places, text)
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ}, capture_output=True, text=True, check=True
        )
        assert ("layerstore_core.config.registries" in done.stdout.split()) == loaded
