"""Connections: TLS with own authorities and client certificates, proxies, and connections that are used again."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from layerstore_core.config.registries import HostSettings
from layerstore_core.errors import ConfigError
from layerstore_core.registry import InvalidAnswer, Registry, RegistryDenied, RegistryUnavailable
from layerstore_core.registry.credentials import Credentials
from tests.registry.certificates import Authority, Pair
from tests.registry.fake_auth import TokenAuth
from tests.registry.fake_registry import FakeRegistry

pytestmark = pytest.mark.usefixtures("pauses", "nothing_left_open")
DATA = b"layer" * 1000


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    return authority.server("IP:127.0.0.1", "DNS:registry.test")


@pytest.fixture
def encrypted(pair: Pair) -> Iterator[FakeRegistry]:
    with FakeRegistry(tls=pair.server_context()) as fake:
        yield fake


def client(fake: FakeRegistry, **settings: Any) -> Registry:
    return Registry(fake.host, settings={fake.host: HostSettings(**settings)})


def test_an_own_authority(encrypted: FakeRegistry, authority: Authority) -> None:
    with client(encrypted, ca=authority.certificate) as registry:
        registry.ping()


def test_an_unknown_authority_is_not_asked_again(encrypted: FakeRegistry, pauses: list[float]) -> None:
    untrusted = pytest.raises(RegistryUnavailable, match=r"certificate is not trusted: .*name the CA")
    with client(encrypted, plain_http=False) as registry, untrusted as error:
        registry.ping()
    assert pauses == []
    assert error.value.host == encrypted.host
    assert encrypted.log.count() == 0


def test_a_certificate_for_another_name(encrypted: FakeRegistry, authority: Authority) -> None:
    host = encrypted.host.replace("127.0.0.1", "localhost")
    settings = {host: HostSettings(ca=authority.certificate)}
    with Registry(host, settings=settings) as registry, pytest.raises(RegistryUnavailable, match="mismatch"):
        registry.ping()


def test_an_insecure_registry(encrypted: FakeRegistry) -> None:
    with client(encrypted, insecure=True) as registry:
        registry.ping()


def test_a_client_certificate_is_not_for_other_hosts(pair: Pair, authority: Authority) -> None:
    context = pair.server_context()
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    own = authority.client("ada")
    with FakeRegistry(tls=context, redirect=True) as fake, FakeRegistry(tls=context) as elsewhere:
        digest = fake.add_blob("app", DATA)
        elsewhere.add_blob("app", DATA)
        with client(fake, ca=authority.certificate) as registry, pytest.raises(RegistryUnavailable):
            registry.ping()
        settings = {"ca": authority.certificate, "client_cert": own.certificate, "client_key": own.key}
        with client(fake, **settings) as registry:
            registry.ping()
            fake.faults.on("blobs").status(307, Location=f"{elsewhere.url}/v2/app/blobs/{digest}")
            with pytest.raises(RegistryUnavailable, match=r"(?i)certificate.required|connection|TLS failed"):
                registry.blob("app", digest)
        assert elsewhere.log.count() == 0


def test_out_of_tls_only_for_what_is_verified(
    encrypted: FakeRegistry, fake_registry: FakeRegistry, authority: Authority
) -> None:
    digest = fake_registry.add_image("app", [DATA], "1", config={})
    for path in ("manifests/1", f"manifests/{digest}"):
        encrypted.faults.on(path).status(307, Location=f"{fake_registry.url}/v2/app/{path}")
    with client(encrypted, ca=authority.certificate) as registry:
        assert registry.manifest("app", digest).digest == digest
        with pytest.raises(InvalidAnswer, match=r"redirects to http://[\d.:]+/v2/app/manifests/1, which is not enc"):
            registry.manifest("app", "1")
    assert fake_registry.log.count() == 1


@pytest.mark.parametrize("damage", ["missing", "empty"])
@pytest.mark.parametrize("name", ["ca", "client_cert"])
def test_files_that_cannot_be_used(encrypted: FakeRegistry, tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / "file.pem"
    if damage == "empty":
        path.touch()
    with client(encrypted, **{name: path}) as registry, pytest.raises(ConfigError, match=r"file\.pem cannot be used"):
        registry.ping()


def test_a_registry_without_tls(fake_registry: FakeRegistry, pauses: list[float]) -> None:
    refused = pytest.raises(RegistryUnavailable, match="it does not speak TLS")
    with client(fake_registry, plain_http=False) as registry, refused:
        registry.ping()
    with client(fake_registry, insecure=True) as registry:
        registry.ping()
        registry.ping()
    assert pauses == []
    assert fake_registry.log.count() == 2


def test_threads_find_out_at_once_that_there_is_no_tls(fake_registry: FakeRegistry) -> None:
    with client(fake_registry, insecure=True) as registry, ThreadPoolExecutor(8) as pool:
        for asked in [pool.submit(registry.ping) for _ in range(8)]:
            asked.result()


# Proxies.


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:pass%3Aword@{proxy.host}")
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        yield proxy


class Proxy:
    """A proxy that takes all connections to one server, wherever they are meant to go."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.target = ("127.0.0.1", 0)
        self.heads: list[bytes] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, socket.create_connection(self.target) as server:
            head = connection.recv(65536)
            self.heads.append(head)
            if head.startswith(b"CONNECT"):
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                server.sendall(head)
            back = threading.Thread(target=self._copy, args=(server, connection))
            back.start()
            self._copy(connection, server)
            back.join(10)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def target_of(fake: FakeRegistry) -> tuple[str, int]:
    host, _, port = fake.host.rpartition(":")
    return host, int(port)


def test_a_proxy_for_tls_gets_its_password_and_no_request(proxy: Proxy, authority: Authority, pair: Pair) -> None:
    with FakeRegistry(tls=pair.server_context()) as fake:
        proxy.target = target_of(fake)
        settings = {"registry.test": HostSettings(ca=authority.certificate)}
        with Registry("registry.test", settings=settings) as registry:
            registry.ping()
            registry.ping()
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT registry.test:443 ")
    assert b"proxy-authorization: basic ywrhonbhc3m6d29yza==" in head.lower()


def test_a_proxy_in_clear_gets_the_whole_url(proxy: Proxy, fake_registry: FakeRegistry) -> None:
    proxy.target = target_of(fake_registry)
    settings = {"registry.test": HostSettings(plain_http=True)}
    with Registry("registry.test", settings=settings) as registry:
        registry.ping()
    (head,) = proxy.heads
    assert head.startswith(b"GET http://registry.test/v2/ ")


def test_no_proxy(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", ".test")
    settings = {"registry.invalid.test": HostSettings(plain_http=True)}
    with Registry("registry.invalid.test", settings=settings) as registry, pytest.raises(RegistryUnavailable):
        registry.ping()
    assert proxy.heads == []


def test_a_proxy_that_is_not_there(proxy: Proxy, unused_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:pass-word@{unused_host}")
    with Registry("registry.test") as registry, pytest.raises(RegistryUnavailable, match="through the proxy") as error:
        registry.ping()
    assert "pass-word" not in str(error.value)


# Connections.


def test_threads_use_connections_again(fake_registry: FakeRegistry) -> None:
    digests = [fake_registry.add_blob("app", DATA + bytes([number])) for number in range(8)]

    def read(digest: str) -> int:
        with registry.blob("app", digest) as blob:
            return sum(map(len, iter(lambda: blob.read(100_000), b"")))

    with Registry(fake_registry.host) as registry, ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert set(pool.map(read, digests)) == {len(DATA) + 1}
    assert len({request.client for request in fake_registry.log.all()}) <= 4


def test_all_calls_use_one_connection(fake_registry: FakeRegistry) -> None:
    digest = fake_registry.add_blob("app", DATA)
    manifest = fake_registry.add_image("app", [DATA], "1", config={})
    with Registry(fake_registry.host, settings={}) as registry:
        for _ in range(2):
            assert registry.blob_size("app", digest) == len(DATA)
            assert registry.manifest_info("app", "1")
            assert registry.manifest_info("app", "none") is None
            registry.manifest("app", manifest)
            registry.upload_blob("copy", digest, len(DATA), lambda: [DATA])
            registry.mount_blob("other", digest, "app")
            list(registry.tags("app"))
            registry.referrers("app", manifest)
            with registry.blob("app", digest, start=5, end=100) as blob:
                assert blob.read(1000) == DATA[5:100]
        registry.delete_tag("app", "1")
    assert len({request.client for request in fake_registry.log.all()}) == 1


def test_a_connection_that_the_server_closed_is_replaced(fake_registry: FakeRegistry, pauses: list[float]) -> None:
    fake_registry.faults.on("GET /v2/$").header("Connection", "close")
    with Registry(fake_registry.host) as registry:
        for _ in range(3):
            registry.ping()
    assert pauses == []


def test_no_secret_is_in_a_repr(fake_registry: FakeRegistry) -> None:
    given = Credentials(username="ada", password="pass-word", identity_token="identity")
    with Registry(fake_registry.host, credentials=given) as registry:
        registry.ping()
        assert "pass-word" not in repr((registry, vars(registry), vars(registry._session), given))
        assert "identity" not in repr(given).replace("identity_token", "")


def test_a_password_is_not_sent_in_clear_to_a_token_server(authority: Authority, pair: Pair) -> None:
    auth = TokenAuth({"ada": "pass-word"}, realm="http://registry.test/token")
    given = Credentials(username="ada", password="pass-word")
    with FakeRegistry(tls=pair.server_context(), auth=auth) as fake:
        settings = {fake.host: HostSettings(ca=authority.certificate)}
        refused = pytest.raises(RegistryDenied, match="without TLS: the password is not sent")
        with Registry(fake.host, settings=settings, credentials=given) as registry, refused:
            registry.ping()
