"""Reading blobs: ranges, transfers that break, and servers that send something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core.registry import InvalidAnswer, NotInRegistry, Registry, RegistryError, RegistryUnavailable
from layerstore_core.registry.blobs import BlobResponse
from tests.registry.fake_content import digest_of
from tests.registry.fake_registry import FakeRegistry

DATA = bytes(range(256)) * 8192  # 2 MiB
DIGEST = digest_of(DATA)

pytestmark = pytest.mark.usefixtures("nothing_left_open")


@pytest.fixture
def fake(fake_registry: FakeRegistry) -> FakeRegistry:
    fake_registry.add_blob("app", DATA)
    return fake_registry


@pytest.fixture
def registry(fake: FakeRegistry, pauses: list[float]) -> Iterator[Registry]:
    with Registry(fake.host, settings={}, timeout=5) as registry:
        yield registry


def rest(blob: BlobResponse, piece: int = 1 << 20) -> bytes:
    """Read to the end, and close."""
    with blob:
        return b"".join(iter(lambda: blob.read(piece), b""))


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 1), (5, 6), (5, None), (len(DATA) - 1, None), (100, len(DATA)), (3, 10**9)]
)
def test_ranges(registry: Registry, start: int, end: int | None) -> None:
    blob = registry.blob("app", DIGEST, start=start, end=end)
    assert (blob.start, blob.size) == (start, len(DATA))
    assert rest(blob, 333_333) == DATA[start:end]


def test_the_end_of_a_blob_is_an_empty_range(registry: Registry) -> None:
    blob = registry.blob("app", DIGEST, start=len(DATA))
    assert (blob.start, blob.size, rest(blob)) == (len(DATA), len(DATA), b"")
    with pytest.raises(InvalidAnswer, match=f"no bytes from {len(DATA) + 1} on"):
        registry.blob("app", DIGEST, start=len(DATA) + 1)


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 5), (5, 4)])
def test_ranges_without_bytes_are_not_asked_for(registry: Registry, start: int, end: int | None) -> None:
    with pytest.raises(ValueError, match="no bytes"):
        registry.blob("app", DIGEST, start=start, end=end)


def test_a_server_without_ranges_begins_at_the_start(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").ignore_range()
    blob = registry.blob("app", DIGEST, start=1000, end=2000)
    assert (blob.start, rest(blob)) == (0, DATA[:2000])


def test_an_absent_blob(registry: Registry) -> None:
    with pytest.raises(NotInRegistry, match="BLOB_UNKNOWN"):
        registry.blob("app", digest_of(b"other"))


# Transfers that break.


@pytest.mark.parametrize("fault", ["cut", "reset"])
@pytest.mark.parametrize("after", [0, 1, 700_000, len(DATA) - 1])
def test_a_transfer_that_breaks_goes_on(registry: Registry, fake: FakeRegistry, fault: str, after: int) -> None:
    getattr(fake.faults.on("GET .*blobs", times=1), fault)(after)
    blob = registry.blob("app", DIGEST)
    assert rest(blob) == DATA
    assert fake.log.count() == 2
    if fault == "cut":  # a reset may destroy bytes that were on their way
        assert fake.log.statuses() == [200, 206 if after else 200]
        assert fake.log.finished().sent() == len(DATA)


def test_a_range_that_breaks_goes_on(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("GET .*blobs", times=2).cut(1000)
    assert rest(registry.blob("app", DIGEST, start=500, end=900_000)) == DATA[500:900_000]
    ranges = [request.headers["Range"] for request in fake.log.all()]
    assert ranges == ["bytes=500-899999", "bytes=1500-899999", "bytes=2500-899999"]


def test_a_transfer_that_breaks_often_goes_on_as_long_as_bytes_come(
    registry: Registry, fake: FakeRegistry, pauses: list[float]
) -> None:
    fake.faults.on("GET .*blobs", times=4).cut(100)
    assert rest(registry.blob("app", DIGEST)) == DATA
    assert len(pauses) == 4
    assert pauses == sorted(pauses)


def test_progress_counts_as_a_new_beginning(registry: Registry, fake: FakeRegistry) -> None:
    data = bytes(12 << 20)
    digest = fake.add_blob("app", data)
    fake.faults.on("GET .*blobs").cut((1 << 20) + 1)
    assert rest(registry.blob("app", digest)) == data
    assert fake.log.finished().sent() == len(data)
    assert fake.log.count() == 12


def test_a_transfer_without_progress_is_given_up(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("GET .*blobs").cut(10)
    blob = registry.blob("app", DIGEST)
    with pytest.raises(RegistryUnavailable, match=r"cannot read the blob app@.* to its end: .*shorter"):
        rest(blob)
    assert blob.position == 10 * fake.log.count()
    assert fake.log.count() == 5


def test_a_registry_that_starts_again_is_waited_for(
    registry: Registry, fake: FakeRegistry, pauses: list[float]
) -> None:
    fake.faults.on("blobs", times=1).cut(100)
    away = fake.faults.on("blobs", times=12, skip=1).hang_up()
    with registry.blob("app", DIGEST) as blob:
        assert rest(blob) == DATA
    assert away.seen == 14
    assert 5 < sum(pauses) < 60


def test_a_registry_that_stays_away_is_given_up(registry: Registry, fake: FakeRegistry, pauses: list[float]) -> None:
    fake.faults.on("blobs", times=1).cut(100)
    fake.faults.on("blobs", skip=1).hang_up()
    with pytest.raises(RegistryUnavailable, match="cannot read the blob"), registry.blob("app", DIGEST) as blob:
        rest(blob)
    assert 10 < sum(pauses) < 60


def test_a_broken_transfer_at_a_server_without_ranges(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("GET .*blobs").ignore_range()
    fake.faults.on("GET .*blobs", times=2).cut(500_000)
    assert rest(registry.blob("app", DIGEST)) == DATA
    assert fake.log.statuses() == [200, 200, 200]


def test_the_same_bytes_are_not_read_for_ever(registry: Registry, fake: FakeRegistry) -> None:
    rule = fake.faults.on("GET .*blobs").ignore_range()
    rule.change(lambda request, answer: setattr(answer, "cut", 1_000_000 + rule.seen * 100_000))
    blob = registry.blob("app", DIGEST)
    with pytest.raises(RegistryUnavailable, match="to its end"):
        rest(blob)
    assert fake.log.count() <= 5


def test_an_address_that_has_ended_is_asked_for_again(registry: Registry, fake: FakeRegistry) -> None:
    fake.settings.redirect = True
    fake.faults.on("GET /signed", server="storage", times=1).cut(100).then(fake.expire_redirects)
    fake.faults.on("GET /signed", server="storage", times=1, skip=1).status(403)
    assert rest(registry.blob("app", DIGEST)) == DATA
    assert fake.log.statuses("blobs") == [307, 307, 307]
    assert fake.log.statuses(server="storage") == [200, 403, 206]


def test_a_storage_server_that_refuses_always(registry: Registry, fake: FakeRegistry) -> None:
    fake.settings.redirect = True
    fake.faults.on("GET /signed", server="storage").status(403, b"<Code>AccessDenied</Code>")
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:\d+, where the registry leads to, answers HTTP 403"):
        registry.blob("app", DIGEST)
    assert fake.log.count(server="storage") == fake.log.count("blobs", server="registry") == 5


def test_a_storage_server_that_is_not_there(registry: Registry, fake: FakeRegistry, unused_host: str) -> None:
    fake.faults.on("blobs").status(307, Location=f"http://{unused_host}/x?signature=secret")
    refused = pytest.raises(RegistryUnavailable, match=f"{unused_host}, where it leads to: no connection: .*refused")
    with refused as error:
        registry.blob("app", DIGEST)
    assert "secret" not in str(error.value)
    assert fake.log.count() == 5


FAULTS = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 2000)),
    st.tuples(st.just("reset"), st.integers(0, 2000)),
    st.tuples(st.sampled_from(["ignore_range", "without_length", "hang_up"])),
    st.tuples(st.just("status"), st.sampled_from([429, 500, 503])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(FAULTS, max_size=2), max_size=4), st.integers(0, 1999), st.integers(1, 3000), st.data())
def test_faults_in_any_order_never_change_the_bytes(
    fake_registry: FakeRegistry,
    pauses: list[float],
    faults: list[list[tuple[Any, ...]]],
    start: int,
    piece: int,
    data: st.DataObject,
) -> None:
    content = DATA[100:2100]
    end = data.draw(st.none() | st.integers(start + 1, 2500))
    size = data.draw(st.sampled_from([None, len(content)]))
    digest = fake_registry.add_blob("app", content)
    fake_registry.faults.clear()
    for number, several in enumerate(faults):
        for name, *arguments in several:
            getattr(fake_registry.faults.on("blobs", times=1, skip=number), name)(*arguments)
    with Registry(fake_registry.host, settings={}, timeout=5) as registry:
        try:
            blob = registry.blob("app", digest, start=start, end=end, size=size)
            found = rest(blob, piece)
        except RegistryUnavailable:
            assert len(faults) > 3
        else:
            assert blob.start in (0, start)
            assert found == content[blob.start : end]


# Other bytes than there should be.


@pytest.mark.parametrize(
    "value",
    ["", "bytes 0-9/2097152", "bytes 11-20/2097152", "bytes 10-5/2097152", "bytes 10-2097152/2097152", "items 10-19/20",
     "bytes 10-19/*/1", "bytes 10-18/2097152"],
)  # fmt: skip
def test_a_range_that_was_not_asked_for(registry: Registry, fake: FakeRegistry, value: str) -> None:
    fake.faults.on("blobs").wrong_range(value)
    with pytest.raises(InvalidAnswer):
        registry.blob("app", DIGEST, start=10, end=20)


def test_a_range_of_a_blob_of_unknown_size(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").wrong_range("bytes 10-19/*")
    blob = registry.blob("app", DIGEST, start=10, end=20)
    assert blob.size is None
    assert rest(blob) == DATA[10:20]


def test_parts_of_a_range_are_put_together(registry: Registry, fake: FakeRegistry) -> None:
    def halve(request: object, answer: object) -> None:
        body = answer.body[: (len(answer.body) + 1) // 2]  # type: ignore[attr-defined]
        first = int(request.headers["Range"][6:].partition("-")[0])  # type: ignore[attr-defined]
        answer.body = body  # type: ignore[attr-defined]
        answer.set_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(DATA)}")  # type: ignore[attr-defined]

    fake.faults.on("blobs", times=3).change(halve)  # type: ignore[arg-type]
    assert rest(registry.blob("app", DIGEST, start=1, end=1001)) == DATA[1:1001]


@pytest.mark.parametrize("wrong", [len(DATA) - 1, len(DATA) + 1])
@pytest.mark.parametrize("start", [0, 7])
def test_a_blob_of_another_size_is_refused(registry: Registry, wrong: int, start: int) -> None:
    with pytest.raises(InvalidAnswer, match=f"the blob has {len(DATA)} bytes there, not {wrong}"):
        registry.blob("app", DIGEST, start=start, size=wrong)


def test_a_blob_in_chunks(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").without_length()
    blob = registry.blob("app", DIGEST)
    assert blob.size is None
    assert rest(blob) == DATA
    assert blob.size == len(DATA)
    assert rest(registry.blob("app", DIGEST, size=len(DATA))) == DATA
    with pytest.raises(InvalidAnswer, match="it sends more than the 1000 bytes"):
        rest(registry.blob("app", DIGEST, size=1000))


def test_a_blob_in_chunks_that_ends_early_goes_on(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").without_length()
    fake.faults.on("blobs", times=1).short(10)
    assert rest(registry.blob("app", DIGEST, size=len(DATA))) == DATA


def test_a_body_without_end_is_cut_at_the_size(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").endless()
    with pytest.raises(InvalidAnswer, match="it sends more than"):
        rest(registry.blob("app", DIGEST, size=len(DATA)))
    assert fake.log.sent() < len(DATA) + (8 << 20)


def test_a_compressed_body_is_refused(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").gzip()
    with pytest.raises(InvalidAnswer, match="another encoding"):
        registry.blob("app", DIGEST)
    assert {request.headers["Accept-Encoding"] for request in fake.log.all()} == {"identity"}


def test_a_caller_that_stops_ends_the_transfer(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").endless()
    with registry.blob("app", DIGEST) as blob:
        assert blob.read(10) == DATA[:10]
    registry.ping()


def test_sizes(registry: Registry, fake: FakeRegistry) -> None:
    assert registry.blob_size("app", DIGEST) == len(DATA)
    assert registry.blob_size("app", digest_of(b"")) is None
    assert registry.blob_size("none", DIGEST) is None
    fake.faults.on("HEAD").header("Content-Length", None).without_length()
    with pytest.raises(InvalidAnswer, match="does not say the size"):
        registry.blob_size("app", DIGEST)


def test_a_silent_server(fake: FakeRegistry, pauses: list[float]) -> None:
    fake.faults.on("blobs").silent()
    given_up = pytest.raises(RegistryUnavailable, match=r"silent for 0\.05 seconds")
    with Registry(fake.host, settings={}, timeout=0.05) as registry, given_up:
        registry.blob("app", DIGEST)
    assert len(pauses) == 4


@pytest.mark.parametrize(
    "digest", ["", "latest", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:" + "0" * 64 + "/.."]
)
def test_what_is_no_digest_is_not_asked_for(registry: Registry, fake: FakeRegistry, digest: str) -> None:
    for call in (registry.blob, registry.blob_size, registry.delete_blob, registry.delete_manifest):
        with pytest.raises(ValueError, match="not a digest"):
            call("app", digest)
    assert fake.log.count() == 0


@pytest.mark.parametrize("name", ["", "App", "a//b", "../a", "a/..", "a b", "a?b", "a" * 256, "a\n"])
def test_what_is_no_repository_is_not_asked_for(registry: Registry, fake: FakeRegistry, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a repository"):
        registry.blob_size(name, DIGEST)
    with pytest.raises(ValueError, match="not the name of a repository"):
        registry.manifest(name, "1")
    assert fake.log.count() == 0


def test_every_error_is_one_of_the_registry(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.on("blobs").status(418)
    with pytest.raises(RegistryError, match="HTTP 418") as error:
        registry.blob("app", DIGEST)
    assert (error.value.host, error.value.status) == (fake.host, 418)
