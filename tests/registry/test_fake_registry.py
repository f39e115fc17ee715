"""The fake registry does what the specification says: skopeo, which knows real registries, gets along with it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.certificates import Authority
from tests.registry.conftest import USERS
from tests.registry.fake_auth import BasicAuth, TokenAuth
from tests.registry.fake_content import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of
from tests.registry.fake_registry import FakeRegistry
from tests.registry.images import IMAGE, index_layout, layout
from tests.registry.servers import program_missing
from tests.registry.skopeo import SkopeoFailed, copy_in, copy_out, raw, skopeo, tags


@pytest.fixture(autouse=True)
def _nothing_stays(nothing_left_open: None) -> None:
    pass


@pytest.fixture
def fake(fake_registry: FakeRegistry) -> FakeRegistry:
    return fake_registry


@pytest.fixture
def _needs_skopeo() -> None:
    if reason := program_missing("skopeo"):
        pytest.skip(reason)


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("blobs/sha256/*")}


Ask = Callable[..., tuple[int, Any, bytes]]


@pytest.fixture
def ask(fake: FakeRegistry) -> Iterator[Ask]:
    """Yield a function that makes a request and returns status, headers and body. All in one connection."""
    connection = http.client.HTTPConnection(fake.host, timeout=10)

    def request(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path.removeprefix(fake.url), body, names)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    yield request
    connection.close()


# skopeo.


@pytest.mark.usefixtures("_needs_skopeo")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"absolute": False, "location_query": False},
        {"absolute": False},
        {"redirect": True},
        {"min_chunk": 1000, "single_post": False, "mount": False, "resume": False},
    ],
    ids=str,
)
def test_skopeo_copies_an_image_in_and_out(tmp_path: Path, settings: dict[str, Any]) -> None:
    source = layout(tmp_path / "source", IMAGE)
    with FakeRegistry(**settings) as fake:
        copy_in(source, f"{fake.host}/team/app:1")
        there = copy_out(f"{fake.host}/team/app:1", tmp_path / "there")
        assert (
            raw(f"{fake.host}/team/app:1")
            == fake.repositories["team/app"].manifests[fake.repositories["team/app"].tags["1"]][1]
        )
        assert fake.open_uploads == 0
        assert bool(fake.log.count("", "storage")) is fake.settings.redirect
        assert not [request for request in fake.log.all() if request.status >= 500]
    assert files_of(there) == files_of(source)


@pytest.mark.usefixtures("_needs_skopeo")
def test_skopeo_copies_an_index_in_and_out(fake: FakeRegistry, tmp_path: Path) -> None:
    source, entries = index_layout(tmp_path / "source")
    copy_in(source, f"{fake.host}/app:1")
    assert len(fake.repositories["app"].manifests) == len(entries) + 1
    assert files_of(copy_out(f"{fake.host}/app:1", tmp_path / "there")) == files_of(source)


@pytest.mark.usefixtures("_needs_skopeo")
@pytest.mark.parametrize("options", [("--format=v2s2",), ("--dest-compress-format=zstd",)], ids=str)
def test_skopeo_pushes_in_other_formats(fake: FakeRegistry, tmp_path: Path, options: tuple[str, ...]) -> None:
    copy_in(layout(tmp_path / "source", IMAGE), f"{fake.host}/app:1", *options)
    inspected = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{fake.host}/app:1"))
    assert len(inspected["Layers"]) == 2
    copy_out(f"{fake.host}/app:1", tmp_path / "there")


@pytest.mark.usefixtures("_needs_skopeo")
def test_skopeo_lists_tags_page_by_page(fake: FakeRegistry) -> None:
    digest = fake.add_image("app", [], *(f"v{n:02}" for n in range(23)), config={})
    fake.settings.page = 5
    assert tags(f"{fake.host}/app") == [f"v{n:02}" for n in range(23)]
    assert fake.log.count("tags/list") == 5
    assert set(fake.repositories["app"].tags.values()) == {digest}


@pytest.mark.usefixtures("_needs_skopeo")
def test_skopeo_mounts_and_deletes(fake: FakeRegistry, tmp_path: Path) -> None:
    copy_in(layout(tmp_path / "source", IMAGE), f"{fake.host}/app:1")
    verify = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", *verify, f"docker://{fake.host}/app:1", f"docker://{fake.host}/other:1")
    assert fake.repositories["other"] == fake.repositories["app"]
    assert fake.log.sent("GET .*/blobs/sha256") < 2000  # the config only: layers were mounted
    skopeo("delete", "--tls-verify=false", f"docker://{fake.host}/other:1")
    assert fake.repositories["other"].tags == {}


@pytest.mark.usefixtures("_needs_skopeo")
@pytest.mark.parametrize(
    "auth",
    [BasicAuth(USERS), TokenAuth(USERS), TokenAuth(USERS, key="access_token")],
    ids=["basic", "token", "access_token"],
)
def test_skopeo_logs_in(tmp_path: Path, auth: BasicAuth | TokenAuth) -> None:
    source = layout(tmp_path / "source", IMAGE)
    with FakeRegistry(auth=auth) as fake:
        copy_in(source, f"{fake.host}/app:1", "--dest-creds=ada:pass:word")
        copy_out(f"{fake.host}/app:1", tmp_path / "there", "--src-creds=bob:other")
        for wrong in (("--dest-creds=ada:wrong",), ()):
            with pytest.raises(SkopeoFailed, match=r"unauthorized|authentication required"):
                copy_in(source, f"{fake.host}/app:2", *wrong)
        assert list(fake.repositories["app"].tags) == ["1"]


@pytest.mark.usefixtures("_needs_skopeo")
def test_skopeo_pulls_without_a_name_where_everyone_may(tmp_path: Path) -> None:
    with FakeRegistry(auth=TokenAuth(USERS)) as fake:
        fake.add_image("app", IMAGE.blobs, "1", config=IMAGE.config)
        copy_out(f"{fake.host}/app:1", tmp_path / "there")


@pytest.mark.usefixtures("_needs_skopeo")
def test_skopeo_trusts_the_own_authority_only(tmp_path: Path, authority: Authority) -> None:
    with FakeRegistry(tls=authority.server().server_context()) as fake:
        fake.add_image("app", IMAGE.blobs, "1", config=IMAGE.config)
        (certs := tmp_path / "certs").mkdir()
        with pytest.raises(SkopeoFailed, match="certificate"):
            skopeo("inspect", "--raw", f"--cert-dir={certs}", f"docker://{fake.host}/app:1")
        (certs / "ca.crt").write_bytes(authority.certificate.read_bytes())
        skopeo("inspect", "--raw", f"--cert-dir={certs}", f"docker://{fake.host}/app:1")


@pytest.mark.usefixtures("_needs_skopeo")
@pytest.mark.parametrize("fault", ["flip_byte", "cut", "status"])
def test_skopeo_sees_faults(fake: FakeRegistry, tmp_path: Path, fault: str) -> None:
    fake.add_image("app", IMAGE.blobs, "1", config=IMAGE.config)
    rule = fake.faults.on("GET .*/blobs/")
    {"flip_byte": rule.flip_byte, "cut": lambda: rule.cut(20), "status": lambda: rule.error(404, "BLOB_UNKNOWN")}[
        fault
    ]()
    with pytest.raises(SkopeoFailed):
        copy_out(f"{fake.host}/app:1", tmp_path / "there")
    assert rule.hits


# Without skopeo: what it does not use.


def test_ranges(fake: FakeRegistry, ask: Ask) -> None:
    path = f"/v2/app/blobs/{fake.add_blob('app', b'0123456789')}"
    for given, status, body, answered in [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("lines=1-2", 200, b"0123456789", None),
    ]:
        found = ask("GET", path, Range=given)
        assert (found[0], found[2], found[1]["Content-Range"]) == (status, body, answered)
    status, headers, body = ask("HEAD", path)
    assert (status, headers["Content-Length"], body) == (200, "10", b"")
    assert fake.log.sent("GET") == 3 + 3 + 3 + 2 + 10 and fake.log.sent("HEAD") == 0


def test_uploads_in_chunks(fake: FakeRegistry, ask: Ask) -> None:
    status, headers, _ = ask("POST", "/v2/app/blobs/uploads/")
    assert (status, headers["Range"]) == (202, "0-0")
    status, headers, _ = ask("PATCH", headers["Location"], b"01234", Content_Range="0-4")
    assert (status, headers["Range"]) == (202, "0-4")
    # Out of order, and at an old Location.
    status, refused, _ = ask("PATCH", headers["Location"], b"x", Content_Range="7-7")
    assert (status, refused["Range"]) == (416, "0-4")
    assert ask("PATCH", headers["Location"].replace("_state=1", "_state=0"), b"x")[0] == 404
    # Where the upload stands is said at any Location.
    status, stands, _ = ask("GET", headers["Location"].replace("_state=1", "_state=0"))
    assert (status, stands["Range"], stands["Location"]) == (204, "0-4", headers["Location"])
    assert ask("PUT", f"{headers['Location']}&digest={digest_of(b'wrong')}", b"5678")[0] == 400
    status, headers, _ = ask("PUT", f"{headers['Location']}&digest={digest_of(b'012345678')}", b"5678")
    assert (status, headers["Docker-Content-Digest"]) == (201, digest_of(b"012345678"))
    assert fake.repositories["app"].blobs == {digest_of(b"012345678"): b"012345678"}
    assert fake.open_uploads == 0


@pytest.mark.parametrize("resume", [True, False])
def test_an_upload_that_is_cut_off_can_go_on_or_not(fake: FakeRegistry, ask: Ask, resume: bool) -> None:
    fake.settings.resume = resume
    location = ask("POST", "/v2/app/blobs/uploads/")[1]["Location"]
    with socket.create_connection(fake.host.split(":")) as connection:
        head = f"PATCH {location.removeprefix(fake.url)} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"0123456789")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    status, headers, _ = ask("GET", location)
    assert (status, headers["Range"]) == ((204, "0-9") if resume else (404, None))


def test_other_ways_to_add_a_blob(fake: FakeRegistry, ask: Ask) -> None:
    digest = digest_of(b"blob")
    assert ask("POST", f"/v2/a/blobs/uploads/?digest={digest}", b"blob")[0] == 201
    assert ask("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a")[0] == 201
    assert ask("POST", f"/v2/c/blobs/uploads/?mount={digest}&from=empty")[0] == 202
    fake.settings.single_post = False
    assert ask("POST", f"/v2/d/blobs/uploads/?digest={digest}", b"blob")[0] == 202
    location = ask("POST", "/v2/d/blobs/uploads/")[1]["Location"]
    assert ask("DELETE", location)[0] == 204 and ask("GET", location)[0] == 404
    assert {name for name, found in fake.repositories.items() if digest in found.blobs} == {"a", "b"}


def test_manifests_are_checked(fake: FakeRegistry, ask: Ask) -> None:
    layer = descriptor(b"layer", "application/octet-stream")
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layer, "layers": [layer]}).encode()

    def put(reference: str, data: bytes, media_type: str = OCI_MANIFEST) -> int:
        return ask("PUT", f"/v2/app/manifests/{reference}", data, Content_Type=media_type)[0]

    assert put("1", data) == 404  # the blob is missing
    fake.add_blob("app", b"layer")
    assert put("1", data, OCI_INDEX) == 400
    assert put("1", b"[]") == put("1", b"{") == put(digest_of(b"other"), data) == 400
    assert put("1", bytes(5 << 20)) == 413
    assert put("1", data) == put(digest_of(data), data) == 201
    assert ask("GET", "/v2/app/manifests/1", Accept=OCI_INDEX)[0] == 404
    status, headers, body = ask("GET", "/v2/app/manifests/1", Accept=f"{OCI_INDEX}, {OCI_MANIFEST};q=0.5")
    assert (status, body, headers["Content-Type"]) == (200, data, OCI_MANIFEST)
    assert ask("DELETE", "/v2/app/manifests/1")[0] == 202
    assert ask("GET", "/v2/app/manifests/1")[0] == 404
    assert ask("GET", f"/v2/app/manifests/{digest_of(data)}")[0] == 200


def test_referrers(fake: FakeRegistry, ask: Ask) -> None:
    subject = fake.add_image("app", [], config={})
    described = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}
    for kind in ("a", "b", "b"):
        fake.add_image(
            "app", [b"x"], config=b"{}", artifactType=f"test/{kind}", subject=described, n=len(fake.log.all())
        )
        document = {"schemaVersion": 2, "artifactType": f"test/{kind}", "subject": described}
        status, headers, _ = ask("PUT", f"/v2/app/manifests/{kind}", json.dumps(document).encode())
        assert (status, headers["OCI-Subject"]) == (201, subject)
    fake.settings.page = 2

    def listed(query: str) -> list[str]:
        found, path = [], f"/v2/app/referrers/{subject}{query}"
        while path:
            status, headers, body = ask("GET", path)
            assert (status, headers["Content-Type"]) == (200, OCI_INDEX)
            assert headers["OCI-Filters-Applied"] == ("artifactType" if "test" in query else None)
            found += [entry["artifactType"] for entry in json.loads(body)["manifests"]]
            path = headers.get("Link", "<>").split(">")[0][1:]
        return sorted(found)

    assert listed("") == ["test/a", "test/a", "test/b", "test/b", "test/b"]
    assert listed("?artifactType=test/b") == ["test/b"] * 3
    fake.settings.referrers = False
    assert ask("GET", f"/v2/app/referrers/{subject}")[0] == 404


def test_redirects_are_signed_and_end(fake: FakeRegistry, ask: Ask) -> None:
    fake.settings.redirect = True
    path = f"/v2/app/blobs/{fake.add_blob('app', b'blob')}"
    status, headers, _ = ask("GET", path)
    assert status == 307
    where, _, target = headers["Location"].removeprefix("http://").partition("/")

    def get(**headers: str) -> int:
        connection = http.client.HTTPConnection(where, timeout=10)
        connection.request("GET", f"/{target}", headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status

    assert get() == 200
    assert get(Authorization="Basic eDp5") == 400
    fake.expire_redirects()
    assert get() == 403
    assert [request.headers["Authorization"] for request in fake.log.all(server="storage")] == [
        None,
        "Basic eDp5",
        None,
    ]


# Faults.


def test_a_rule_is_for_some_requests(fake: FakeRegistry, ask: Ask) -> None:
    rule = fake.faults.on("GET /v2/$", times=2, skip=1).busy(503, after=7)
    found = [ask("GET", "/v2/") for _ in range(4)]
    assert [status for status, _, _ in found] == [200, 503, 503, 200]
    assert found[1][1]["Retry-After"] == "7" and (rule.seen, rule.hits) == (4, 2)


def test_bodies_are_cut_short_long_and_wrong(fake: FakeRegistry, ask: Ask) -> None:
    digest = fake.add_blob("app", b"0123456789")
    on = fake.faults.on
    on("/blobs/", times=1).short(3)
    on("/blobs/", times=1, skip=1).long(3)
    on("/blobs/", times=1, skip=2).flip_byte(9)
    on("/blobs/", times=1, skip=3).without_length()
    on("/blobs/", times=1, skip=4).ignore_range()
    on("/blobs/", times=1, skip=5).wrong_range("bytes 0-0/1")
    bodies = [ask("GET", f"/v2/app/blobs/{digest}") for _ in range(4)]
    assert [body for _, _, body in bodies] == [b"0123456", b"0123456789\0\0\0", b"0123456788", b"0123456789"]
    assert bodies[3][1]["Transfer-Encoding"] == "chunked"
    assert ask("GET", f"/v2/app/blobs/{digest}", Range="bytes=2-3")[0] == 200
    assert ask("GET", f"/v2/app/blobs/{digest}", Range="bytes=2-3")[1]["Content-Range"] == "bytes 0-0/1"
    on("/blobs/").cut(4)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask("GET", f"/v2/app/blobs/{digest}")
    assert caught.value.partial == b"0123"
    assert fake.log.all("/blobs/")[-1].sent == 4


def test_connections_end_without_an_answer(fake: FakeRegistry, ask: Ask) -> None:
    fake.faults.on("GET /v2/$", times=1).hang_up()
    fake.faults.on("GET /v2/$", times=1, skip=1).reset()
    with pytest.raises(http.client.RemoteDisconnected):
        ask("GET", "/v2/")
    with pytest.raises(ConnectionResetError):
        ask("GET", "/v2/")
    assert fake.log.statuses() == [0, 0]


@pytest.mark.parametrize("fault", ["silent", "endless", "slow", "slow_headers"])
def test_answers_without_end_stop_with_the_registry(fault: str) -> None:
    with FakeRegistry() as fake:
        digest = fake.add_blob("app", bytes(100))
        rule = fake.faults.on("/blobs/")
        {
            "silent": rule.silent,
            "endless": rule.endless,
            "slow": lambda: rule.slow(1, 60),
            "slow_headers": lambda: rule.slow_headers(60),
        }[fault]()
        connection = http.client.HTTPConnection(fake.host, timeout=0.2)
        connection.request("GET", f"/v2/app/blobs/{digest}")
        if fault in ("silent", "slow_headers"):
            with pytest.raises(TimeoutError):
                connection.getresponse()
        else:
            size = 200_000 if fault == "endless" else 1
            assert len(connection.getresponse().read(size)) == size
    connection.close()


def test_an_answer_is_held_back(fake: FakeRegistry, ask: Ask) -> None:
    held = fake.faults.on("GET /v2/$", times=1).hold()
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(ask("GET", "/v2/")[0]))
    thread.start()
    assert held.reached.wait(10) and not found
    held.release()
    thread.join()
    assert found == [200]


def test_tokens_end_and_have_scopes() -> None:
    auth = TokenAuth(USERS)
    with FakeRegistry(auth=auth) as fake:
        digest = fake.add_blob("app", b"x")

        def get(server: str, path: str, **headers: str) -> tuple[int, Any, bytes]:
            connection = http.client.HTTPConnection(server, timeout=10)
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
            connection.close()
            return response.status, response.headers, body

        status, headers, _ = get(fake.host, f"/v2/app/blobs/{digest}")
        realm, service, scope = (part.split('"')[1] for part in headers["WWW-Authenticate"].split('",'))
        assert (status, service, scope) == (401, "fake.registry", "repository:app:pull")
        where, _, path = realm.removeprefix("http://").partition("/")
        _, _, body = get(where, f"/{path}?service={service}&scope={scope}")
        bearer = f"Bearer {json.loads(body)['token']}"
        assert get(fake.host, f"/v2/app/blobs/{digest}", Authorization=bearer)[0] == 200
        status, headers, _ = get(fake.host, f"/v2/other/blobs/{digest}", Authorization=bearer)
        assert status == 401 and "insufficient_scope" in headers["WWW-Authenticate"]
        auth.expire()
        status, headers, _ = get(fake.host, f"/v2/app/blobs/{digest}", Authorization=bearer)
        assert status == 401 and "invalid_token" in headers["WWW-Authenticate"]
        assert auth.granted == [("", ("repository:app:pull",))]
