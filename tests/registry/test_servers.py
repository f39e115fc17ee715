"""docker-registry's forms ask for what they should, count what they send, and leave nothing behind: seen by skopeo."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.registry.certificates import Authority
from tests.registry.conftest import need
from tests.registry.images import IMAGE, layout
from tests.registry.jwt_server import JWTServer
from tests.registry.servers import RegistryServer, docker_registry
from tests.registry.skopeo import SkopeoFailed, copy_in, copy_out, skopeo


@pytest.fixture(autouse=True)
def _needs_skopeo() -> None:
    need("skopeo")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return layout(tmp_path / "source", IMAGE)


def test_plain(plain_registry: RegistryServer, source: Path, tmp_path: Path) -> None:
    copy_in(source, f"{plain_registry.host}/servers/plain:1")
    plain_registry.forget()
    copy_out(f"{plain_registry.host}/servers/plain:1", tmp_path / "there")
    assert plain_registry.sent("GET .*/blobs/") == len(IMAGE.config) + sum(map(len, IMAGE.packed))
    (manifest,) = plain_registry.requests("GET .*/manifests/")
    assert (manifest.target, manifest.status) == ("GET /v2/servers/plain/manifests/1", 200)


def test_basic(basic_registry: RegistryServer, source: Path) -> None:
    copy_in(source, f"{basic_registry.host}/app:1", "--dest-creds=ada:pass:word")
    with pytest.raises(SkopeoFailed, match=r"unauthorized|authentication required"):
        copy_in(source, f"{basic_registry.host}/app:1", "--dest-creds=ada:wrong")


def test_token(token_registry: RegistryServer, token_server: JWTServer, source: Path, tmp_path: Path) -> None:
    copy_in(source, f"{token_registry.host}/app:1", "--dest-creds=bob:other")
    copy_out(f"{token_registry.host}/app:1", tmp_path / "there")  # everyone may
    with pytest.raises(SkopeoFailed, match=r"unauthorized|authentication required"):
        copy_in(source, f"{token_registry.host}/app:2")
    assert token_server.log.statuses("/token")[0] == 200


def test_tls(tls_registry: RegistryServer, authority: Authority, source: Path, tmp_path: Path) -> None:
    (certs := tmp_path / "certs").mkdir()
    copy = ("copy", f"--dest-cert-dir={certs}", f"oci:{source}:image", f"docker://{tls_registry.host}/app:1")
    with pytest.raises(SkopeoFailed, match="certificate"):
        skopeo(*copy)
    (certs / "ca.crt").write_bytes(authority.certificate.read_bytes())
    skopeo(*copy)


def test_certificates_of_clients(
    mutual_registry: RegistryServer, authority: Authority, source: Path, tmp_path: Path
) -> None:
    (certs := tmp_path / "certs").mkdir()
    (certs / "ca.crt").write_bytes(authority.certificate.read_bytes())
    copy = ("copy", f"--dest-cert-dir={certs}", f"oci:{source}:image", f"docker://{mutual_registry.host}/app:1")
    with pytest.raises(SkopeoFailed, match="certificate"):
        skopeo(*copy)
    pair = authority.client("ada")
    (certs / "client.cert").write_bytes(pair.certificate.read_bytes())
    (certs / "client.key").write_bytes(pair.key.read_bytes())
    skopeo(*copy)


def test_mirror(mirror_registry: RegistryServer, plain_registry: RegistryServer, source: Path, tmp_path: Path) -> None:
    copy_in(source, f"{plain_registry.host}/servers/mirrored:1")
    copy_out(f"{mirror_registry.host}/servers/mirrored:1", tmp_path / "first")
    # The mirror writes a blob to its disk after it has passed it on.
    for number in range(60):
        plain_registry.forget()
        copy_out(f"{mirror_registry.host}/servers/mirrored:1", tmp_path / f"again-{number}")
        if not (sent := plain_registry.sent("GET .*/blobs/")):
            break
        time.sleep(0.5)
    assert sent == 0
    with pytest.raises(SkopeoFailed, match=r"unsupported|405"):
        copy_in(source, f"{mirror_registry.host}/servers/mirrored:2")


def test_nothing_runs_after_a_test_that_fails(tmp_path: Path) -> None:
    hosts = []

    def fail() -> None:
        with docker_registry(tmp_path / "registry") as server:
            hosts.append(server.host)
            assert urllib.request.urlopen(f"{server.url}/v2/").status == 200
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://{hosts[0]}/v2/")


def test_a_wrong_configuration_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="unknown"),
        docker_registry(tmp_path / "registry", auth={"unknown": {}}),
    ):
        pass
