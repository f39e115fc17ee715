"""Wrong calls: each has the code that containerd expects, says what is wrong, and changes nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from layerstore_containerd.messages import CALLS

from .client import Client, Server, code

#: Keys as containerd makes them, and harder ones.
KEYS = [
    "default/4/extract-166014023-nhYu sha256:4d1e6b9e",
    "../../../etc/passwd",
    "/",
    ".",
    "a\nb\x00c\x1b[31m",
    " ",
    "größe-\U0001f600",
    "k" * 30_000,
    "%s{}'\";--",
]


def refused(call: Callable[..., Any], *arguments: Any, **fields: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **fields)
    return code(error.value), error.value.details()


@pytest.fixture
def made(client: Client) -> Client:
    """A client that has made a committed, an active snapshot and a view."""
    client.prepare("first")
    client.commit("base", "first", {"l": "v"})
    client.prepare("active", "base")
    client.view("view", "base")
    return client


@pytest.mark.parametrize(
    ("call", "fields", "status", "words"),
    [
        ("Stat", {"key": "none"}, "NOT_FOUND", "none"),
        ("Mounts", {"key": "none"}, "NOT_FOUND", "none"),
        ("Remove", {"key": "none"}, "NOT_FOUND", "none"),
        ("Usage", {"key": "none"}, "NOT_FOUND", "none"),
        ("Update", {"info": {"name": "none"}}, "NOT_FOUND", "none"),
        ("Commit", {"name": "new", "key": "none"}, "NOT_FOUND", "none"),
        ("Commit", {"name": "new", "key": "first"}, "NOT_FOUND", "first"),
        ("Prepare", {"key": "new", "parent": "none"}, "NOT_FOUND", "none"),
        ("View", {"key": "new", "parent": "none"}, "NOT_FOUND", "none"),
        ("Prepare", {"key": "active"}, "ALREADY_EXISTS", "active"),
        ("Prepare", {"key": "base"}, "ALREADY_EXISTS", "base"),
        ("View", {"key": "view", "parent": "base"}, "ALREADY_EXISTS", "view"),
        ("Commit", {"name": "base", "key": "active"}, "ALREADY_EXISTS", "base"),
        ("Commit", {"name": "view", "key": "active"}, "ALREADY_EXISTS", "view"),
        ("Prepare", {"key": "new", "parent": "active"}, "INVALID_ARGUMENT", "active"),
        ("View", {"key": "new", "parent": "view"}, "INVALID_ARGUMENT", "view"),
        ("Commit", {"name": "new", "key": "view"}, "FAILED_PRECONDITION", "view"),
        ("Commit", {"name": "new", "key": "base"}, "FAILED_PRECONDITION", "base"),
        ("Mounts", {"key": "base"}, "FAILED_PRECONDITION", "base"),
        ("Remove", {"key": "base"}, "FAILED_PRECONDITION", "base"),
        ("Update", {"info": {"name": "base"}, "update_mask": {"paths": ["kind"]}}, "INVALID_ARGUMENT", "kind"),
        ("Update", {"info": {"name": "base"}, "update_mask": {"paths": ["labels."]}}, "INVALID_ARGUMENT", "labels"),
        ("Commit", {"name": "new", "key": "active", "parent": "other"}, "UNIMPLEMENTED", "rebase"),
        ("Prepare", {"key": ""}, "INVALID_ARGUMENT", "empty"),
        ("View", {"key": ""}, "INVALID_ARGUMENT", "empty"),
        ("Commit", {"name": "", "key": "active"}, "INVALID_ARGUMENT", "empty"),
        ("Stat", {"key": ""}, "INVALID_ARGUMENT", "empty"),
        ("Remove", {}, "INVALID_ARGUMENT", "empty"),
        ("Update", {}, "INVALID_ARGUMENT", "empty"),
        ("Prepare", {"key": "k" * 40_000}, "INVALID_ARGUMENT", "longer"),
        ("Prepare", {"key": "new", "labels": {"l": "v" * (2 << 20)}}, "INVALID_ARGUMENT", "labels"),
    ],
)
def test_wrong_call_is_refused_and_changes_nothing(
    made: Client, call: str, fields: dict[str, Any], status: str, words: str
) -> None:
    before = made.list()
    answer, message = refused(made, call, **fields)
    assert (answer, words in message) == (status, True), message
    assert "Traceback" not in message
    assert made.list() == before


def test_commit_may_name_the_parent_that_the_snapshot_has(made: Client) -> None:
    made("Commit", name="new", key="active", parent="base")
    assert made.stat("new").parent == "base"


@pytest.mark.parametrize("filters", [["name="], ["kind==active", "x y"], ['labels."a'], ["name==x" * 20_000]])
def test_wrong_filter_is_an_invalid_argument(client: Client, filters: list[str]) -> None:
    status, message = refused(client.list, *filters)
    assert status == "INVALID_ARGUMENT"
    assert "filter" in message


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\xff\xff\xff\xff\x0f"], ids=["tag", "utf8", "long"]
)
def test_bytes_that_are_no_message_are_an_invalid_argument(client: Client, call: str, data: bytes) -> None:
    status, message = refused(lambda: list(client.raw(call, data)) if call == "List" else client.raw(call, data))
    assert status == "INVALID_ARGUMENT"
    assert call in message


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key[:20]))
def test_keys_may_be_any_text(client: Client, key: str) -> None:
    client.prepare(key, labels={key: key})
    assert client.stat(key).name == key
    assert dict(client.stat(key).labels) == {key: key}
    client.commit(key + "/name", key)
    client.prepare(key, key + "/name")
    assert client.names() == [key + "/name", key]
    status, message = refused(client.prepare, key)
    assert status == "ALREADY_EXISTS"
    assert len(message) < 3000


def test_message_above_the_limit_is_refused_and_the_connection_goes_on(client: Client) -> None:
    status, _ = refused(client.prepare, "new", labels={"l": "v" * (5 << 20)})
    assert status == "RESOURCE_EXHAUSTED"
    assert client.names() == []
    client.prepare("new")


def test_bytes_that_are_no_http_do_no_harm(shared_server: Server, client: Client) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000):
        with socket.socket(socket.AF_UNIX) as connection, suppress(BrokenPipeError, ConnectionResetError):
            connection.connect(str(shared_server.address))
            connection.sendall(data)
    client.prepare("a")
    assert client.health() == "SERVING"


def test_unknown_call_is_unimplemented(client: Client) -> None:
    status, _ = refused(client.channel.unary_unary("/containerd.services.snapshots.v1.Snapshots/Rebase"), b"")
    assert status == "UNIMPLEMENTED"
    status, _ = refused(client.channel.unary_unary("/other.Service/Call"), b"")
    assert status == "UNIMPLEMENTED"
