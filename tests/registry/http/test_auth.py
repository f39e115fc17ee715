"""Authentication: what is sent to whom, and when a token is asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layerstore_core.registry import InvalidAnswer, NotInRegistry, Registry, RegistryDenied
from layerstore_core.registry.credentials import Credentials
from tests.registry.fake_auth import BasicAuth, TokenAuth
from tests.registry.fake_content import digest_of
from tests.registry.fake_registry import FakeRegistry

USERS = {"ada": "pass:word"}
ADA = Credentials(username="ada", password="pass:word", source="a file")
WRONG = Credentials(username="ada", password="wrong-password", source="a file")
IDENTITY = Credentials(username="ada", identity_token="identity-of-ada")
DATA = b"0123456789" * 100
DIGEST = digest_of(DATA)

pytestmark = pytest.mark.usefixtures("pauses", "nothing_left_open")


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))


@pytest.fixture
def auth() -> TokenAuth:
    return TokenAuth(USERS, anonymous=("pull",))


@pytest.fixture
def fake(auth: TokenAuth) -> Iterator[FakeRegistry]:
    with FakeRegistry(auth=auth) as fake:
        fake.add_image("app", [DATA], "1", config={})
        yield fake


def client(fake: FakeRegistry, credentials: Credentials | None = None) -> Registry:
    return Registry(fake.host, credentials=credentials)


def put(registry: Registry, repository: str = "app", data: bytes = b"new") -> None:
    registry.upload_blob(repository, digest_of(data), len(data), lambda: [data])


# Basic.


@pytest.fixture
def basic() -> Iterator[FakeRegistry]:
    with FakeRegistry(auth=BasicAuth(USERS)) as fake:
        fake.add_blob("app", DATA)
        yield fake


def test_basic_is_sent_after_the_server_asked_for_it(basic: FakeRegistry) -> None:
    with client(basic, ADA) as registry:
        assert registry.blob_size("app", DIGEST) == len(DATA)
        assert registry.blob_size("app", DIGEST) == len(DATA)
    assert [str(request)[-3:] for request in basic.log.all()] == ["401", "200", "200"]
    assert [bool(request.headers["Authorization"]) for request in basic.log.all()] == [False, True, True]


def test_a_wrong_password_is_sent_once_and_not_shown(basic: FakeRegistry) -> None:
    with (
        client(basic, WRONG) as registry,
        pytest.raises(RegistryDenied, match="credentials of ada from a file are wrong") as error,
    ):
        registry.blob_size("app", DIGEST)
    assert len(basic.log.all()) == 2
    assert error.value.status == 401
    assert "wrong-password" not in f"{error.value}{error.value!r}{registry!r}{WRONG!r}"


def test_without_credentials_the_error_says_how_to_log_in(basic: FakeRegistry) -> None:
    with client(basic) as registry, pytest.raises(RegistryDenied, match=f"log in: layerstore login {basic.host}"):
        registry.ping()


def test_credentials_come_from_the_files(basic: FakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {basic.host: {"auth": "YWRhOnBhc3M6d29yZA=="}}}))
    with client(basic) as registry:
        registry.ping()


# Tokens.


def test_a_token_for_everyone(fake: FakeRegistry, auth: TokenAuth) -> None:
    with client(fake) as registry:
        manifest = registry.manifest("app", "1")
        assert registry.manifest("app", manifest.digest) == manifest
        with registry.blob("app", DIGEST) as blob:
            assert blob.read() == DATA
        with pytest.raises(RegistryDenied, match="log in"):
            put(registry)
    assert auth.granted[0] == ("", ("repository:app:pull",))
    assert len(auth.granted) <= 3


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_a_token_for_a_user_is_used_again(fake: FakeRegistry, auth: TokenAuth, key: str) -> None:
    auth.key = key
    with client(fake, ADA) as registry:
        put(registry)
        put(registry, data=b"more")
    assert auth.granted == [("ada", ("repository:app:pull,push",))]
    assert fake.log.statuses(server="registry") == [401, 202, 201, 202, 201]


def test_each_repository_has_its_token_without_another_401(fake: FakeRegistry, auth: TokenAuth) -> None:
    with client(fake, ADA) as registry:
        put(registry, "a")
        put(registry, "b")
    assert [scopes for _, scopes in auth.granted] == [("repository:a:pull,push",), ("repository:b:pull,push",)]
    assert fake.log.statuses(server="registry").count(401) == 1


def test_a_mount_asks_for_both_scopes(fake: FakeRegistry, auth: TokenAuth) -> None:
    with client(fake, ADA) as registry:
        assert registry.mount_blob("other", DIGEST, "app") is None
    (grant,) = auth.granted
    assert sorted(grant[1]) == ["repository:app:pull", "repository:other:pull,push"]
    asked = next(request for request in fake.log.all(server="token"))
    assert len(asked.query["scope"]) == 2
    assert asked.query["account"] == ["ada"]


def test_a_token_that_ends_is_renewed_before(
    fake: FakeRegistry, auth: TokenAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.expires_in = 100
    now = [1000.0]
    monkeypatch.setattr("layerstore_core.registry.http.tokens.time.monotonic", lambda: now[0])
    with client(fake, ADA) as registry:
        registry.manifest("app", "1")
        now[0] += 89
        registry.manifest("app", "1")
        assert len(auth.granted) == 1
        now[0] += 2
        registry.manifest("app", "1")
        assert len(auth.granted) == 2
    assert fake.log.statuses(server="registry") == [401, 200, 200, 200]


def test_a_token_that_ended_early_is_renewed_once(fake: FakeRegistry, auth: TokenAuth) -> None:
    with client(fake, ADA) as registry:
        put(registry)
        auth.expire()
        put(registry, data=b"more")
        auth.lifetime = 0
        auth.expire()
        before = len(auth.granted)
        with pytest.raises(RegistryDenied):
            put(registry, data=b"again")
    assert len(auth.granted) - before <= 2


def test_a_token_that_ends_in_a_transfer_is_renewed(fake: FakeRegistry, auth: TokenAuth) -> None:
    fake.faults.on("GET .*/blobs/", times=1, skip=1).cut(100).then(auth.expire)
    with client(fake, ADA) as registry, registry.blob("app", DIGEST) as blob:
        got = b"".join(iter(lambda: blob.read(64), b""))
    assert got == DATA
    assert len(auth.granted) == 2


def test_missing_rights_are_no_reason_to_ask_again(fake: FakeRegistry, auth: TokenAuth) -> None:
    auth.anonymous = ()
    with client(fake) as registry, pytest.raises(RegistryDenied, match="layerstore login"):
        registry.manifest("app", "1")
    assert len(auth.granted) == 1


def test_a_wrong_password_at_the_token_server(fake: FakeRegistry) -> None:
    with client(fake, WRONG) as registry, pytest.raises(RegistryDenied) as error:
        registry.manifest("app", "1")
    text = str(error.value)
    assert "does not take the credentials of ada from a file" in text
    assert "incorrect username or password" in text
    assert "wrong-password" not in text


@pytest.mark.parametrize("post", [200, 404, 405])
def test_an_identity_token(fake: FakeRegistry, auth: TokenAuth, post: int) -> None:
    auth.post = post
    auth.identity_tokens["identity-of-ada"] = "ada"
    auth.users = {"ada": "identity-of-ada"}
    with client(fake, IDENTITY) as registry:
        put(registry)
    assert auth.granted == [("ada", ("repository:app:pull,push",))]
    asked = [request.method for request in fake.log.all(server="token")]
    assert asked == (["POST"] if post == 200 else ["POST", "GET"])


def test_an_identity_token_that_has_ended(fake: FakeRegistry) -> None:
    with client(fake, IDENTITY) as registry, pytest.raises(RegistryDenied, match="log in again") as error:
        put(registry)
    assert "identity-of-ada" not in f"{error.value}{IDENTITY!r}"


def test_both_ways_are_offered_and_the_token_server_fails(fake: FakeRegistry, auth: TokenAuth) -> None:
    auth.offer_basic = True
    with client(fake, ADA) as registry:
        put(registry)
    assert len(auth.granted) == 1
    fake.faults.on("token", server="token").error(403, "DENIED")
    with client(fake, ADA) as registry:
        put(registry, data=b"more")
    assert len(auth.granted) == 1


def test_threads_share_a_token(fake: FakeRegistry, auth: TokenAuth) -> None:
    start = threading.Barrier(8)
    with client(fake, ADA) as registry:

        def read(_: int) -> int:
            start.wait()
            return len(registry.manifest("app", "1").data)

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(read, range(8)))) == 1
    assert len(auth.granted) == 1


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"<html>", b'{"token": 5}', b'{"token": "a\\nb"}', b"[" * 100_000],
    ids=["empty", "list", "html", "number", "lines", "deep"],
)
def test_what_is_no_token_is_refused(fake: FakeRegistry, body: bytes) -> None:
    fake.faults.on("token", server="token").status(200, body)
    with client(fake) as registry, pytest.raises(InvalidAnswer, match="no token"):
        registry.manifest("app", "1")


def test_a_token_server_without_end(fake: FakeRegistry) -> None:
    fake.faults.on("token", server="token").endless()
    with client(fake) as registry, pytest.raises(InvalidAnswer, match="no token"):
        registry.manifest("app", "1")


def test_a_busy_token_server_is_asked_again(fake: FakeRegistry, auth: TokenAuth, pauses: list[float]) -> None:
    fake.faults.on("token", server="token", times=1).busy(503, after=7)
    with client(fake) as registry:
        registry.manifest("app", "1")
    assert pauses == [7]
    assert len(auth.granted) == 1


@pytest.mark.parametrize("realm", ["", "file:///etc/passwd", "http://a:b@127.0.0.1/token", "//"])
def test_a_wrong_realm_is_refused(fake: FakeRegistry, realm: str) -> None:
    fake.faults.on("manifests").status(401, WWW_Authenticate=f'Bearer realm="{realm}"')
    with client(fake, ADA) as registry, pytest.raises(InvalidAnswer, match="token server with a wrong URL"):
        registry.manifest("app", "1")


def test_what_the_server_quotes_of_a_secret_is_not_shown(fake: FakeRegistry) -> None:
    with client(fake, ADA) as registry:
        put(registry)
        fake.faults.on("manifests").change(
            lambda request, answer: vars(answer).update(
                status=400,
                body=b'{"errors":[{"code":"X","message":"%s"}]}' % request.headers["Authorization"].encode(),
            )
        )
        with pytest.raises(Exception, match="Bearer <secret>"):
            registry.manifest("app", "1")


@pytest.mark.parametrize("header", ["", "Negotiate", "Bearer", 'Digest realm="x"'])
def test_other_challenges_are_denials(fake: FakeRegistry, header: str) -> None:
    fake.faults.on("manifests").status(401, WWW_Authenticate=header)
    with client(fake) as registry, pytest.raises((RegistryDenied, InvalidAnswer)):
        registry.manifest("app", "1")


def test_nothing_is_sent_to_a_storage_server(fake: FakeRegistry) -> None:
    fake.settings.redirect = True
    with client(fake, ADA) as registry, registry.blob("app", DIGEST) as blob:
        assert blob.read() == DATA
    stored = fake.log.all(server="storage")
    assert [request.headers["Authorization"] for request in stored] == [None]


def test_an_absent_manifest_is_absent_with_a_token(fake: FakeRegistry) -> None:
    with client(fake) as registry:
        assert registry.manifest_info("app", "2") is None
        with pytest.raises(NotInRegistry, match="MANIFEST_UNKNOWN"):
            registry.manifest("app", "2")
