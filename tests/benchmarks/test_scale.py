"""The model of a fleet: its arithmetic, and that docs/scale.md has its table."""

from __future__ import annotations

import pytest

from benchmarks.contenders import CHECKOUT
from benchmarks.scale import Level, cost, peer_to_peer, table

ORIGIN = Level("origin", 1, 100.0)


def test_without_mirrors_the_origin_sends_a_copy_to_each_node() -> None:
    found = cost([ORIGIN], 50, 10.0, node_rate=100.0, unpacked=100.0)
    assert (found.seconds, found.limit, found.origin) == (5.0, "origin", 500.0)


def test_the_slowest_level_decides() -> None:
    mirrors = Level("mirrors", 5, 20.0)
    found = cost([ORIGIN, mirrors], 50, 10.0, node_rate=100.0, unpacked=100.0)
    assert (found.seconds, found.limit, found.origin, found.sender) == (5.0, "mirrors", 50.0, 100.0)


@pytest.mark.parametrize(
    ("node_rate", "unpacked", "limit"), [(1.0, 9.0, "a node's link"), (9.0, 1.0, "unpacking on a node")]
)
def test_a_slow_node_decides(node_rate: float, unpacked: float, limit: str) -> None:
    found = cost([ORIGIN, Level("mirrors", 10, 1000.0)], 10, 10.0, node_rate=node_rate, unpacked=unpacked)
    assert (found.seconds, found.limit) == (10.0, limit)


def test_between_peers_the_origin_sends_few_copies_whatever_the_number_of_nodes() -> None:
    few, many = (peer_to_peer(ORIGIN, nodes, 10.0, node_rate=1.0, unpacked=9.0) for nodes in (10, 100_000))
    assert few.origin == many.origin == 30.0
    assert few.seconds <= many.seconds <= 10.0


def test_the_document_has_the_table() -> None:
    text = (CHECKOUT / "docs" / "scale.md").read_text()
    assert "\n".join(table(10_000, 350e6, 20e6)) in text
