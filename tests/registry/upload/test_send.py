"""Uploads: whole, in pieces, again from where they broke, and given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core.registry import InvalidAnswer, Registry, RegistryDenied, RegistryError, RegistryUnavailable
from layerstore_core.registry.credentials import Credentials
from tests.registry.fake_auth import TokenAuth
from tests.registry.fake_content import digest_of
from tests.registry.fake_registry import FakeRegistry
from tests.registry.http_server import Answer, Request

DATA = bytes(range(256)) * 16384  # 4 MiB
DIGEST = digest_of(DATA)
PIECE = 300_000

pytestmark = pytest.mark.usefixtures("nothing_left_open")


@pytest.fixture
def registry(fake_registry: FakeRegistry, pauses: list[float]) -> Iterator[Registry]:
    with Registry(fake_registry.host, settings={}, timeout=5) as registry:
        yield registry


def chunks(data: bytes = DATA) -> Callable[[], Iterable[bytes]]:
    return lambda: (data[start : start + PIECE] for start in range(0, len(data), PIECE))


def send(registry: Registry, data: bytes = DATA) -> None:
    registry.upload_blob("app", digest_of(data), len(data), chunks(data))


def methods(fake: FakeRegistry) -> list[str]:
    return [request.method for request in fake.log.all()]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerstore_core.registry.upload.send._PIECES", (1 << 20, 100_000))


def stored(fake: FakeRegistry, digest: str = DIGEST) -> bytes:
    return bytes(fake.repositories["app"].blobs[digest])


@pytest.mark.parametrize("size", [0, 1, 2, len(DATA)])
def test_one_request_has_the_whole_blob(registry: Registry, fake_registry: FakeRegistry, size: int) -> None:
    send(registry, DATA[:size])
    assert methods(fake_registry) == ["POST", "PUT"]
    assert stored(fake_registry, digest_of(DATA[:size])) == DATA[:size]


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("location_query", [True, False])
def test_any_location(registry: Registry, fake_registry: FakeRegistry, absolute: bool, location_query: bool) -> None:
    fake_registry.settings.absolute = absolute
    fake_registry.settings.location_query = location_query
    send(registry)
    assert fake_registry.open_uploads == 0


def test_a_location_at_another_host_gets_no_token(pauses: list[float]) -> None:
    ada = Credentials(username="ada", password="pass-word")
    with FakeRegistry(auth=TokenAuth({"ada": "pass-word"})) as fake, FakeRegistry() as storage:
        storage.faults.on("PUT /storage").status(201)
        fake.faults.on("POST").header("Location", f"{storage.url}/storage?signature=secret")
        with Registry(fake.host, settings={}, credentials=ada) as registry:
            send(registry)
            storage.faults.clear()
            storage.faults.on("PUT /storage").status(400)
            with pytest.raises(RegistryError) as error:
                send(registry)
        (put, *_) = storage.log.all("PUT")
        assert put.headers["Authorization"] is None
        assert put.argument("signature") == "secret"
        assert put.argument("digest") == DIGEST
    assert "secret" not in str(error.value)


# Pieces.


def test_too_large_requests_become_smaller(registry: Registry, fake_registry: FakeRegistry, small_pieces: None) -> None:
    def limit(request: Request) -> Answer | None:
        return Answer(413) if int(request.headers["Content-Length"]) > 200_000 else None

    fake_registry.faults.on("(PUT|PATCH) ").instead(limit)
    send(registry)
    assert stored(fake_registry) == DATA
    sent = [int(request.headers["Content-Length"]) for request in fake_registry.log.all("PATCH|PUT")]
    assert sent[:2] == [len(DATA), 1 << 20]
    assert set(sent[2:-2]) == {100_000}
    ranges = [request.headers["Content-Range"] for request in fake_registry.log.all("PATCH")]
    assert ranges[1:3] == ["0-99999", "100000-199999"]


def test_requests_that_are_always_too_large(
    registry: Registry, fake_registry: FakeRegistry, small_pieces: None
) -> None:
    fake_registry.faults.on("(PUT|PATCH) ").status(413)
    with pytest.raises(RegistryError, match="413"):
        send(registry)
    assert fake_registry.open_uploads == 0


def test_the_registry_names_the_smallest_piece(
    registry: Registry, fake_registry: FakeRegistry, small_pieces: None
) -> None:
    fake_registry.settings.min_chunk = 1_500_000
    fake_registry.faults.on("PUT", times=1).status(413)
    send(registry)
    assert [int(request.headers["Content-Length"]) for request in fake_registry.log.all("PATCH")] == [
        1_500_000,
        1_500_000,
        len(DATA) - 3_000_000,
    ]


# Breaks.


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("single_state", [True, False])
def test_a_broken_upload_goes_on_or_starts_over(
    registry: Registry, fake_registry: FakeRegistry, resume: bool, single_state: bool
) -> None:
    fake_registry.settings.resume = resume
    fake_registry.settings.single_state = single_state
    fake_registry.faults.on("PUT", times=1).cut_request(1_234_567)
    send(registry)
    assert stored(fake_registry) == DATA
    again = 0 if not resume else 1_234_567
    assert int(fake_registry.log.all("PUT")[-1].headers["Content-Length"]) == len(DATA) - again
    assert methods(fake_registry) == ["POST", "PUT", "HEAD", "GET", *([] if resume else ["POST"]), "PUT"]


def test_an_upload_that_breaks_often_loses_one_piece_each_time(
    registry: Registry, fake_registry: FakeRegistry, small_pieces: None
) -> None:
    fake_registry.faults.on("(PUT|PATCH)").cut_request(1_100_000)
    send(registry)
    assert stored(fake_registry) == DATA


def test_an_answer_that_was_lost(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("PUT", times=1).reset()
    send(registry)
    assert methods(fake_registry) == ["POST", "PUT", "HEAD"]
    assert fake_registry.log.finished().received() == len(DATA)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_failures_that_may_pass(
    registry: Registry, fake_registry: FakeRegistry, pauses: list[float], status: int
) -> None:
    fake_registry.faults.on("PUT", times=2).busy(status, after=5)
    send(registry)
    assert stored(fake_registry) == DATA
    assert pauses == [5, 5]


def test_an_upload_that_is_forgotten_starts_over(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("PUT", times=1).error(404, "BLOB_UPLOAD_UNKNOWN")
    fake_registry.faults.on("GET .*uploads").error(404, "BLOB_UPLOAD_INVALID")
    send(registry)
    assert methods(fake_registry) == ["POST", "PUT", "HEAD", "GET", "POST", "PUT"]


def test_an_upload_that_is_always_forgotten_is_an_error(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("PUT").error(404, "BLOB_UPLOAD_UNKNOWN")
    with pytest.raises(RegistryError, match="BLOB_UPLOAD_UNKNOWN"):
        send(registry)
    assert fake_registry.log.count("PUT") == 3


def test_a_registry_that_lies_about_the_position(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("PUT", times=1).hang_up()
    fake_registry.faults.on("GET .*uploads", times=1).header("Range", "0-99")
    send(registry)
    assert stored(fake_registry) == DATA


@pytest.mark.parametrize("value", ["0-0", "0-99999999999", "5-9", "", "bytes=0-99", "x"])
def test_any_position(registry: Registry, fake_registry: FakeRegistry, value: str) -> None:
    fake_registry.faults.on("PUT", times=1).hang_up()
    fake_registry.faults.on("GET .*uploads", times=1).header("Range", value)
    send(registry)
    assert stored(fake_registry) == DATA


def test_a_connection_that_breaks_always(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("(PUT|PATCH) ").hang_up()
    with pytest.raises(RegistryUnavailable, match=f"cannot send the blob {DIGEST} to app"):
        send(registry)
    assert fake_registry.log.count("PUT|PATCH") == 5
    assert fake_registry.open_uploads == 0


FAULTS = st.one_of(
    st.tuples(st.just("cut_request"), st.integers(1, 3000)),
    st.tuples(st.sampled_from(["hang_up", "reset"])),
    st.tuples(st.just("status"), st.sampled_from([404, 413, 416, 429, 503])),
    st.tuples(st.just("header"), st.just("Range"), st.sampled_from([None, "0-0", "0-77", "0-99999"])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["POST", "PUT", "PATCH", "GET", "HEAD"]), FAULTS), max_size=6),
    st.integers(0, 3000),
    st.booleans(),
    st.booleans(),
)
def test_faults_in_any_order_never_change_the_bytes(
    fake_registry: FakeRegistry,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    faults: list[tuple[str, tuple[Any, ...]]],
    size: int,
    resume: bool,
    single_state: bool,
) -> None:
    monkeypatch.setattr("layerstore_core.registry.upload.send._PIECES", (1000, 300))
    fake_registry.settings.resume, fake_registry.settings.single_state = resume, single_state
    fake_registry.faults.clear()
    fake_registry.repositories.clear()
    for number, (method, (name, *arguments)) in enumerate(faults):
        rule = fake_registry.faults.on(f"{method} .*/blobs/", times=1, skip=number // 2)
        getattr(rule, name)(*arguments)
    data = DATA[:size]
    with Registry(fake_registry.host, settings={}, timeout=5) as registry:
        try:
            registry.upload_blob("app", digest_of(data), size, lambda: [data[:100], data[100:]])
        except RegistryError:
            assert faults
            return
    assert stored(fake_registry, digest_of(data)) == data


# The end.


def test_wrong_bytes_are_given_up(registry: Registry, fake_registry: FakeRegistry) -> None:
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        registry.upload_blob("app", DIGEST, len(DATA), chunks(bytes(len(DATA))))
    assert methods(fake_registry) == ["POST", "PUT", "DELETE"]
    assert fake_registry.open_uploads == 0


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("damaged"), KeyboardInterrupt()])
def test_what_the_source_raises_comes_back(
    registry: Registry, fake_registry: FakeRegistry, error: BaseException
) -> None:
    def failing() -> Iterator[bytes]:
        yield DATA[:1000]
        raise error

    with pytest.raises(type(error)) as raised:
        registry.upload_blob("app", DIGEST, len(DATA), failing)
    assert raised.value is error
    assert fake_registry.log.count("POST") == 1


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_a_source_of_another_size(registry: Registry, fake_registry: FakeRegistry, size: int) -> None:
    with pytest.raises((ValueError, RegistryError)):
        registry.upload_blob("app", DIGEST, size, chunks())
    assert DIGEST not in fake_registry.repository("app").blobs


def test_another_digest_in_the_answer(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("PUT").header("Docker-Content-Digest", digest_of(b"other"))
    with pytest.raises(InvalidAnswer, match="in its place"):
        send(registry)


def test_no_right_to_push(pauses: list[float]) -> None:
    refused = pytest.raises(RegistryDenied, match="not allowed to begin an upload to app")
    with FakeRegistry(auth=TokenAuth({})) as fake, Registry(fake.host, settings={}) as registry, refused:
        send(registry)
    assert fake.log.count("PUT") == 0


# Mounts.


def test_a_mount_sends_nothing(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.add_blob("other", DATA)
    assert registry.mount_blob("app", DIGEST, "other") is None
    assert methods(fake_registry) == ["POST"]
    assert stored(fake_registry) == DATA


def test_an_upload_that_came_instead_of_a_mount_is_used(registry: Registry, fake_registry: FakeRegistry) -> None:
    upload = registry.mount_blob("app", DIGEST, "other")
    assert upload is not None
    registry.upload_blob("app", DIGEST, len(DATA), chunks(), upload=upload)
    assert methods(fake_registry) == ["POST", "PUT"]
    assert fake_registry.url not in repr(upload)


def test_an_upload_that_came_instead_of_a_mount_is_given_up(registry: Registry, fake_registry: FakeRegistry) -> None:
    upload = registry.mount_blob("app", DIGEST, "other")
    assert upload is not None
    registry.cancel_upload(upload)
    registry.cancel_upload(upload)
    assert fake_registry.open_uploads == 0


def test_a_mount_without_the_right_to_read_becomes_an_upload(pauses: list[float]) -> None:
    auth = TokenAuth({}, anonymous=("pull", "push"))
    with FakeRegistry(auth=auth) as fake, Registry(fake.host, settings={}) as registry:
        fake.faults.on("POST", times=1).error(403, "DENIED")
        upload = registry.mount_blob("app", DIGEST, "other")
        assert upload is not None
        registry.upload_blob("app", DIGEST, len(DATA), chunks(), upload=upload)
        assert stored(fake) == DATA
