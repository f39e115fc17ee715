"""Images pulled from one registry and pushed to another, of all forms: what arrives is what was there."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.config.registries import HostSettings
from layerstore_core.images import Images
from layerstore_core.registry import Registry, RegistryDenied
from layerstore_core.registry.lists import fallback_tag
from tests.conftest import OpenStore
from tests.registry.certificates import Authority
from tests.registry.conftest import USERS, need
from tests.registry.fake_auth import TokenAuth
from tests.registry.fake_content import OCI_CONFIG, OCI_MANIFEST, descriptor, digest_of
from tests.registry.fake_registry import FakeRegistry
from tests.registry.images import IMAGE, index_layout, layout
from tests.registry.servers import RegistryServer, docker_registry
from tests.registry.skopeo import copy_in, copy_out, raw
from tests.registry.test_forms import LogIn, log_in, upload

__all__ = ["log_in"]
FORMS = ("plain", "basic", "token", "tls", "mutual")
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"


@pytest.fixture
def driver() -> str:
    """The only driver of these tests: what is received does not depend on it."""
    return "vfs"


@pytest.fixture(autouse=True)
def _as_on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


Settings = Callable[[str, str], dict[str, HostSettings]]


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    """Return a function that returns what has to be known of a server of a form."""

    def of(form: str, host: str) -> dict[str, HostSettings]:
        if form not in ("tls", "mutual"):
            return {}
        authority: Authority = request.getfixturevalue("authority")
        options: dict[str, Any] = {"ca": authority.certificate}
        if form == "mutual":
            pair = authority.client("ada")
            options |= {"client_cert": pair.certificate, "client_key": pair.key}
        return {host: HostSettings(**options)}

    return of


@pytest.mark.parametrize("form", FORMS)
def test_an_image_goes_there_and_comes_back(
    form: str,
    settings: Settings,
    open_store: OpenStore,
    log_in: LogIn,
    fake_registry: FakeRegistry,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    server: RegistryServer = request.getfixturevalue(f"{form}_registry")
    digest = fake_registry.add_image("app", IMAGE.blobs, "1", config=IMAGE.config)
    if form in ("basic", "token"):
        log_in(server.host)
    registries = settings(form, server.host)
    store = open_store(registries=registries, keep_blobs="always")
    images = Images(store)
    images.pull(f"{fake_registry.host}/app:1")
    name = f"{server.host}/copies/{form}:1"
    assert images.push(f"{fake_registry.host}/app:1", name).digest == digest
    with LayerStore.open(
        StoreConfig(root=tmp_path / "other", driver="vfs", durability="none", registries=registries)
    ) as other:
        pulled = Images(other).pull(name)
        assert (pulled.digest, pulled.fetched) == (digest, sum(map(len, IMAGE.blobs)))
        assert [image.image_id for image in pulled] == [IMAGE.image_id]
    # To another repository there, no layer is sent.
    with Registry(server.host, settings=registries) as registry:
        pushed = images.push(f"{fake_registry.host}/app:1", f"{server.host}/copies/{form}-again:1")
        assert {blob.state for blob in pushed.blobs if blob.kind == "layer"} == {"mounted"}
        assert registry.manifest(f"copies/{form}-again", "1").digest == digest


@pytest.mark.parametrize("form", ["basic", "token"])
def test_without_a_login_nothing_is_pushed_and_the_image_stays(
    form: str, open_store: OpenStore, fake_registry: FakeRegistry, request: pytest.FixtureRequest
) -> None:
    server: RegistryServer = request.getfixturevalue(f"{form}_registry")
    fake_registry.add_image("app", IMAGE.blobs, "1", config=IMAGE.config)
    images = Images(open_store())
    images.pull(f"{fake_registry.host}/app:1")
    with pytest.raises(RegistryDenied, match="login"):
        images.push(f"{fake_registry.host}/app:1", f"{server.host}/copies/denied:1")
    assert images.get(f"{fake_registry.host}/app:1").image_id == IMAGE.image_id
    assert not (server.storage / "docker/registry/v2/repositories/copies/denied/_manifests").exists()


def test_an_index_with_attestations_between_real_registries(
    plain_registry: RegistryServer, open_store: OpenStore, tmp_path: Path
) -> None:
    need("skopeo")
    source, _ = index_layout(tmp_path / "source")
    copy_in(source, f"{plain_registry.host}/copies/index:1")
    images = Images(open_store(keep_blobs="always"))
    pulled = images.pull(f"{plain_registry.host}/copies/index:1", all_platforms=True)
    assert len(pulled) == 2
    with docker_registry(tmp_path / "registry") as other:
        pushed = images.push(f"{plain_registry.host}/copies/index:1", f"{other.host}/app:1", all_platforms=True)
        assert pushed.digest == pulled.digest
        assert raw(f"{other.host}/app:1") == raw(f"{plain_registry.host}/copies/index:1")
        there = copy_out(f"{other.host}/app:1", tmp_path / "there")
    blobs = {path.name for path in source.glob("blobs/sha256/*")}
    assert {path.name for path in there.glob("blobs/sha256/*")} == blobs


def sign(host: str, repository: str, subject: str, key: Path) -> dict[str, bytes]:
    """Sign a manifest with cosign's form, at its tag, and with a referrer; return the two manifests by kind."""
    payload = json.dumps({"critical": {"image": {"docker-manifest-digest": subject}, "type": "cosign"}}).encode()
    command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signature = subprocess.run(command, input=payload, capture_output=True, check=True).stdout
    annotations = {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()}
    layer = descriptor(payload, COSIGN, annotations=annotations)
    made = {}
    with Registry(host) as registry:
        size = registry.manifest_info(repository, subject)
        upload(registry, repository, payload, b"{}")
        for kind, more in (
            ("tag", {}),
            ("referrer", {"subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": size and size.size}}),
        ):
            document = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "layers": [layer],
                **more,
                "config": descriptor(b"{}", OCI_CONFIG if kind == "tag" else "test/signature"),
            }
            made[kind] = json.dumps(document).encode()
            reference = f"{fallback_tag(subject)}.sig" if kind == "tag" else digest_of(made[kind])
            registry.put_manifest(repository, reference, made[kind], OCI_MANIFEST)
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor(made["referrer"], OCI_MANIFEST, artifactType="test/signature")],
        }
        data = json.dumps(index).encode()
        registry.put_manifest(repository, fallback_tag(subject), data, index["mediaType"])
    return made


def test_signatures_are_valid_after_a_pull_and_a_push(
    plain_registry: RegistryServer, authority: Authority, open_store: OpenStore, tmp_path: Path
) -> None:
    need("skopeo")
    copy_in(layout(tmp_path / "source", IMAGE), f"{plain_registry.host}/copies/signed:1")
    subject = digest_of(raw(f"{plain_registry.host}/copies/signed:1"))
    pair = authority.server()
    made = sign(plain_registry.host, "copies/signed", subject, pair.key)
    images = Images(open_store(keep_blobs="always"))
    pulled = images.pull(f"{plain_registry.host}/copies/signed:1", referrers=True)
    assert {one.digest for one in pulled.referrers} == {digest_of(data) for data in made.values()}
    with docker_registry(tmp_path / "registry") as other:
        pushed = images.push(f"{plain_registry.host}/copies/signed:1", f"{other.host}/app:1", referrers=True)
        assert pushed.digest == subject
        # As cosign verifies: by the digest of the image, to the tag, to the payload, to its signature.
        found = raw(f"{other.host}/app:{fallback_tag(subject)}.sig")
        assert found == made["tag"]
        with Registry(other.host) as registry:
            (referrer,) = registry.referrers("app", subject)
            assert registry.manifest("app", referrer["digest"]).data == made["referrer"]
            (layer,) = json.loads(found)["layers"]
            with registry.blob("app", layer["digest"]) as blob:
                payload = blob.read(1 << 20)
    assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == subject
    (tmp_path / "signature").write_bytes(base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]))
    public = tmp_path / "public.pem"
    subprocess.run(
        ["openssl", "x509", "-in", pair.certificate, "-pubkey", "-noout", "-out", public],
        check=True,
        capture_output=True,
    )
    verify = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", tmp_path / "signature"]
    subprocess.run(verify, input=payload, check=True, capture_output=True)


def test_a_mirror_serves_when_the_registry_is_gone_and_the_registry_when_the_mirror_is(
    open_store: OpenStore, tmp_path: Path
) -> None:
    need("skopeo")
    source = layout(tmp_path / "source", IMAGE)
    with docker_registry(tmp_path / "origin") as origin:
        copy_in(source, f"{origin.host}/app:1")
        with docker_registry(tmp_path / "mirror", mirror_of=origin.url) as mirror:
            registries = {origin.host: HostSettings(mirrors=(mirror.url,))}
            images = Images(open_store(registries=registries))
            images.pull(f"{origin.host}/app:1")
            assert not any("layerstore" in access.agent for access in origin.requests())
            images.remove(f"{origin.host}/app:1")
        pulled = images.pull(f"{origin.host}/app:1")
        assert pulled.fetched == sum(map(len, IMAGE.blobs))
        assert any("layerstore" in access.agent for access in origin.requests("/blobs/"))


# Where only a registry of the tests' own can do it.


def test_tokens_that_end_and_redirects_in_the_middle_of_a_pull(open_store: OpenStore, log_in: LogIn) -> None:
    auth = TokenAuth(USERS, anonymous=())
    with FakeRegistry(auth=auth, redirect=True, signed_for=30) as fake:
        log_in(fake.host)
        fake.add_image("app", IMAGE.blobs, "1", config=IMAGE.config)
        # The token ends after the manifest; the address that a blob is at ends, and the transfer breaks.
        fake.faults.on("GET .*/manifests/", skip=1, times=1).then(auth.expire)  # the first answer is 401
        fake.faults.on("GET /signed", server="storage", times=2).cut(300).then(fake.expire_redirects)
        pulled = Images(open_store()).pull(f"{fake.host}/app:1")
        assert pulled.fetched == sum(map(len, IMAGE.blobs))
        assert [request for request in fake.log.all(server="storage") if request.headers["Authorization"]] == []
        assert 2 <= len(auth.granted) <= 5 and {user for user, _ in auth.granted} == {"ada"}
