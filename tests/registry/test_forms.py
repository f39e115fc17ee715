"""The client against docker-registry in all forms in which it is used, and skopeo on the other side."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from layerstore_core.config.registries import HostSettings
from layerstore_core.registry import NotInRegistry, Registry, RegistryDenied, RegistryError
from tests.registry.certificates import Authority
from tests.registry.conftest import USERS
from tests.registry.fake_content import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of
from tests.registry.images import IMAGE, index_layout, layout
from tests.registry.jwt_server import JWTServer
from tests.registry.servers import RegistryServer
from tests.registry.skopeo import copy_in, copy_out, skopeo

FORMS = ("plain", "basic", "token", "tls", "mutual")
Open = Callable[..., Registry]
LogIn = Callable[..., None]


@pytest.fixture(autouse=True)
def log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogIn:
    """Return a function that writes a file of credentials. Without a call there are none."""
    path = tmp_path / "auth.json"
    path.write_text('{"auths": {}}')
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    def write(host: str, user: str = "ada", password: str | None = None) -> None:
        text = base64.b64encode(f"{user}:{USERS.get(user) if password is None else password}".encode()).decode()
        path.write_text(json.dumps({"auths": {host: {"auth": text}}}))

    return write


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(form: str, request: pytest.FixtureRequest) -> RegistryServer:
    return request.getfixturevalue(f"{form}_registry")  # type: ignore[no-any-return]


@pytest.fixture
def settings(form: str, server: RegistryServer, request: pytest.FixtureRequest) -> dict[str, HostSettings]:
    """Return what the client has to know of the server."""
    if form not in ("tls", "mutual"):
        return {}
    authority: Authority = request.getfixturevalue("authority")
    options: dict[str, Any] = {"ca": authority.certificate}
    if form == "mutual":
        pair = authority.client("ada")
        options |= {"client_cert": pair.certificate, "client_key": pair.key}
    return {server.host: HostSettings(**options)}


@pytest.fixture
def open_() -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda host, **more: stack.enter_context(Registry(host, **{"settings": {}, "timeout": 10.0, **more}))


@pytest.fixture
def registry(
    form: str, server: RegistryServer, settings: dict[str, HostSettings], open_: Open, log_in: LogIn
) -> Registry:
    if form in ("basic", "token"):
        log_in(server.host)
    return open_(server.host, settings=settings)


def upload(registry: Registry, repository: str, *blobs: bytes) -> None:
    for data in blobs:
        registry.upload_blob(repository, digest_of(data), len(data), lambda data=data: [data])


def read(registry: Registry, repository: str, digest: str, **range_: int) -> bytes:
    with registry.blob(repository, digest, **range_) as response:
        return b"".join(iter(lambda: response.read(1000), b""))


@pytest.fixture
def _nothing_stays(server: RegistryServer, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("nothing_left_open")  # only now: the servers stay


@pytest.mark.usefixtures("_nothing_stays")
def test_all_calls(form: str, registry: Registry) -> None:
    registry.ping()
    name, other = f"forms/{form}", f"forms/other-{form}"
    layer, config = bytes(range(256)) * 500, b'{"form":"%s"}' % form.encode()
    assert registry.blob_size(name, digest_of(layer)) is None
    with pytest.raises(NotInRegistry):
        read(registry, name, digest_of(layer))
    upload(registry, name, layer, config, b"")
    assert registry.blob_size(name, digest_of(layer)) == len(layer)
    assert read(registry, name, digest_of(layer)) == layer
    assert read(registry, name, digest_of(layer), start=1000, end=3000) == layer[1000:3000]
    assert read(registry, name, digest_of(layer), start=127_999) == layer[127_999:]

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    data = json.dumps(document, indent=1).encode()
    for tag in ("2", "1"):
        put = registry.put_manifest(name, tag, data, OCI_MANIFEST)
    assert (put.digest, put.subject_handled) == (digest_of(data), False)
    for reference in ("1", digest_of(data)):
        found = registry.manifest(name, reference)
        assert (found.data, found.digest, found.media_type) == (data, digest_of(data), OCI_MANIFEST)
        info = registry.manifest_info(name, reference)
        assert info is not None
        assert (info.digest, info.media_type, info.size) == (digest_of(data), OCI_MANIFEST, len(data))
    assert registry.manifest_info(name, "3") is None
    with pytest.raises(NotInRegistry, match=r"3"):
        registry.manifest(name, "3")
    assert sorted(registry.tags(name)) == ["1", "2"]

    assert registry.mount_blob(other, digest_of(layer), name) is None
    assert read(registry, other, digest_of(layer)) == layer
    begun = registry.mount_blob(other, digest_of(b"never"), name)
    assert begun is not None
    registry.upload_blob(other, digest_of(b"never"), 5, lambda: [b"ne", b"ver"], upload=begun)
    assert read(registry, other, digest_of(b"never")) == b"never"

    registry.delete_manifest(name, digest_of(data))
    assert registry.manifest_info(name, "1") is None
    registry.delete_blob(name, digest_of(layer))
    assert registry.blob_size(name, digest_of(layer)) is None
    with pytest.raises(NotInRegistry):
        registry.delete_blob(name, digest_of(layer))
    registry.close()


def test_referrers_by_the_fallback_tag(form: str, registry: Registry) -> None:
    name = f"forms/referrers-{form}"
    subject = digest_of(b"subject")
    assert registry.referrers(name, subject) == []
    upload(registry, name, b"{}")
    entries = []
    for kind in ("test/signature", "test/sbom"):
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [],
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 7},
        }
        data = json.dumps(document).encode()
        put = registry.put_manifest(name, digest_of(data), data, OCI_MANIFEST)
        assert not put.subject_handled
        entries.append(descriptor(data, OCI_MANIFEST, artifactType=kind))
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    registry.put_manifest(name, subject.replace(":", "-"), index, OCI_INDEX)
    assert registry.referrers(name, subject) == entries
    assert registry.referrers(name, subject, "test/sbom") == entries[1:]


def test_what_skopeo_pushed_and_what_we_pushed_is_the_same(
    plain_registry: RegistryServer, open_: Open, tmp_path: Path
) -> None:
    source, _ = index_layout(tmp_path / "source")
    copy_in(source, f"{plain_registry.host}/forms/theirs:1")
    registry = open_(plain_registry.host)
    top = registry.manifest("forms/theirs", "1")
    for entry in json.loads(top.data)["manifests"]:
        manifest = registry.manifest("forms/theirs", entry["digest"])
        document = json.loads(manifest.data)
        for blob in (document["config"], *document["layers"]):
            data = read(registry, "forms/theirs", blob["digest"])
            assert (digest_of(data), len(data)) == (blob["digest"], blob["size"])
            registry.upload_blob("forms/ours", blob["digest"], blob["size"], lambda data=data: [data])
        registry.put_manifest("forms/ours", manifest.digest, manifest.data, manifest.media_type)
    assert registry.put_manifest("forms/ours", "1", top.data, top.media_type).digest == top.digest
    there = copy_out(f"{plain_registry.host}/forms/ours:1", tmp_path / "there")
    assert {path.name for path in there.glob("blobs/sha256/*")} == {path.name for path in source.glob("blobs/sha256/*")}


def test_a_large_blob_is_sent_in_one_piece_and_read(plain_registry: RegistryServer, open_: Open) -> None:
    piece, count = hashlib.sha256(b"seed").digest() * 32768, 24  # 24 MiB
    digest = f"sha256:{hashlib.sha256(piece * count).hexdigest()}"
    registry = open_(plain_registry.host)
    registry.upload_blob("forms/large", digest, len(piece) * count, lambda: [piece] * count)
    with registry.blob("forms/large", digest) as response:
        found = hashlib.sha256()
        while data := response.read(1 << 20):
            found.update(data)
    assert found.hexdigest() == digest[7:]


# Who may do what.


@pytest.mark.parametrize("form", ["basic", "token"])
def test_wrong_credentials(server: RegistryServer, open_: Open, log_in: LogIn) -> None:
    log_in(server.host, "ada", "a wrong secret")
    registry = open_(server.host)
    for call in (registry.ping, lambda: upload(registry, "denied", b"x"), lambda: list(registry.tags("denied"))):
        with pytest.raises(RegistryDenied) as caught:
            call()
        assert server.host in str(caught.value) and "a wrong secret" not in repr(caught.value)
        assert base64.b64encode(b"ada:a wrong secret").decode() not in str(caught.value)


@pytest.mark.parametrize("form", ["basic", "token"])
def test_no_credentials(server: RegistryServer, open_: Open) -> None:
    with pytest.raises(RegistryDenied, match="login"):
        upload(open_(server.host), "denied", b"x")


@pytest.mark.parametrize("form", ["token"])
def test_everyone_may_pull_where_the_token_server_says_so(
    server: RegistryServer, open_: Open, log_in: LogIn, tmp_path: Path
) -> None:
    skopeo(
        *("copy", "--dest-tls-verify=false", "--dest-creds=ada:pass:word"),
        *(f"oci:{layout(tmp_path / 'source', IMAGE)}:image", f"docker://{server.host}/forms/anonymous:1"),
    )
    registry = open_(server.host)
    registry.manifest("forms/anonymous", "1")
    assert read(registry, "forms/anonymous", digest_of(IMAGE.packed[0])) == IMAGE.packed[0]
    with pytest.raises(RegistryDenied):
        upload(registry, "forms/anonymous", b"x")


@pytest.mark.parametrize("form", ["token"])
def test_tokens_are_kept_and_got_anew_when_they_end(
    server: RegistryServer, registry: Registry, token_server: JWTServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(registry, "forms/tokens", b"one")
    token_server.log.clear()
    upload(registry, "forms/tokens", b"two", b"three")
    assert token_server.log.count() == 0
    # docker-registry grants a minute of leeway: tokens that ended longer ago are refused.
    monkeypatch.setattr(token_server, "lifetime", -100)
    with pytest.raises(RegistryDenied):
        upload(registry, "forms/ended", b"one")
    assert token_server.log.count() <= 4
    monkeypatch.setattr(token_server, "lifetime", 60)
    upload(registry, "forms/ended", b"one")


@pytest.mark.parametrize("form", ["tls"])
def test_an_unknown_authority_is_not_trusted(server: RegistryServer, open_: Open, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "Other")
    for own in (HostSettings(plain_http=False), HostSettings(ca=other.certificate)):
        with pytest.raises(RegistryError, match="certificate is not trusted"):
            open_(server.host, settings={server.host: own}).ping()
    open_(server.host, settings={server.host: HostSettings(insecure=True)}).ping()


@pytest.mark.parametrize("form", ["tls"])
def test_a_server_with_tls_that_is_asked_in_clear_says_so(server: RegistryServer, open_: Open) -> None:
    with pytest.raises(RegistryError, match="HTTP request to an HTTPS server"):
        open_(server.host).ping()


@pytest.mark.parametrize("form", ["mutual"])
def test_a_client_without_a_certificate_is_told(server: RegistryServer, open_: Open, authority: Authority) -> None:
    with pytest.raises(RegistryError, match="client_cert"):
        open_(server.host, settings={server.host: HostSettings(ca=authority.certificate)}).ping()


# Mirrors.


def test_a_mirror_is_read_and_never_written(
    plain_registry: RegistryServer, mirror_registry: RegistryServer, open_: Open, tmp_path: Path
) -> None:
    copy_in(layout(tmp_path / "source", IMAGE), f"{plain_registry.host}/forms/mirrored:1")
    settings = {plain_registry.host: HostSettings(mirrors=(mirror_registry.url,))}
    registry = open_(plain_registry.host, settings=settings)
    for _ in range(2):
        for server in (plain_registry, mirror_registry):
            server.forget()
        found = registry.manifest("forms/mirrored", "1")
        assert read(registry, "forms/mirrored", digest_of(IMAGE.packed[0])) == IMAGE.packed[0]
        assert mirror_registry.sent("GET .*/blobs/") == len(IMAGE.packed[0])
        assert not any("layerstore" in access.agent for access in plain_registry.requests())
    mirror_registry.forget()
    upload(registry, "forms/mirrored", b"new")
    registry.put_manifest("forms/mirrored", "2", found.data, found.media_type)
    assert mirror_registry.requests() == []


def test_without_its_mirror_the_registry_serves(
    plain_registry: RegistryServer, open_: Open, tmp_path: Path, unused_host: str
) -> None:
    copy_in(layout(tmp_path / "source", IMAGE), f"{plain_registry.host}/forms/alone:1")
    settings = {plain_registry.host: HostSettings(mirrors=(f"http://{unused_host}",))}
    registry = open_(plain_registry.host, settings=settings)
    registry.manifest("forms/alone", "1")
    assert read(registry, "forms/alone", digest_of(IMAGE.packed[0])) == IMAGE.packed[0]
