"""Files that say where registries are, with registries: what each is asked, by whom, and with what."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core.config.registries import HostSettings
from layerstore_core.registry import NotInRegistry, Registry
from layerstore_core.registry.credentials import Credentials, store_credentials
from tests.registry.certificates import Authority
from tests.registry.fake_auth import BasicAuth
from tests.registry.fake_content import OCI_INDEX
from tests.registry.fake_registry import FakeRegistry
from tests.registry.servers import RegistryServer
from tests.registry.surroundings import Places, own_places

HOST = "registry.example.com"
CONFIG = b"{}"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    return own_places(tmp_path / "places", monkeypatch)


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


def paths(fake: FakeRegistry) -> list[str]:
    return [request.target for request in fake.log.all()]


def test_two_places_on_one_mirror(mirror: FakeRegistry) -> None:
    mirror.add_image("b/app", [b"layer"], "1", config=CONFIG)
    settings = {HOST: HostSettings(mirrors=(f"{mirror.host}/a", f"{mirror.host}/b"))}
    with Registry(HOST, settings=settings) as registry:
        assert registry.manifest("app", "1").data
    assert paths(mirror) == ["GET /v2/a/app/manifests/1", "GET /v2/b/app/manifests/1"]
    assert {request.argument("ns") for request in mirror.log.all()} == {HOST}


@pytest.mark.parametrize("how", ["own", "registries.conf", "hosts.toml", "daemon.json"])
def test_a_pull_through_mirror(
    places: Places, plain_registry: RegistryServer, mirror_registry: RegistryServer, how: str
) -> None:
    """The registry itself is at no address; all comes through the mirror."""
    host = "docker.io" if how == "daemon.json" else HOST
    document = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    with Registry(plain_registry.host, settings={}) as registry:
        digest = registry.put_manifest("mirrored/app", "1", document, OCI_INDEX).digest
    settings = {HOST: HostSettings(mirrors=(mirror_registry.host,))} if how == "own" else {}
    places.write(
        *{
            "own": ("unused",),
            "registries.conf": (
                "containers/registries.conf",
                f'[[registry]]\nlocation = "{HOST}"\n[[registry.mirror]]\nlocation = "{mirror_registry.host}"\n',
            ),
            "hosts.toml": (f"containerd/certs.d/{HOST}/hosts.toml", f'[host."{mirror_registry.url}"]\n'),
            "daemon.json": ("docker/daemon.json", json.dumps({"registry-mirrors": [mirror_registry.url]})),
        }[how]
    )
    with Registry(host, settings=settings) as registry:
        assert registry.manifest("mirrored/app", "1").digest == digest


def test_repositories_that_are_at_different_places_on_one_server(places: Places, mirror: FakeRegistry) -> None:
    for name in ("first/app", "second/x/app", "second/x/more/app"):
        mirror.add_image(name, [name.encode()], "1", config=CONFIG)
    places.write(
        "containers/registries.conf",
        f'[[registry]]\nprefix = "{HOST}/one"\nlocation = "{mirror.host}/first"\n'
        f'[[registry]]\nprefix = "{HOST}/two"\nlocation = "{mirror.host}/second/x"\n',
    )
    with Registry(HOST, settings={}) as registry:
        found = [registry.manifest(name, "1").digest for name in ("one/app", "two/app", "two/more/app")]
        with pytest.raises(NotInRegistry):
            registry.manifest("two/none", "1")
    expected = ["first/app", "second/x/app", "second/x/more/app"]
    assert found == [mirror.repository(name).tags["1"] for name in expected]


def test_what_is_elsewhere_is_written_where_its_name_says(places: Places, mirror: FakeRegistry) -> None:
    with FakeRegistry() as own:
        places.write(
            "containers/registries.conf", f'[[registry]]\nprefix = "{own.host}/a"\nlocation = "{mirror.host}/b"\n'
        )
        with Registry(own.host, settings={}) as registry:
            registry.upload_blob("a/app", own.add_blob("elsewhere", b"data"), 4, lambda: [b"data"])
            with pytest.raises(NotInRegistry):
                registry.manifest("a/app", "1")
        assert paths(mirror) == ["GET /v2/b/app/manifests/1"]
        assert {path.split("/v2/")[1].split("/blobs")[0] for path in paths(own)} == {"a/app"}


def test_mirrors_that_are_for_digests_only(places: Places, mirror: FakeRegistry) -> None:
    with FakeRegistry() as own:
        for fake in (own, mirror):
            digest = fake.add_image("app", [b"layer"], "1", config=CONFIG)
        places.write(
            "containers/registries.conf",
            f'[[registry]]\nlocation = "{own.host}"\nmirror-by-digest-only = true\n'
            f'[[registry.mirror]]\nlocation = "{mirror.host}"\n',
        )
        with Registry(own.host, settings={}) as registry:
            registry.manifest("app", "1")
            registry.manifest("app", digest)
        assert paths(own) == ["GET /v2/app/manifests/1"]
        assert paths(mirror) == [f"GET /v2/app/manifests/{digest}"]


def test_headers_of_hosts_toml_are_for_this_server_only(places: Places) -> None:
    with FakeRegistry(redirect=True) as fake:
        digest = fake.add_blob("app", b"data")
        places.write(
            f"containerd/certs.d/{HOST}/hosts.toml",
            f'[host."{fake.url}"]\n[host."{fake.url}".header]\nX-Secret = "hidden"\nX-List = ["a", "b"]\n',
        )
        with Registry(HOST, settings={}) as registry, registry.blob("app", digest) as blob:
            assert blob.read(10) == b"data"
        asked = {request.server: request.headers for request in fake.log.all()}
        assert set(asked) == {"registry", "storage"}
        assert (asked["registry"]["X-Secret"], asked["registry"]["X-List"]) == ("hidden", "a, b")
        assert "X-Secret" not in asked["storage"]


def test_each_server_gets_its_own_credentials(places: Places) -> None:
    with (
        FakeRegistry(auth=BasicAuth({"own": "1"})) as own,
        FakeRegistry(auth=BasicAuth({"of-mirror": "2"})) as mirror,
    ):
        own.add_image("app", [b"layer"], "1", config=CONFIG)
        file = places.write("~/.docker/config.json", "{}")
        entry = base64.b64encode(b"of-mirror:2").decode()
        file.write_text(json.dumps({"auths": {f"{mirror.host}/cache": {"auth": entry}}}))
        settings = {own.host: HostSettings(mirrors=(f"{mirror.host}/cache",))}
        given = Credentials(username="own", password="1")
        with Registry(own.host, settings=settings, credentials=given) as registry:
            registry.manifest("app", "1")
        assert users(own) == {"own"}
        assert users(mirror) == {"of-mirror"}
        store_credentials(own.host, given)
        with Registry(own.host, settings=settings) as registry:
            registry.manifest("app", "1")
        assert users(own) == {"own"}
        assert users(mirror) == {"of-mirror"}


def users(fake: FakeRegistry) -> set[str]:
    """Return the users whose passwords were sent to a registry."""
    sent = [request.headers.get("Authorization", "") for request in fake.log.all()]
    return {base64.b64decode(header.partition(" ")[2]).decode().partition(":")[0] for header in sent if header}


@pytest.mark.parametrize("directory", ["containers/certs.d", "docker/certs.d", "~/.config/containers/certs.d"])
def test_an_authority_in_certs_d(
    places: Places, tls_registry: RegistryServer, authority: Authority, directory: str
) -> None:
    path = places.write(f"{directory}/{tls_registry.host}/ca.crt")
    shutil.copy(authority.certificate, path)
    with Registry(tls_registry.host, settings={}) as registry:
        registry.ping()


def test_a_certificate_of_the_client_in_certs_d(
    places: Places, mutual_registry: RegistryServer, authority: Authority
) -> None:
    path = places.write(f"containers/certs.d/{mutual_registry.host}/ca.crt")
    shutil.copy(authority.certificate, path)
    pair = authority.client("ada")
    shutil.copy(pair.certificate, path.with_name("ada.cert"))
    shutil.copy(pair.key, path.with_name("ada.key"))
    with Registry(mutual_registry.host, settings={}) as registry:
        registry.ping()


@pytest.mark.parametrize("how", ["registries.conf", "daemon.json"])
def test_an_insecure_registry(
    places: Places, tls_registry: RegistryServer, plain_registry: RegistryServer, how: str
) -> None:
    hosts = tls_registry.host, plain_registry.host
    if how == "daemon.json":
        places.write("docker/daemon.json", json.dumps({"insecure-registries": hosts}))
    else:
        text = "".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in hosts)
        places.write("containers/registries.conf", text)
    for host in hosts:
        with Registry(host, settings={}) as registry:
            registry.ping()
            assert registry.blob_size("none", "sha256:" + "0" * 64) is None
