"""A server that answers wrongly, endlessly, slowly or not at all: a clear error, in bounded time and memory."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
import time

import pytest
from layerstore_remote import BadAnswer, RemoteDriver, ServerError, ServerUnavailable
from layerstore_remote.claim import Claim, Note
from layerstore_remote.options import RemoteOptions
from loguru import logger

from layerstore_core import DriverContext, InvalidLayer, LayerStoreError, LayerStream
from layerstore_core.errors import ConfigError
from tests.store.layers import BASE

from .bad_server import BadServer, answer, http

LAYER = "a" * 64
OK = "HTTP/1.1 200 OK\r\n"
CHUNKED = f"{OK}Transfer-Encoding: chunked\r\n\r\n".encode()
NO_ADDITIONS = [http(b"404 page not found", 404), answer(), answer(Version=2), answer(Version="1"), b"x\r\n\r\n"]


@pytest.fixture
def home(tmp_path):
    """The home of a store that has claimed the server's."""
    home = tmp_path / "root" / "remote"
    home.parent.mkdir()
    Note(home).write(Claim("f" * 64, True, "vfs", "/nowhere"))
    return home


@pytest.fixture
def use(home, tmp_path):
    """A function that makes a driver for a bad server."""
    servers = []

    def make(timeout=20.0, local_path=None, **replies):
        server = BadServer(tmp_path / "sock", **replies)
        servers.append(server.__enter__())
        options = RemoteOptions(address=server.address, timeout=timeout, connect_timeout=0, local_path=local_path)
        driver = RemoteDriver(DriverContext(home, logger, options))
        driver.server = server
        return driver

    yield make
    for server in servers:
        server.__exit__()


def stream(tar=BASE):
    return LayerStream.over(io.BytesIO(tar))


#: Each hook with the method that it calls.
HOOKS = {
    "exists": ("GraphDriver.Exists", lambda driver: driver.exists(LAYER)),
    "create": ("GraphDriver.Create", lambda driver: driver.create(LAYER, "", {})),
    "create_read_write": ("GraphDriver.CreateReadWrite", lambda driver: driver.create_read_write(LAYER, "", "", {})),
    "remove": ("GraphDriver.Remove", lambda driver: driver.remove(LAYER)),
    "get": ("GraphDriver.Get", lambda driver: driver.get(LAYER, "")),
    "put": ("GraphDriver.Put", lambda driver: driver.put(LAYER)),
    "layer_ids": ("Layerstore.LayerIDs", lambda driver: driver.layer_ids()),
    "check_layer": ("Layerstore.CheckLayer", lambda driver: driver.check_layer(LAYER, "")),
    "repair_layer": ("Layerstore.RepairLayer", lambda driver: driver.repair_layer(LAYER, "", False)),
    "check_home": ("Layerstore.CheckHome", lambda driver: driver.check_home(full=True)),
    "repair_home": ("Layerstore.RepairHome", lambda driver: driver.repair_home()),
    "parent_of": ("Layerstore.ParentOf", lambda driver: driver.parent_of(LAYER, "")),
    "metadata": ("GraphDriver.GetMetadata", lambda driver: driver.metadata(LAYER)),
    "mounts": ("Layerstore.Mounts", lambda driver: driver.mounts(LAYER, True)),
    "seal": ("Layerstore.Seal", lambda driver: driver.seal(LAYER)),
    "status": ("GraphDriver.Status", lambda driver: driver.status()),
    "capabilities": ("GraphDriver.Capabilities", lambda driver: driver.capabilities()),
    "apply_diff": ("GraphDriver.ApplyDiff", lambda driver: driver.apply_diff(LAYER, "", stream())),
    "diff": ("GraphDriver.Diff", lambda driver: driver.diff(LAYER, "").read()),
    "changes": ("GraphDriver.Changes", lambda driver: driver.changes(LAYER, "")),
    "diff_size": ("GraphDriver.DiffSize", lambda driver: driver.diff_size(LAYER, "")),
}
JSON_HOOKS = [name for name in HOOKS if name != "diff"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_server_that_dies_in_a_call(use, hook):
    method, call = HOOKS[hook]
    seen = itertools.count()
    # `Exists` is also asked at the start of a connection, of which the first must succeed.
    dying = {method: None} if hook != "exists" else {method: lambda *_: None if next(seen) else answer(Exists=True)}
    driver = use(**dying)
    with pytest.raises(ServerUnavailable) as caught:
        call(driver)
    text = str(caught.value)
    assert driver.server.address in text
    assert "start it again" in text
    assert method in text or "the first call" in text


@pytest.mark.parametrize("hook", HOOKS)
def test_a_server_that_does_not_answer(use, hook):
    method, call = HOOKS[hook]
    driver = use(timeout=0.2, **{method: lambda *_: itertools.repeat(b"")})
    with pytest.raises(ServerUnavailable, match=r"within 0\.2 seconds"):
        call(driver)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"hello\r\n\r\n", id="no-http"),
        pytest.param(itertools.repeat(b"\0" * 65536), id="endless-zeros"),
        pytest.param(itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"A: b\r\n")), id="endless-headers"),
        pytest.param(itertools.chain([b"HTTP/1.1 200 OK\r\nA: "], itertools.repeat(b"a" * 999)), id="endless-header"),
        pytest.param(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), id="endless-continue"),
        pytest.param(
            itertools.chain(
                [b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n"], itertools.repeat(b" " * 9999)
            ),
            id="long-body",
        ),
        pytest.param(
            itertools.chain(
                [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"8\r\n        \r\n" * 99)
            ),
            id="endless-chunks",
        ),
        pytest.param(
            itertools.chain(
                [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"], itertools.repeat(b"A: b\r\n")
            ),
            id="endless-trailers",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", id="negative-chunk"),
        pytest.param(itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"[" * 9999)), id="until-the-end"),
    ],
)
@pytest.mark.parametrize("hook", ["get", "apply_diff", "diff"])
def test_answers_that_are_no_http_or_have_no_end(use, hook, reply):
    method, call = HOOKS[hook]
    endless = not isinstance(reply, bytes)
    if endless:
        reply, _ = itertools.tee(reply)  # the same iterator serves several tests
    driver = use(timeout=20 if endless else 0.5, **{method: reply})
    with pytest.raises((BadAnswer, ServerUnavailable)) as caught:
        call(driver) if hook != "diff" else _read_some(driver)
    assert driver.server.address in str(caught.value)


def _read_some(driver):
    """Read a diff, but not without end: a tar may be long."""
    with driver.diff(LAYER, "") as file:
        for _ in range(100):
            if not file.read(1 << 16):
                return
    raise BadAnswer(f"{driver.server.address}: as long as it may be")


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"Err": 5}', b'"x"'])
@pytest.mark.parametrize("hook", ["get", "layer_ids", "changes", "apply_diff"])
def test_bodies_that_are_no_answers(use, hook, body):
    method, call = HOOKS[hook]
    driver = use(**{method: http(body)})
    if body == b"" and hook != "get":
        assert call(driver) in ([], 0)  # a server leaves out what is empty
        return
    with pytest.raises((BadAnswer, ServerError), match="sock"):
        call(driver)


@pytest.mark.parametrize(
    ("hook", "fields"),
    [
        ("get", {"Dir": 5}),
        ("get", {"Dir": None}),
        ("get", {"Dir": "relative"}),
        ("get", {"Dir": "/a/../../etc"}),
        ("get", {"Dir": "/a\0b"}),
        ("diff_size", {"Size": -1}),
        ("diff_size", {"Size": True}),
        ("diff_size", {"Size": "1"}),
        ("diff_size", {"Size": 1.5}),
        ("apply_diff", {"Size": -1}),
        ("layer_ids", {"IDs": [5]}),
        ("layer_ids", {"IDs": {"a": 1}}),
        ("check_layer", {"Problems": "one"}),
        ("check_layer", {"Problems": [None]}),
        ("repair_layer", {"Done": [["a"]]}),
        ("check_home", {"Problems": "one"}),
        ("repair_home", {"Done": [1]}),
        ("parent_of", {"Parent": 5}),
        ("seal", {"Sealed": "yes"}),
        ("metadata", {"Metadata": {"a": 1}}),
        ("metadata", {"Metadata": ["a"]}),
        ("status", {"Status": [["a"]]}),
        ("status", {"Status": [["a", 1]]}),
        ("status", {"Status": "a"}),
        ("capabilities", {"Capabilities": []}),
        ("capabilities", {"Capabilities": {"MaxDepth": 0}}),
        ("capabilities", {"Capabilities": {"MaxDepth": "9"}}),
        ("changes", {"Changes": [5]}),
        ("changes", {"Changes": [{"Path": 5, "Kind": 0}]}),
        ("changes", {"Changes": [{"Path": "relative", "Kind": 0}]}),
        ("changes", {"Changes": [{"Path": "/a", "Kind": 3}]}),
        ("changes", {"Changes": [{"Path": "/a", "Kind": -1}]}),
        ("changes", {"Changes": [{"Path": "/a", "Kind": True}]}),
        ("changes", {"Changes": [{"Path": "/a/../b", "Kind": 0}]}),
        ("changes", {"Changes": [{"Path": "/a\0", "Kind": 0}]}),
        ("changes", {"Changes": [{"Path": "/\ud800", "Kind": 0}]}),
        ("mounts", {"Mounts": [5]}),
        ("mounts", {"Mounts": [{"Type": "bind", "Source": 5}]}),
        ("mounts", {"Mounts": [{"Type": "bind", "Source": "relative", "Options": ["ro"]}]}),
        ("mounts", {"Mounts": [{"Type": "overlay", "Source": "overlay", "Options": ["lowerdir=/a/../b"]}]}),
        ("mounts", {"Mounts": [{"Type": "ext4", "Source": "/dev/sda", "Options": []}]}),
        ("mounts", {"Mounts": [{"Type": "bind", "Source": "/a", "Options": [5]}]}),
    ],
)
def test_fields_that_have_another_type_or_no_sense(use, hook, fields):
    method, call = HOOKS[hook]
    with pytest.raises(BadAnswer, match="sock"):
        call(use(**{method: answer(**fields)}))


def test_an_answer_comes_in_drops(use):
    """Each byte comes in time, but the whole does not."""

    def drops(file, headers):
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        while True:
            time.sleep(0.05)
            yield b" "

    driver = use(timeout=0.5, **{"GraphDriver.Status": drops})
    with pytest.raises(ServerUnavailable, match=r"within 0\.5 seconds"):
        driver.status()


def test_an_error_s_text_is_quoted_safely(use):
    text = "\x1b[31mred\x07\nline " + "x" * 100_000
    driver = use(**{"GraphDriver.Create": answer(Err=text)})
    with pytest.raises(ServerError) as caught:
        driver.create(LAYER, "", {})
    message = str(caught.value)
    assert "\x1b" not in message and "\n" not in message and "\\x1b[31mred" in message
    assert len(message) < 5000
    assert driver.server.address in message


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"Class": "FileExistsError", "Errno": 17}, FileExistsError),
        ({"Class": "FileNotFoundError"}, FileNotFoundError),
        ({"Class": "OSError", "Errno": 28, "Path": "/srv/x"}, OSError),
        ({"Class": "OSError", "Errno": "28"}, ServerError),
        ({"Class": "ConfigError"}, ConfigError),
        ({"Class": "InvalidLayer", "Reason": "bad", "Offset": 512, "Entry": "a\udcff"}, InvalidLayer),
        ({"Class": "InvalidLayer", "Offset": "x"}, InvalidLayer),
        ({"Class": "SystemExit"}, ServerError),
        ({"Class": "os.path"}, ServerError),
        ({"Class": "printable"}, ServerError),
        ({"Class": "LayerStoreError"}, LayerStoreError),
    ],
)
def test_classes_of_errors(use, fields, kind):
    driver = use(**{"GraphDriver.Create": answer(Err="the text", **fields)})
    with pytest.raises(kind) as caught:
        driver.create(LAYER, "", {})
    assert type(caught.value) is kind
    if kind is InvalidLayer and "Entry" in fields:
        assert (caught.value.offset, caught.value.entry) == (512, b"a\xff")
    if "Path" in fields:
        assert (caught.value.errno, caught.value.filename) == (28, "/srv/x")


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_status_that_is_an_error(use, status):
    driver = use(**{"GraphDriver.Remove": http(b"something is wrong", status)})
    with pytest.raises(ServerError, match="something is wrong"):
        driver.remove(LAYER)


def test_paths_of_changes_are_bytes(use):
    found = [{"Path": "/b\udcff", "Kind": 2}, {"Path": "/a", "Kind": 1}, {"Path": "/\u00e9"}]
    changes = use(**{"GraphDriver.Changes": answer(Changes=found)}).changes(LAYER, "")
    assert [(one.path, one.kind.value) for one in changes] == [(b"/a", "A"), (b"/b\xff", "D"), ("/é".encode(), "C")]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 0x400 + b"\r\n", id="chunked"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 1024, id="sized"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1024, id="unframed"),
        pytest.param(CHUNKED + b"400\r\nxx", id="in-a-chunk"),
    ],
)
def test_a_diff_that_breaks_off(use, reply):
    driver = use(**{"GraphDriver.Diff": [reply]})
    with driver.diff(LAYER, "") as file, pytest.raises(ServerUnavailable, match=r"GraphDriver\.Diff after"):
        file.read()


def test_a_diff_without_framing_is_whole_if_its_tar_is(use):
    driver = use(**{"GraphDriver.Diff": [b"HTTP/1.1 200 OK\r\n\r\n" + BASE]})
    with driver.diff(LAYER, "") as file:
        assert file.read() == BASE


def test_a_diff_in_chunks_with_endless_framing(use):
    def reply(file, headers):
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"1;" + b"e" * 60_000 + b"\r\nx\r\n"

    driver = use(**{"GraphDriver.Diff": reply})
    with driver.diff(LAYER, "") as file, pytest.raises(BadAnswer, match="sane"):
        file.read()


def test_a_diff_that_fails_before_its_first_byte(use):
    error = json.dumps({"Err": "no space", "Class": "OSError", "Errno": 28}).encode()
    driver = use(**{"GraphDriver.Diff": http(error, 500)})
    with pytest.raises(OSError, match="no space"):
        driver.diff(LAYER, "")


def test_a_diff_that_is_not_read_to_its_end_costs_a_connection_alone(use):
    driver = use(**{"GraphDriver.Diff": http(b"x" * 100_000)})
    file = driver.diff(LAYER, "")
    file.read(10)
    file.close()
    assert driver.exists(LAYER)


def test_a_server_that_refuses_a_tar_in_its_middle(use):
    """It answers, and reads no more: the answer arrives, and sending does not wait for ever."""
    endless = io.BytesIO(BASE[:512] + bytes(64 << 20))

    def refuse(file, headers):
        file.read(1000)
        return itertools.chain([answer(Err="is full", Class="OSError", Errno=28)], idle())

    def idle():
        released.wait(60)
        yield b""

    released = threading.Event()
    driver = use(timeout=200, **{"GraphDriver.ApplyDiff": refuse})
    with pytest.raises(OSError, match="is full"):
        driver.apply_diff(LAYER, "", endless)
    assert not released.is_set()
    released.set()


def test_a_server_that_reads_nothing_of_a_tar(use):
    def sleep(file, headers):
        released.wait(60)

    released = threading.Event()
    driver = use(timeout=0.3, **{"GraphDriver.ApplyDiff": sleep})
    with pytest.raises(ServerUnavailable, match=r"within 0\.3 seconds"):
        driver.apply_diff(LAYER, "", io.BytesIO(bytes(64 << 20)))
    released.set()


def test_a_stream_that_fails_is_not_ended(use):
    """The server must not take the part for the whole, and it has stopped when the error is raised."""
    ended = []

    def note(file, headers):
        content, size = b"", file.readline()
        while size and size.strip() != b"0":
            content += file.read(int(size, 16))
            file.readline()
            size = file.readline()
        time.sleep(0.2)
        ended.append(size)
        return

    class Failing(io.BytesIO):
        def readinto(self, buffer):
            if self.tell() >= 1 << 20:
                raise InvalidLayer("damaged")
            return super().readinto(buffer)

    driver = use(**{"GraphDriver.ApplyDiff": note})
    with pytest.raises(InvalidLayer, match="damaged"):
        driver.apply_diff(LAYER, "", Failing(bytes(2 << 20)))
    assert ended == [b""]


def test_a_tree_outside_of_the_allowed_directory(use, tmp_path):
    allowed = tmp_path / "allowed"
    (allowed / "tree").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (allowed / "link").symlink_to(tmp_path / "other")
    replies = {"GraphDriver.Get": answer(Dir=str(tmp_path / "other"))}
    driver = use(local_path=str(allowed), **replies)
    with pytest.raises(BadAnswer, match="local_path"):
        driver.get(LAYER, "")
    assert driver.server.calls[-1] == "GraphDriver.Put"
    driver.server.replies["GraphDriver.Get"] = answer(Dir=str(allowed / "link"))
    with pytest.raises(BadAnswer, match="local_path"):
        driver.get(LAYER, "")
    driver.server.replies["GraphDriver.Get"] = answer(Dir=str(allowed / "tree"))
    assert driver.get(LAYER, "") == str(allowed / "tree")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights of root: a server of another user")
def test_a_server_of_another_user_may_not_name_any_directory(use, tmp_path, monkeypatch):
    driver = use(**{"GraphDriver.Get": answer(Dir="/etc")})
    monkeypatch.setattr("layerstore_remote.sockets.LimitedSocket.peer_user", lambda _: 1000)
    with pytest.raises(ServerError, match="local_path"):
        driver.get(LAYER, "")


def test_a_tree_that_is_not_there(use, tmp_path):
    driver = use(**{"GraphDriver.Get": answer(Dir=str(tmp_path / "gone"))})
    with pytest.raises(ServerError, match=r"propagated.*server_path"):
        driver.get(LAYER, "")


def test_a_tree_that_is_another_than_the_server_sees(use, tmp_path):
    status = tmp_path.stat()
    driver = use(**{"GraphDriver.Get": answer(Dir=str(tmp_path), Device=status.st_dev, Inode=status.st_ino)})
    assert driver.get(LAYER, "") == str(tmp_path)
    for fields in ({"Inode": status.st_ino + 1}, {"Device": status.st_dev + 1}):
        seen = {"Device": status.st_dev, "Inode": status.st_ino, **fields}
        driver.server.replies["GraphDriver.Get"] = answer(Dir=str(tmp_path), **seen)
        with pytest.raises(ServerError, match="not to be seen here"):
            driver.get(LAYER, "")


def test_a_server_that_is_no_graph_driver(use):
    driver = use(**{"Plugin.Activate": answer(Implements=["VolumeDriver"])})
    with pytest.raises(ServerError, match=r"VolumeDriver.*address"):
        driver.exists(LAYER)


@pytest.mark.parametrize("reply", NO_ADDITIONS)
def test_a_server_without_additions(use, reply):
    driver = use(**{"Layerstore.Version": reply})
    if reply.startswith(b"x"):
        with pytest.raises((BadAnswer, ServerUnavailable)):
            driver.exists(LAYER)
        return
    assert driver.exists(LAYER)
    assert driver.layer_ids() is None
    assert driver.check_layer(LAYER, "") is None
    assert driver.check_home(full=True) is None
    assert driver.repair_home() is None
    assert not driver.gives_mounts()
    assert driver.mounts(LAYER, True) is None
    assert driver.seal(LAYER) is None
    assert "Layerstore.LayerIDs" not in driver.server.calls
