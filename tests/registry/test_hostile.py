"""Answers of a hostile registry: each gives a clear error, in bounded memory, time and number of requests."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core.registry import InvalidAnswer, Registry, RegistryError, RegistryUnavailable
from tests.registry.fake_content import OCI_INDEX, OCI_MANIFEST, digest_of
from tests.registry.fake_registry import FakeRegistry
from tests.registry.faults import Rule
from tests.registry.http_server import Answer

DATA = b"0123456789" * 100
DIGEST = digest_of(DATA)
#: The most requests that one call may take, with all attempts.
MOST_REQUESTS = 60
Call = Callable[[Registry], object]


def read(registry: Registry, **more: int) -> None:
    """Read a blob, to its end: what a caller does not read costs it nothing."""
    size = 0
    with registry.blob("app", DIGEST, **more) as response:
        while data := response.read(1 << 16):
            size += len(data)
            if size > 1 << 20:  # the caller knows the size of a blob, and compares its digest
                break


CALLS: dict[str, Call] = {
    "ping": lambda registry: registry.ping(),
    "manifest by tag": lambda registry: registry.manifest("app", "1"),
    "manifest by digest": lambda registry: registry.manifest("app", DIGEST),
    "manifest_info": lambda registry: registry.manifest_info("app", "1"),
    "put_manifest": lambda registry: registry.put_manifest("app", "1", b"{}", OCI_MANIFEST),
    "blob": read,
    "range": lambda registry: read(registry, start=10, end=20),
    "rest": lambda registry: read(registry, start=10),
    "blob_size": lambda registry: registry.blob_size("app", DIGEST),
    "mount_blob": lambda registry: registry.mount_blob("app", DIGEST, "other"),
    "upload_blob": lambda registry: registry.upload_blob("app", DIGEST, len(DATA), lambda: [DATA]),
    "delete_manifest": lambda registry: registry.delete_manifest("app", DIGEST),
    "delete_tag": lambda registry: registry.delete_tag("app", "1"),
    "tags": lambda registry: list(registry.tags("app")),
    "referrers": lambda registry: registry.referrers("app", DIGEST),
    "referrers of a type": lambda registry: registry.referrers("app", DIGEST, "test/type"),
}


@pytest.fixture
def registry(fake_registry: FakeRegistry, pauses: list[float]) -> Iterator[Registry]:
    with Registry(fake_registry.host, settings={}, timeout=5) as client:
        yield client


def check_error(error: RegistryError, fake: FakeRegistry) -> None:
    """Check that the message names the registry, is one line that a terminal can show, and is not endless."""
    text = str(error)
    assert text.startswith(f"{fake.host}: ") and text.isprintable() and len(text) < 3000, text[:300]
    assert "Traceback" not in text and "object at 0x" not in text, text[:300]


# Any answer at all.

_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)
_HOSTILE_TEXT = st.sampled_from(
    [
        *("", "-1", "0", "1", "9" * 50, "1e9", "½", "0x10", "NaN", " 5 ", "null", "*", "a" * 5000),
        *("bytes 0-0/1", "bytes 10-19/1000", "bytes 10-999/1000", "bytes 5-4/3", "bytes 10-19/*", "bytes 0-9"),
        *("bytes 10-99999999999999999999999/1000", "bytes=10-19/1000", "bytes */0", "bytes */1000", "0-4", "0-999"),
        *("sha256:../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "0" * 64, "sha512:" + "0" * 128, DIGEST),
        *("md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:", ":", DIGEST + "\x85", DIGEST.upper()),
        *("file:///etc/passwd", "//127.0.0.1:1/x", "http://127.0.0.1:1/x", "http://[::1", "http://127.0.0.1:99999/"),
        *(
            "ftp://127.0.0.1/",
            "http://user:password@127.0.0.1:1/",
            "/",
            "?",
            "#",
            "../..",
            "/v2/app/blobs/uploads/x?a=b",
        ),
        *('</v2/app/tags/list>; rel="next"', "<>; rel=next", "<file:///etc/passwd>; rel=next", "<", '<x; rel="next"'),
        *('Bearer realm="REALM"', 'Bearer realm="REALM",service="s",scope="repository:app:pull"', "Bearer realm=REALM"),
        *('Bearer realm="', "Bearer", 'Bearer realm="file:///etc/passwd",scope="x"', "Basic", 'Basic realm="\\', ","),
        *('Bearer realm="http://127.0.0.1:1/token"', 'Bearer realm="relative",service=', "Negotiate abc", "Digest a=b"),
        *("gzip", "chunked", "identity", "deflate, gzip", "close", "99999999999", "Fri, 31 Dec 9999 23:59:59 GMT"),
        *("Fri, 99 Foo 2024 99:99:99 GMT", "100;w=21600", '299 - "text"', '299 - "\x1b[31m"', OCI_MANIFEST, OCI_INDEX),
        *("application/json; charset=utf-99", "text/html", "application/vnd.docker.distribution.manifest.v1+json"),
    ]
)
_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("Content-Type", "Content-Length", "Content-Range", "Content-Encoding", "Transfer-Encoding", "Range"),
            *("Docker-Content-Digest", "Location", "Link", "WWW-Authenticate", "Retry-After", "OCI-Subject"),
            *("OCI-Chunk-Min-Length", "OCI-Filters-Applied", "Warning", "Set-Cookie", "Connection", "Trailer"),
        ]
    ),
    _TEXT | _HOSTILE_TEXT,
    max_size=4,
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10**20)
    | st.floats(allow_nan=True)
    | st.text(max_size=10)
    | _HOSTILE_TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("schemaVersion", "mediaType", "manifests", "layers", "config", "digest", "size", "platform"),
                    *("annotations", "artifactType", "subject", "urls", "tags", "name", "errors", "code", "message"),
                    *("detail", "token", "access_token", "expires_in", "issued_at", "fsLayers", "data", "history"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
_BODIES = st.one_of(
    st.binary(max_size=40),
    _JSON.map(lambda document: json.dumps(document).encode()),
    st.sampled_from(
        [b"[" * 5000, b'{"a":' * 2000, b"9" * 6000, b'"\\ud800"', b'{"tags":["\\ud800"]}', b"\xff\xfe{}", DATA]
    ),
    st.builds(
        lambda kind, entries: json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode(),
        st.sampled_from([OCI_INDEX, OCI_MANIFEST, None, 5]),
        st.lists(_JSON, max_size=3),
    ),
    st.builds(
        lambda tags: json.dumps({"name": "app", "tags": tags}).encode(), st.lists(_TEXT | _HOSTILE_TEXT, max_size=4)
    ),
)
_STATUSES = st.sampled_from(
    [
        200,
        200,
        200,
        201,
        202,
        204,
        206,
        206,
        301,
        302,
        304,
        307,
        308,
        400,
        401,
        401,
        403,
        404,
        405,
        416,
        418,
        429,
        500,
        503,
        600,
        999,
    ]
)


@pytest.mark.parametrize("name", CALLS)
def test_any_answer(name: str, fake_registry: FakeRegistry, pauses: list[float]) -> None:
    fake = fake_registry
    rules: list[tuple[int, dict[str, str], bytes]] = []

    def hostile(request: Any) -> Answer:
        status, headers, body = rules[min(fake.log.count(), len(rules)) - 1]
        answer = Answer(status, [(key, value.replace("REALM", fake.realm)) for key, value in headers.items()], body)
        if {"Content-Length", "Transfer-Encoding", "Connection"} & headers.keys():
            answer.set_header("Connection", "close")  # whoever believes the length would wait
        return answer

    for server in ("registry", "storage", "token"):
        fake.faults.on("", server=server).instead(hostile)

    @settings(suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(_STATUSES, _HEADERS, _BODIES), min_size=1, max_size=3))
    def ask(answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        fake.log.clear()
        rules[:] = answers
        with Registry(fake.host, settings={}, timeout=5) as registry:
            try:
                CALLS[name](registry)
            except RegistryError as error:
                check_error(error, fake)
        assert fake.log.count() <= MOST_REQUESTS

    ask()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 Small\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n : x\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (1 << 20),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabcdef",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 307 Over there\r\nLocation: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 307 Over there\r\nLocation: http://\xc3\xa9.invalid\x01/\r\n\r\n",
    ],
    ids=lambda data: str(data[-40:]),
)
def test_what_is_not_http(registry: Registry, fake_registry: FakeRegistry, data: bytes) -> None:
    fake_registry.faults.on("").raw(data)
    for name, call in CALLS.items():
        fake_registry.log.clear()
        try:
            call(registry)
        except RegistryError as error:
            check_error(error, fake_registry)
        else:  # some need nothing but the status
            assert name not in ("manifest by tag", "manifest by digest", "upload_blob", "tags", "range")
        assert fake_registry.log.count() <= MOST_REQUESTS


# What is large, or has no end.


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Check that less than 40 MiB more than before were in use at any time."""
    tracemalloc.start(1)
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20


@pytest.mark.usefixtures("bounded_memory")
@pytest.mark.parametrize("name", ["manifest by tag", "tags", "referrers", "ping", "mount_blob", "delete_tag"])
@pytest.mark.parametrize(("status", "announced"), [(200, None), (200, 1 << 40), (404, None)])
def test_documents_without_end(
    registry: Registry, fake_registry: FakeRegistry, name: str, announced: int | None, status: int
) -> None:
    fake_registry.faults.on("", server="registry").status(status, b'{"x": ').endless(announced)
    try:
        CALLS[name](registry)
    except RegistryError as error:
        check_error(error, fake_registry)
    assert fake_registry.log.count() <= 6
    assert fake_registry.log.sent() < 64 << 20  # what is on its way when the connection is closed counts too


@pytest.mark.usefixtures("bounded_memory")
def test_pages_of_tags_without_end(registry: Registry, fake_registry: FakeRegistry) -> None:
    """Tags come as they are asked for: nobody has to take all of them. A page that comes again ends the list."""
    fake_registry.faults.on("tags/list").status(
        200, b'{"name":"app","tags":["1"]}', Link='</v2/app/tags/list?last=1>; rel="next"'
    )
    with pytest.raises(InvalidAnswer) as caught:
        list(registry.tags("app"))
    check_error(caught.value, fake_registry)
    assert fake_registry.log.count() <= MOST_REQUESTS


def endless_pages(fake: FakeRegistry, key: str, entries: Callable[[int], list[Any]]) -> None:
    """Answer with page after page, each with a link to another one."""
    numbers = itertools.count()

    def page(request: Any) -> Answer:
        number = next(numbers)
        link = f'<{request.path}?page={number}>; rel="next"'
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "name": "app", key: entries(number)}
        return Answer(200, [("Content-Type", OCI_INDEX), ("Link", link)], json.dumps(body).encode())

    fake.faults.on("tags/list|referrers").instead(page)


@pytest.mark.parametrize("name", ["tags", "referrers"])
def test_the_number_of_pages_is_bounded(
    registry: Registry, fake_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("layerstore_core.registry.lists._MAX_PAGES", 30)
    endless_pages(fake_registry, "tags" if name == "tags" else "manifests", lambda number: [])
    with pytest.raises(InvalidAnswer, match="30 pages") as caught:
        CALLS[name](registry)
    check_error(caught.value, fake_registry)
    assert fake_registry.log.count() == 30


def test_the_size_of_all_pages_of_referrers_is_bounded(registry: Registry, fake_registry: FakeRegistry) -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1, "annotations": {"a": "b" * 4096}}
    endless_pages(fake_registry, "manifests", lambda number: [entry] * 500)
    with pytest.raises(InvalidAnswer, match="MiB") as caught:
        registry.referrers("app", DIGEST)
    check_error(caught.value, fake_registry)
    assert fake_registry.log.count() < 20


@pytest.mark.usefixtures("bounded_memory")
def test_the_size_of_all_pages_of_tags_is_bounded(
    registry: Registry, fake_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerstore_core.registry.lists._MAX_TAGS", 8 << 20)
    endless_pages(fake_registry, "tags", lambda number: ["t" * 128] * 4000)
    tags = registry.tags("app")
    assert len([next(tags) for _ in range(8000)]) == 8000  # who takes no more asks for no more
    assert fake_registry.log.count() == 2
    with pytest.raises(InvalidAnswer, match="8 MiB"):
        for _ in tags:
            pass


def test_redirects_in_circles_and_out_of_http(registry: Registry, fake_registry: FakeRegistry) -> None:
    for target in (f"/v2/app/blobs/{DIGEST}", "file:///etc/passwd", "ftp://127.0.0.1/x", "", "http://", "http://[::"):
        fake_registry.log.clear()
        fake_registry.faults.clear()
        fake_registry.faults.on("/blobs/").status(307, Location=target)
        with pytest.raises(InvalidAnswer) as caught:
            read(registry)
        check_error(caught.value, fake_registry)
        assert fake_registry.log.count() <= 20


@pytest.mark.parametrize("fault", ["silent", "slow_headers", "slow"])
def test_a_server_that_says_nothing_is_given_up(fake_registry: FakeRegistry, pauses: list[float], fault: str) -> None:
    fake_registry.add_image("app", [DATA], "1", config={})
    rule = fake_registry.faults.on("")
    faults: dict[str, Callable[[], Rule]] = {
        "silent": rule.silent,
        "slow_headers": lambda: rule.slow_headers(60),
        "slow": lambda: rule.slow(1, 60),
    }
    faults[fault]()
    with Registry(fake_registry.host, settings={}, timeout=0.05) as registry:
        for call in (CALLS["manifest by tag"], CALLS["blob"]):
            with pytest.raises(RegistryUnavailable) as caught:
                call(registry)
            check_error(caught.value, fake_registry)
