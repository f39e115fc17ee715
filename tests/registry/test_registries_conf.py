"""`registries.conf`, read as skopeo reads it: the same places are tried in the same order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from layerstore_core import ConfigError
from layerstore_core.registry.hosts import endpoints_of
from tests.registry.servers import program_missing
from tests.registry.surroundings import Places, own_places

#: All servers are addresses of this machine at which nobody listens.
MAIN = """
unqualified-search-registries = ["127.0.0.9:1"]

[[registry]]
prefix = "example.com"
location = "127.0.0.1:1"
[[registry.mirror]]
location = "127.0.0.2:1"
insecure = true

[[registry]]
prefix = "example.com/foo"
location = "127.0.0.3:1/bar"
insecure = true
[[registry.mirror]]
location = "127.0.0.4:1/mirror/of"
[[registry.mirror]]
location = "127.0.0.5:1"

[[registry]]
location = "example.com/foo/blocked"
blocked = true

[[registry]]
prefix = "*.example.org"
location = "127.0.0.7:1/wild"

[[registry]]
prefix = "*.deep.example.org"
location = "127.0.0.8:1"

[[registry]]
location = "127.0.0.9:1"
[[registry.mirror]]
location = "127.0.0.10:1/six"

[[registry]]
prefix = "docker.io/library"
location = "127.0.0.11:1/hub"

[[registry]]
prefix = "replaced.example.com"
location = "127.0.0.12:1/main"

[[registry]]
prefix = "digests.example.com"
location = "127.0.0.13:1"
mirror-by-digest-only = true
[[registry.mirror]]
location = "127.0.0.14:1"
"""
DROP_IN = """
[[registry]]
prefix = "replaced.example.com"
location = "127.0.0.15:1/drop-in"
"""
NAMES = [
    "example.com/app",
    "example.com/foo/app",
    "example.com/food/app",
    "example.com/foo/blocked/app",
    "example.com/foo/blocked",
    "a.example.org/app",
    "a.b.example.org/app/x",
    "x.deep.example.org/app",
    "127.0.0.9:1/app",
    "docker.io/library/app",
    "replaced.example.com/app",
    "digests.example.com/app",
]
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    if reason := program_missing("skopeo"):
        pytest.skip(reason)
    places = own_places(tmp_path, monkeypatch)
    places.write("~/.config/containers/registries.conf", MAIN)
    places.write("~/.config/containers/registries.conf.d/10.conf", "[aliases]\n")
    places.write("~/.config/containers/registries.conf.d/20.conf", DROP_IN)
    places.write("~/.config/containers/registries.conf.d/30.other", "not TOML")
    return places


def tried_by_skopeo(name: str) -> list[tuple[str, list[str]]]:
    """Return each place that skopeo tries, and with which schemes; none if the name is blocked."""
    done = subprocess.run(
        ["skopeo", "--debug", "inspect", f"docker://{name}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode, "nothing listens there"
    found: list[tuple[str, list[str]]] = []
    if re.search("registry .* is blocked in", done.stderr):
        return found
    for place, scheme in re.findall(r'Trying to access \\"(.*?)\\"|msg="GET (https?)://[^/]*/v2/"', done.stderr):
        if place:
            found.append((re.sub(r"@sha256.*|:latest", "", place), []))
        else:
            found[-1][1].append(scheme)
    return found


def tried_by_us(name: str, *, by_digest: bool) -> list[tuple[str, list[str]]]:
    host, _, repository = name.partition("/")
    try:
        endpoints = endpoints_of(host, {}, repository)
    except ConfigError:  # it is blocked
        return []
    found: dict[str, list[str]] = {}
    for one in endpoints:
        if one.digests if by_digest else one.tags:
            found.setdefault(f"{one.host}/{one.repository(repository)}", []).append(one.url.partition(":")[0])
    return [*found.items()]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_places_in_the_same_order(places: Places, name: str) -> None:
    expected = tried_by_skopeo(name)
    ours = tried_by_us(name, by_digest=False)
    assert [place for place, _ in ours] == [place for place, _ in expected]
    # Without a word on it, skopeo asks this machine with TLS, and we do not.
    for (_, our_schemes), (_, schemes) in zip(ours, expected, strict=True):
        assert our_schemes == (schemes if len(schemes) > 1 else ["http"])


def test_mirrors_that_are_for_digests_only(places: Places) -> None:
    name = "digests.example.com/app"
    ours = tried_by_us(name, by_digest=True)
    assert [place for place, _ in ours] == [place for place, _ in tried_by_skopeo(f"{name}@{DIGEST}")]
    assert len(ours) == 2
