"""Requests that are made again, redirects, mirrors, and warnings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from layerstore_core.config.registries import HostSettings
from layerstore_core.registry import InvalidAnswer, NotInRegistry, Registry, RegistryError, RegistryUnavailable
from layerstore_core.registry.http.retries import asked_pause
from layerstore_core.registry.http.urls import BadURL, join, with_query
from tests.registry.fake_content import digest_of
from tests.registry.fake_registry import FakeRegistry

DATA = b"0123456789" * 100
DIGEST = digest_of(DATA)

pytestmark = pytest.mark.usefixtures("nothing_left_open")


@pytest.fixture
def fake(fake_registry: FakeRegistry) -> FakeRegistry:
    fake_registry.add_image("app", [DATA], "1", config={})
    return fake_registry


@pytest.fixture
def registry(fake: FakeRegistry, pauses: list[float]) -> Iterator[Registry]:
    with Registry(fake.host, settings={}, timeout=5) as registry:
        yield registry


# Again.


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failures_that_may_pass(registry: Registry, fake: FakeRegistry, pauses: list[float], status: int) -> None:
    fake.faults.on("manifests", times=2).busy(status)
    assert registry.manifest("app", "1")
    assert fake.log.statuses() == [status, status, 200]
    assert 0.2 < pauses[0] < pauses[1] < 1


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 418])
def test_failures_that_stay(registry: Registry, fake: FakeRegistry, status: int) -> None:
    fake.faults.on("manifests").status(status)
    with pytest.raises(RegistryError) as error:
        registry.manifest("app", "1")
    assert (error.value.status, fake.log.count()) == (status, 1)


def test_failures_that_do_not_pass(registry: Registry, fake: FakeRegistry, pauses: list[float]) -> None:
    fake.faults.on("manifests").html(502)
    with pytest.raises(RegistryUnavailable, match=r"cannot read the manifest app:1 now \(HTTP 502 Bad Gateway\)"):
        registry.manifest("app", "1")
    assert fake.log.count() == 5
    assert 2 < sum(pauses) < 8


def test_the_server_says_how_long_to_wait(registry: Registry, fake: FakeRegistry, pauses: list[float]) -> None:
    fake.faults.on("manifests", times=1).busy(429, after=17)
    fake.faults.on("manifests", times=1, skip=1).busy_until(30)
    fake.faults.on("manifests", times=1, skip=2).busy(503, after="soon")
    assert registry.manifest("app", "1")
    assert pauses[0] == 17
    assert 25 < pauses[1] <= 30
    assert pauses[2] < 3


def test_waiting_has_an_end(registry: Registry, fake: FakeRegistry, pauses: list[float]) -> None:
    fake.faults.on("manifests").busy(429, after=10**9)
    with pytest.raises(RegistryUnavailable, match="TOOMANYREQUESTS: slow down"):
        registry.manifest("app", "1")
    assert pauses == [60, 60]


@pytest.mark.parametrize(
    ("value", "pause"), [("", None), ("5", 5), (" 5 ", 5), ("-5", None), ("soon", None), ("9" * 500, 999_999_999_999)]
)
def test_the_header_for_pauses(value: str, pause: float | None) -> None:
    assert asked_pause(value) == pause
    assert asked_pause("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert asked_pause("Wed, 99 Oct 2015 07:28:00 GMT") is None


@pytest.mark.parametrize("fault", ["hang_up", "reset"])
def test_a_connection_without_an_answer(registry: Registry, fake: FakeRegistry, fault: str) -> None:
    getattr(fake.faults.on("manifests", times=2), fault)()
    assert registry.manifest("app", "1")
    assert fake.log.count() == 3


def test_a_manifest_that_is_cut(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("manifests", times=2).cut(10)
    assert registry.manifest("app", "1")
    assert fake.log.count() == 3


def test_a_host_that_is_not_there(unused_host: str, pauses: list[float]) -> None:
    with Registry(unused_host, settings={}) as registry, pytest.raises(RegistryUnavailable, match="Connection refused"):
        registry.ping()
    assert len(pauses) == 1


def test_a_host_that_went_away(pauses: list[float]) -> None:
    with FakeRegistry() as fake, Registry(fake.host, settings={}) as registry:
        registry.ping()
        fake.close()
        with pytest.raises(RegistryUnavailable):
            registry.ping()
    assert len(pauses) == 4


def test_a_name_that_is_not_known(pauses: list[float]) -> None:
    registry = Registry("no-such-host.invalid", settings={})
    with registry, pytest.raises(RegistryUnavailable, match="its name is not known"):
        registry.ping()


@pytest.mark.parametrize("host", ["", "a b", "http://a", "a/b", "a:b", "user@host", "-a", "a:123456", "[::1", "a\n"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(ValueError, match="not the host of a registry"):
        Registry(host)


def test_a_long_pause_is_shown(registry: Registry, fake: FakeRegistry, said: list[Any]) -> None:
    fake.faults.on("manifests", times=1).busy(429, after=4)
    fake.faults.on("manifests", times=1, skip=1).busy(429, after=30)
    registry.manifest("app", "1")
    (message,) = [record["message"] for record in said]
    assert message.endswith("(TOOMANYREQUESTS: slow down); it wants to be asked again in 30 s")


def test_closing_ends_a_pause(fake: FakeRegistry) -> None:
    held = fake.faults.on("manifests").busy(429, after=60).hold()
    with Registry(fake.host, settings={}) as registry, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(registry.manifest, "app", "1")
        held.reached.wait(10)
        held.release()
        while not asked.done():
            registry.close()
            time.sleep(0.01)
        with pytest.raises(RegistryUnavailable, match="TOOMANYREQUESTS"):
            asked.result()


@pytest.mark.parametrize("status", [201, 204, 304, 600])
def test_other_statuses_are_errors(registry: Registry, fake: FakeRegistry, status: int) -> None:
    fake.faults.on("manifests").status(status)
    with pytest.raises(RegistryError, match=f"HTTP {status}"):
        registry.manifest("app", "1")


# Redirects.


def test_manifests_may_be_elsewhere(registry: Registry, fake: FakeRegistry) -> None:
    with FakeRegistry() as other:
        other.add_image("moved", [DATA], "2", config={})
        fake.faults.on("manifests/1").status(302, Location=f"{other.url}/v2/moved/manifests/2")
        assert registry.manifest("app", "1").data == other.repositories["moved"].manifests.popitem()[1][1]


@pytest.mark.parametrize(
    "location", ["", "file:///etc/passwd", "http://", "http://a:b@127.0.0.1/", "//[", "/a b", "/" * 20_000]
)
def test_redirects_to_wrong_places(registry: Registry, fake: FakeRegistry, location: str) -> None:
    fake.faults.on("manifests/1").status(307, Location=location)
    with pytest.raises(InvalidAnswer, match="redirects to a wrong URL"):
        registry.manifest("app", "1")
    assert fake.log.count() == 1


def test_redirects_in_a_circle(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("manifests/1").status(307, Location="/v2/app/manifests/1?secret=value")
    with pytest.raises(InvalidAnswer, match="redirects more than 10 times") as error:
        registry.manifest("app", "1")
    assert "secret" not in str(error.value)
    assert fake.log.count() == 11


@pytest.mark.parametrize(
    ("base", "location", "joined"),
    [
        ("https://h/v2/a", "/v2/b?x=1#f", "https://h/v2/b?x=1"),
        ("https://h/v2/a/", "b", "https://h/v2/a/b"),
        ("https://h/v2/a", "//other/b", "https://other/b"),
        ("https://h/v2/a", "http://h/v2/b", "https://h/v2/b"),
        ("https://h:5000/v2/a", "http://h:5000/v2/b", "https://h:5000/v2/b"),
        ("https://h:5000/v2/a", "http://h/v2/b", "https://h:5000/v2/b"),
        ("https://h/v2/a", "http://h:81/v2/b", "http://h:81/v2/b"),
        ("http://h/v2/a", "https://h/v2/b", "https://h/v2/b"),
    ],
)
def test_joining_urls(base: str, location: str, joined: str) -> None:
    assert join(base, location) == joined


@pytest.mark.parametrize("location", ["http://h:99999/", "http://h:x/", "javascript:1", "http:///a", "http://h/\x7f"])
def test_what_is_no_url(location: str) -> None:
    with pytest.raises(BadURL):
        join("http://h/", location)


def test_queries_grow() -> None:
    assert with_query("http://h/a", [("digest", "sha256:0")]) == "http://h/a?digest=sha256:0"
    assert with_query("http://h/a?_state=%3D%26", [("a", "b&c")]) == "http://h/a?_state=%3D%26&a=b%26c"


# Mirrors.


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as mirror:
        mirror.add_image("app", [DATA], "1", config={})
        yield mirror


def stop_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("layerstore_core.registry.http.server.time.monotonic", lambda: now[0])
    return now


def mirrored(fake: FakeRegistry, *mirrors: str, **more: Any) -> Registry:
    return Registry(fake.host, settings={fake.host: HostSettings(mirrors=mirrors)}, **more)


def test_a_mirror_is_read_and_not_written(fake: FakeRegistry, mirror: FakeRegistry) -> None:
    with mirrored(fake, mirror.host) as registry:
        manifest = registry.manifest("app", "1")
        with registry.blob("app", DIGEST) as blob:
            assert blob.read() == DATA
        assert fake.log.count() == 0
        assert {request.argument("ns") for request in mirror.log.all()} == {fake.host}
        registry.put_manifest("app", "2", manifest.data, manifest.media_type)
        registry.upload_blob("app", digest_of(b"x"), 1, lambda: [b"x"])
        registry.delete_tag("app", "2")
    assert mirror.log.count() == 2


@pytest.mark.parametrize("status", [404, 401, 403, 429, 500, 503])
def test_the_registry_is_asked_after_the_mirror(
    fake: FakeRegistry, mirror: FakeRegistry, pauses: list[float], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    stop_clock(monkeypatch)
    mirror.faults.on("").status(status, Retry_After="50")
    with mirrored(fake, mirror.host) as registry:
        assert registry.manifest("app", "1")
        assert registry.manifest("app", "1")
    assert pauses == []
    assert mirror.log.count() == (2 if status == 404 else 1)
    assert fake.log.count() == 2


def test_a_mirror_that_is_not_there(fake: FakeRegistry, unused_host: str, pauses: list[float]) -> None:
    with mirrored(fake, unused_host) as registry:
        assert registry.manifest("app", "1")
    assert pauses == []


def test_mirrors_are_asked_in_their_order(fake: FakeRegistry, mirror: FakeRegistry, unused_host: str) -> None:
    with FakeRegistry() as empty, mirrored(fake, unused_host, empty.host, mirror.host) as registry:
        assert registry.manifest("app", "1")
        assert empty.log.count() == mirror.log.count() == 1
    assert fake.log.count() == 0


def test_a_mirror_that_rests_is_asked_again_later(
    fake: FakeRegistry, mirror: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stop_clock(monkeypatch)
    rule = mirror.faults.on("", times=3).status(500)
    with mirrored(fake, mirror.host) as registry:
        # Each failure in a row doubles the pause, which begins with two seconds; an answer ends that.
        for moment, seen in ((0, 1), (1, 1), (2, 2), (3, 2), (2, 3), (7, 3), (2, 4), (1, 5)):
            now[0] += moment
            assert registry.manifest("app", "1")
            assert rule.seen == seen


def test_the_pauses_of_a_mirror_have_an_end(
    fake: FakeRegistry, mirror: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stop_clock(monkeypatch)
    rule = mirror.faults.on("").status(500)
    with mirrored(fake, mirror.host) as registry:
        for seen in range(1, 12):
            now[0] += 61
            assert registry.manifest("app", "1")
            assert rule.seen == seen


def test_a_mirror_with_wrong_bytes(fake: FakeRegistry, mirror: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    now = stop_clock(monkeypatch)
    mirror.faults.on("").flip_byte()
    digest = fake.repositories["app"].tags["1"]
    with mirrored(fake, mirror.host) as registry:
        assert registry.manifest("app", digest).digest == digest
        assert mirror.log.count() == 1
    with mirrored(fake, mirror.host) as registry:
        with registry.blob("app", DIGEST) as blob:
            assert blob.read() != DATA
            assert blob.distrust()
        now[0] += 59
        with registry.blob("app", DIGEST) as blob:
            assert blob.read() == DATA
            assert not blob.distrust()


def test_a_transfer_goes_on_at_the_next_server(fake: FakeRegistry, mirror: FakeRegistry, pauses: list[float]) -> None:
    mirror.faults.on("blobs").cut(100)
    with mirrored(fake, mirror.host) as registry, registry.blob("app", DIGEST) as blob:
        assert b"".join(iter(blob.read, b"")) == DATA
    assert (mirror.log.finished().sent(), fake.log.finished().sent()) == (100, len(DATA) - 100)


def test_pages_go_on_at_the_next_server(fake: FakeRegistry, mirror: FakeRegistry, pauses: list[float]) -> None:
    for registry in (fake, mirror):
        registry.settings.page = 2
        registry.add_image("app", [DATA], *"12345", config={})
    mirror.faults.on("tags", skip=1).status(500)
    with mirrored(fake, mirror.host) as client:
        assert list(client.tags("app")) == list("12345")
    assert [request.argument("last") for request in fake.log.all()] == ["2", "4"]
    assert {request.argument("ns") for request in mirror.log.all()} == {fake.host}
    assert {request.argument("ns") for request in fake.log.all()} == {None}


def test_pages_with_other_paths_stay_at_their_server(fake: FakeRegistry, mirror: FakeRegistry) -> None:
    for registry in (fake, mirror):
        registry.add_image("app", [DATA], "1", config={})
    mirror.faults.on("tags").header("Link", "</more>; rel=next")
    mirror.faults.on("/more").status(200, b'{"tags": ["2"]}')
    with mirrored(fake, mirror.host) as client:
        assert list(client.tags("app")) == ["1", "2"]
    assert fake.log.count() == 0


def test_nobody_has_it(fake: FakeRegistry, mirror: FakeRegistry) -> None:
    with mirrored(fake, mirror.host) as registry:
        with pytest.raises(NotInRegistry):
            registry.manifest("app", "none")
        assert registry.manifest_info("app", "none") is None
    assert (mirror.log.count(), fake.log.count()) == (2, 2)


# Warnings.


def test_warnings_are_shown_once(registry: Registry, fake: FakeRegistry, said: list[Any]) -> None:
    fake.faults.on("manifests", times=3).warn("this registry moves")
    fake.faults.on("blobs").header("Warning", '299 - "one", 199 - "two", 299 - "three \\"3\\" \x85"')
    for _ in range(3):
        registry.manifest("app", "1")
        registry.blob_size("app", DIGEST)
    assert [record["message"] for record in said] == [
        f"{fake.host} says: {text}" for text in ("this registry moves", "one", 'three "3" \\x85')
    ]
