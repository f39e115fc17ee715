"""The HTTP server: requests that are not of the protocol, clients that go away, and the end of the server."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import tars
from tests.store.layers import BASE

from .served import command, serving

END = b"\r\n\r\n"


def raw(address, request, *, close=True):
    """Send bytes, and return all bytes of the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(30)
        peer.connect(str(address))
        with contextlib.suppress(BrokenPipeError):
            peer.sendall(request)
        if close:
            peer.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := peer.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)


def post(path, body=b"", *headers):
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host:", b"User-Agent: Go-http-client/1.1", *headers]
    if not any(header.lower().startswith((b"content-length", b"transfer-encoding")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + END + body


def chunked(*chunks):
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0" + END


def answers(text):
    """Return the statuses and bodies of the answers in a stream."""
    found = []
    while text:
        head, _, rest = text.partition(END)
        length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split()[1])
        found.append((int(head.split()[1]), json.loads(rest[:length])))
        text = rest[length:]
    return found


BAD = {
    "no JSON": (post("/GraphDriver.Get", b"{"), 400, "is not JSON"),
    "bytes": (post("/GraphDriver.Get", b"\xff\xfe\x00"), 400, "is not JSON"),
    "a list": (post("/GraphDriver.Get", b"[]"), 400, "not a JSON object"),
    "deep": (post("/GraphDriver.Get", b"[" * 100_000), 400, "is not JSON"),
    "a number as ID": (post("/GraphDriver.Get", b'{"ID": 1}'), 400, "ID is not a text"),
    "a long ID": (post("/GraphDriver.Get", b'{"ID": "%s"}' % (b"a" * 5000)), 400, "at most 4096"),
    "a zero in an ID": (post("/GraphDriver.Get", b'{"ID": "a\\u0000"}'), 400, "ID is not a text"),
    "options": (post("/GraphDriver.Create", b'{"ID": "a", "StorageOpt": {"size": 1}}'), 400, "StorageOpt"),
    "an option": (post("/GraphDriver.Init", b'{"Opts": ["size"]}'), 400, "KEY=VALUE"),
    "ranges": (post("/GraphDriver.Init", b'{"UIDMaps": [{"HostID": -1}]}'), 400, "UIDMaps"),
    "a range without an end": (
        post("/GraphDriver.Init", b'{"GIDMaps": [{"container_id": 0, "host_id": 1}]}'),
        400,
        "GID",
    ),
    "a range of text": (post("/GraphDriver.Init", b'{"UIDMaps": ["0:0:1"]}'), 400, "UIDMaps"),
    "an unknown method": (post("/GraphDriver.Explode", b"{}"), 404, "no method"),
    "no method": (post("/", b"{}"), 404, "no method"),
    "an address that is none": (post("http://[", b"{}"), 400, "address of the request"),
    "GET": (b"GET /GraphDriver.Status HTTP/1.1\r\nHost:\r\n\r\n", 501, "GET"),
    "HTTP/0.9": (b"GET /\r\n", 501, "GET"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n", 400, ""),
    "a length of letters": (post("/GraphDriver.Get", b"{}", b"Content-Length: two"), 400, "not a number"),
    "a negative length": (post("/GraphDriver.Get", b"{}", b"Content-Length: -1"), 400, "not a number"),
    "two forms of body": (
        post("/GraphDriver.Get", b"{}", b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        400,
        "neither chunked",
    ),
    "another coding": (post("/GraphDriver.Get", b"{}", b"Transfer-Encoding: gzip"), 400, "neither chunked"),
    "a bad size of a chunk": (post("/GraphDriver.Get", b"zz\r\n", b"Transfer-Encoding: chunked"), 400, "a size is"),
    "a chunk that is too long": (
        post("/GraphDriver.Get", b"1\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
        400,
        "longer than its size",
    ),
    "endless trailers": (
        post("/GraphDriver.Get", b"0\r\n" + b"a: b\r\n" * 100 + b"\r\n", b"Transfer-Encoding: chunked"),
        400,
        "too many lines",
    ),
    "too long": (post("/GraphDriver.Get", b" " * (2 << 20)), 413, "more than"),
    "many headers": (post("/GraphDriver.Get", b"{}", *(b"X-%d: y" % number for number in range(200))), 431, ""),
    "a long header": (post("/GraphDriver.Get", b"{}", b"X: " + b"y" * (1 << 17)), 431, ""),
    "a long path": (post("/" + "a" * (1 << 17), b"{}"), 414, ""),
    "an upload without an ID": (post("/GraphDriver.ApplyDiff?parent=", BASE), 400, "id is missing"),
    "an upload with a bad query": (post("/GraphDriver.ApplyDiff?id", BASE), 400, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request(served, client, case):
    request, status, text = BAD[case]
    (found,) = answers(raw(served.address, request))
    assert found[0] == status
    assert text in found[1]["Err"]
    assert client.call("Exists", ID="a") == {"Exists": False}


def test_several_requests_in_one_piece(served):
    """A client may send the next request before the answer (RFC 9112, section 9.3.2)."""
    requests = post("/GraphDriver.Exists", b'{"ID": "a"}') * 3 + post("/Plugin.Activate")
    found = answers(raw(served.address, requests))
    assert [status for status, _ in found] == [200] * 4
    assert found[-1][1] == {"Implements": ["GraphDriver"]}


def test_a_chunked_request(served):
    request = post("/GraphDriver.Exists", chunked(b'{"ID"', b': "a"}'), b"Transfer-Encoding: chunked")
    assert answers(raw(served.address, request)) == [(200, {"Exists": False})]


def test_extensions_and_trailers_of_chunks(served):
    body = b'0c;name="value"\r\n{"ID": "ab"}\r\n00\r\nX: y\r\n\r\n'
    assert answers(raw(served.address, post("/GraphDriver.Exists", body, b"Transfer-Encoding: chunked"))) == [
        (200, {"Exists": False})
    ]


def test_a_client_that_wants_to_be_asked_first(served):
    """curl sends `Expect: 100-continue` with a large body."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(30)
        peer.connect(str(served.address))
        head = post("/GraphDriver.Exists", b"", b"Content-Length: 11", b"Expect: 100-continue")
        peer.sendall(head)
        assert peer.recv(1000).startswith(b"HTTP/1.1 100 ")
        peer.sendall(b'{"ID": "a"}')
        assert b'{"Exists": false}' in peer.recv(1000)


class TestLost:
    """A client that goes away."""

    @pytest.mark.parametrize("sent", [0, 1, 20, 100, 400])
    def test_in_a_request(self, served, client, sent):
        raw(served.address, post("/GraphDriver.Create", b'{"ID": "%s"}' % (b"b" * 300))[:sent])
        assert client.call("Exists", ID="b" * 300) == {"Exists": False}

    def test_in_an_upload(self, served, client, new_id):
        client.call("Create", ID=(one := new_id()))
        whole = tars.tar(tars.entry(b"big", b"x" * (4 << 20)))
        half = b"%x\r\n%s" % (len(whole), whole[: len(whole) // 2])
        assert raw(served.address, post(f"/GraphDriver.ApplyDiff?id={one}", half, b"Transfer-Encoding: chunked")) == b""
        client.call("Remove", ID=one)  # waits until the server has stopped to write
        assert client.call("Exists", ID=one) == {"Exists": False}

    def test_after_the_tar_but_before_the_last_chunk(self, served, client, new_id):
        client.call("Create", ID=(one := new_id()))
        body = chunked(BASE).removesuffix(b"0\r\n\r\n")
        assert raw(served.address, post(f"/GraphDriver.ApplyDiff?id={one}", body, b"Transfer-Encoding: chunked")) == b""
        client.call("Remove", ID=one)

    def test_in_a_diff(self, served, client, new_id):
        client.call("Create", ID=(one := new_id()))
        client.apply(one, "", [tars.tar(tars.entry(b"big", b"x" * (16 << 20)))])
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect(str(served.address))
            peer.sendall(post("/GraphDriver.Diff", b'{"ID": "%s"}' % one.encode()))
            assert peer.recv(100).startswith(b"HTTP/1.1 200 ")
        client.call("Remove", ID=one)
        served.wait_for_no_calls()


def test_a_refused_upload_is_answered_while_it_is_sent(served, client, new_id):
    """A client that sends a large tar gets the error, not a broken connection."""
    client.call("Create", ID=(one := new_id()))
    body = chunked(tars.entry(b"../x", b""), *[bytes(1 << 20)] * 64)
    (found,) = answers(
        raw(served.address, post(f"/GraphDriver.ApplyDiff?id={one}", body, b"Transfer-Encoding: chunked"))
    )
    assert found[0] == 200
    assert found[1]["Class"] == "InvalidLayer"


def test_memory_is_bounded(served, client, new_id):
    """A tar of 256 MiB passes through the server in both directions."""
    client.call("Create", ID=(one := new_id()))
    size = 256 << 20
    head = tars.header(b"big", size=size, form="gnu")
    status, answer = client.apply(one, "", [head, *[bytes(1 << 20)] * (size >> 20), bytes(1024)])
    assert (status, answer) == (200, {"Size": size})
    client.connection.request("POST", "/GraphDriver.Diff", json.dumps({"ID": one}).encode())
    answer = client.connection.getresponse()
    total = 0
    while block := answer.read(1 << 20):
        total += len(block)
    assert total >= size
    peak = served.peak_memory()
    assert peak < 150_000, f"{peak} KiB"
    client.call("Remove", ID=one)


def test_too_many_connections(served, client):
    """Those beyond the limit are answered 503; the others go on."""
    client.call("Exists", ID="a")
    with contextlib.ExitStack() as stack:
        for _ in range(512):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            peer.connect(str(served.address))
        peer.settimeout(30)
        assert b"503" in peer.recv(1000)
        assert client.call("Exists", ID="a") == {"Exists": False}


def test_too_many_open_files(place):
    """What cannot be accepted waits until others have ended. The server goes on."""
    with serving(*place) as served:
        client = served.client()
        client.call("Exists", ID="a")
        most = 2 + max(map(int, os.listdir(f"/proc/{served.process.pid}/fd")))
        _, hard = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (most, hard))
        with contextlib.ExitStack() as stack:
            for _ in range(most):
                peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                peer.connect(str(served.address))
            waiting = served.client()
            waiting.connection.request("POST", "/GraphDriver.Exists", b'{"ID": "a"}')
            assert select.select([waiting.connection.sock], [], [], 0.5)[0] == []
        assert waiting.connection.getresponse().status == 200
        assert served.stop() == 0


class TestEnd:
    """The end of the server, and the next one."""

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal(self, place, signum):
        with serving(*place) as served:
            idle = served.client()
            idle.call("Exists", ID="a")
            assert served.stop(signum) == 0
            assert not place[1].exists()

    def test_a_signal_that_interrupts_no_waiting(self, place):
        """It may come when the server is just about to wait; here another thread gets it, which is the same."""
        block = "import signal, threading; threading.Thread(target=threading.Event().wait, daemon=True).start(); "
        block += "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])"
        with serving(*place, before=block) as served:
            served.client().call("Exists", ID="a")
            assert served.stop() == 0

    def test_a_request_is_finished_first(self, place, new_id):
        with serving(*place) as served, ThreadPoolExecutor(1) as pool:
            client = served.client()
            client.call("Create", ID=(one := new_id()))
            reached, go_on = threading.Event(), threading.Event()

            def chunks():
                yield BASE[:2000]
                reached.set()
                go_on.wait(30)
                yield BASE[2000:]

            answer = pool.submit(client.apply, one, "", chunks())
            assert reached.wait(30)
            tree = place[0] / "vfs" / "dir" / one
            while not any(tree.iterdir()):  # the server has begun to answer
                time.sleep(0.01)
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            go_on.set()
            assert answer.result(30)[0] == 200
            assert served.process.wait(30) == 0
        with serving(*place) as served:
            path = served.client().call("Get", ID=one)["Dir"]
            assert os.path.exists(f"{path}/bin/sh")

    def test_a_killed_server_leaves_a_socket_that_the_next_replaces(self, place, new_id):
        with serving(*place) as served:
            served.client().call("Create", ID=(one := new_id()))
            served.stop(signal.SIGKILL)
            assert place[1].is_socket()
            place[1].rename(place[1].with_name("left"))
        place[1].with_name("left").rename(place[1])
        with serving(*place) as served:
            assert served.client().call("Exists", ID=one) == {"Exists": True}

    def test_mounts_are_still_counted_by_the_next_server(self, place, new_id):
        one, two = new_id(), new_id()
        with serving(*place) as served:
            client = served.client()
            client.call("Init", Home="/docker")
            for layer in (one, two):
                client.call("CreateReadWrite", ID=layer)
                client.call("Get", ID=layer)
            client.call("Get", ID=two)
            served.stop(signal.SIGKILL)
        with serving(*place) as served:
            client = served.client()
            mounted = lambda: dict(client.call("Status")["Status"])["Mounted Layers"]  # noqa: E731
            assert mounted() == "2"
            client.call("Put", ID=one)
            assert mounted() == "1"
            client.call("Put", ID=two)
            assert mounted() == "1"
            client.call("Put", ID=two)
            assert mounted() == "0"
            assert served.stop() == 0

    def test_settings_of_init_are_kept_by_the_next_server(self, place, new_id):
        ranges = [{"container_id": 0, "host_id": 0, "size": 70000}]
        with serving(*place) as served:
            served.client().call("Init", Home="/docker", UIDMaps=ranges, GIDMaps=ranges)
            served.client().call("Create", ID=new_id())
            served.stop(signal.SIGKILL)
        with serving(*place) as served:
            client = served.client()
            answer = client.ask("Init", Home="/docker")
            assert "were made with the ranges of IDs 0:0:70000" in answer["Err"]
            assert answer["Class"] == "ConfigError"
            client.call("Init", Home="/docker", UIDMaps=ranges, GIDMaps=ranges)

    def test_settings_that_cannot_be_read(self, place):
        with serving(*place) as served:
            served.client().call("Init", Home="/docker")
            served.stop()
        state = place[0] / "layerstore" / "docker" / "vfs" / "state.json"
        state.write_text("{")
        done = subprocess.run(command(*place), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert f"{state}: not the state of a server; remove it" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_option_of_the_daemon_that_the_driver_does_not_know(client, new_id):
    client.call("Create", ID=(one := new_id()))
    answer = client.ask("Init", Home="/docker", Opts=["vfs.nonsense=1"])
    assert "nonsense" in answer["Err"]
    assert client.call("Exists", ID=one) == {"Exists": True}  # it works as before
