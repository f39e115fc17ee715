"""Long lists: in parts that clients can take, and to clients that do not read them."""

from __future__ import annotations

import grpc
import pytest

from .client import Server, code

#: 80 snapshots with labels of 64 KiB each: a list of 5 MB, in parts of four or five.
COUNT, SIZE = 80, 1 << 16


@pytest.fixture(scope="module")
def full_server(shared_server: Server) -> Server:
    with shared_server.client() as client:
        for number in range(COUNT):
            client.prepare(f"k{number}", labels={"l": "v" * SIZE, "number": str(number)})
    return shared_server


def test_list_comes_in_parts_that_clients_take(full_server: Server) -> None:
    with full_server.client() as client:
        parts = list(client("List"))
    assert [info.name for part in parts for info in part.info] == [f"k{number}" for number in range(COUNT)]
    assert len(parts) > 10
    assert max(part.ByteSize() for part in parts) < 1 << 20
    assert all(part.info for part in parts)


def test_filter_that_drops_most_gives_one_part(full_server: Server) -> None:
    with full_server.client() as client:
        (part,) = client("List", filters=["labels.number==7", "labels.number==70"])
        assert [info.name for info in part.info] == ["k7", "k70"]
        assert list(client("List", filters=["labels.number==none"])) == []


def test_clients_that_do_not_read_their_lists_keep_nobody_from_calling(full_server: Server) -> None:
    """More lists than the server has threads; each ends with a window of HTTP/2 that is full."""
    with full_server.client() as idle, full_server.client() as client:
        lists = [idle("List") for _ in range(70)]
        firsts = [next(one) for one in lists]
        assert all(first.info[0].name == "k0" for first in firsts)
        for part in client("List"):
            for info in part.info:
                assert client.stat(info.name).name == info.name
        for one in lists:
            one.cancel()


def test_client_that_goes_away_in_a_list_leaves_the_server_as_it_was(full_server: Server) -> None:
    for _ in range(5):
        client = full_server.client()
        next(client("List"))
        client.close()
    with full_server.client() as client:
        assert len(client.names()) == COUNT
        cancelled = client("List")
        next(cancelled)
        cancelled.cancel()
        with pytest.raises(grpc.RpcError) as error:
            list(cancelled)
        assert code(error.value) == "CANCELLED"
    assert full_server.process.poll() is None
    assert "Traceback" not in full_server.log.read_text()


def test_snapshots_that_come_and_go_during_a_list_do_no_harm(full_server: Server) -> None:
    with full_server.client() as client:
        reading = client("List")
        seen = [info.name for info in next(reading).info]
        client.remove("k79")
        client.prepare("later")
        seen += [info.name for part in reading for info in part.info]
        assert [name for name in seen if name not in ("k79", "later")] == [f"k{number}" for number in range(COUNT - 1)]
        client.prepare("k79", labels={"l": "v" * SIZE})
        client.remove("later")
