"""Files of other programs with anything in them: an error that names the file, or an answer."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core import ConfigError
from layerstore_core.registry.credentials import credentials_for, erase_credentials, hosts_with_credentials
from layerstore_core.registry.hosts import endpoints_of
from tests.registry.surroundings import Places, own_places

HOST = "registry.example.com"
#: Keys and values that the readers look for.
WORDS = [
    *("auths", "auth", "identitytoken", "credHelpers", "credsStore", HOST, f"https://{HOST}/v1/", f"{HOST}/org/app"),
    *("registry", "prefix", "location", "insecure", "blocked", "mirror", "pull-from-mirror", "mirror-by-digest-only"),
    *("registries", "block", "all", "digest-only", "*.example.com", "other.example.com/x"),
    *("server", "host", "ca", "client", "capabilities", "pull", "skip_verify", "override_path", "header"),
    *(
        "registry-mirrors",
        "insecure-registries",
        f"https://{HOST}",
        "http://[",
        "10.0.0.0/8",
        "YWRhOnB3",
        "",
        "\0",
        "/",
    ),
]
FILES = ["containers/registries.conf", f"containerd/certs.d/{HOST}/hosts.toml", "docker/daemon.json"]
VALUES = st.recursive(
    st.one_of(st.sampled_from(WORDS), st.booleans(), st.integers(), st.text(max_size=4), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)),
    max_leaves=12,
)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setattr(tomllib, "loads", json.loads)
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no program is run
    return own_places(tmp_path, monkeypatch)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(FILES), VALUES)
def test_where_registries_are(places: Places, name: str, document: Any) -> None:
    path = places.write(name, json.dumps(document))
    for host in (HOST, "docker.io"):
        for one in or_error(path, lambda host=host: endpoints_of(host, {}, "org/app")) or []:
            assert one.url.startswith(("https://", "http://"))
            assert one.repository("org/app")
    path.unlink()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(VALUES)
def test_credentials(places: Places, document: Any) -> None:
    path = places.write("~/.docker/config.json", json.dumps(document))
    for call in (lambda: credentials_for(HOST, "org/app"), hosts_with_credentials, lambda: erase_credentials(HOST)):
        or_error(path, call)


def or_error(path: Path, call: Callable[[], Any]) -> Any:
    """Return the result of a call; `None` if it raises an error that names the file."""
    try:
        return call()
    except ConfigError as error:
        if str(path) not in str(error):
            raise
        return None
