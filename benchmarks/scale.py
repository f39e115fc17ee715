"""`python -m benchmarks.scale`: what a fleet's pull of one image costs, computed for docs/scale.md.

The model is a fluid one: bytes flow at the rate of the slowest link on their way, a link is shared evenly, and a level
passes bytes on while it receives them. So the time is the longest of: the time that one sender of a level needs for all
that it sends, and the time that a node needs to receive and unpack. Latencies, losses and protocol bytes are left out:
they are some percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_GIGABIT: Final = 1e9 / 8


@dataclass(frozen=True)
class Level:
    """The senders between the origin and the nodes at one level.

    Attributes:
        name: what they are.
        count: how many there are.
        rate: the rate of one's link, in bytes a second.
    """

    name: str
    count: int
    rate: float


@dataclass(frozen=True)
class Cost:
    """What a pull by all nodes costs.

    Attributes:
        seconds: the time until the last node has unpacked the image.
        limit: what takes that time.
        origin: the bytes that the origin sends.
        sender: the bytes that one sender of the last level sends.
    """

    seconds: float
    limit: str
    origin: float
    sender: float


def cost(levels: Sequence[Level], nodes: int, size: float, *, node_rate: float, unpacked: float) -> Cost:
    """Compute what it costs when all nodes pull an image that nobody but the origin has.

    Args:
        levels: the senders from the origin on, which is the first level.
        nodes: the number of nodes.
        size: the bytes that each node needs, compressed.
        node_rate: the rate of a node's link, in bytes a second.
        unpacked: the rate at which a node verifies and unpacks, in compressed bytes a second.
    """
    receivers = [*(level.count for level in levels[1:]), nodes]
    # A level never sends more copies than it has receivers, nor less than one for each.
    sent = [size * count / level.count for level, count in zip(levels, receivers, strict=True)]
    times = {level.name: each / level.rate for level, each in zip(levels, sent, strict=True)}
    times["a node's link"] = size / node_rate
    times["unpacking on a node"] = size / unpacked
    limit = max(times, key=lambda name: times[name])
    return Cost(times[limit], limit, sent[0] * levels[0].count, sent[-1])


def peer_to_peer(origin: Level, nodes: int, size: float, *, node_rate: float, unpacked: float, copies: int = 3) -> Cost:
    """Compute the same where nodes send what they have to each other, and a few of them ask the origin.

    Args:
        origin: the origin.
        nodes: the number of nodes.
        size: as for `cost`.
        node_rate: the rate of a node's link, in each direction.
        unpacked: as for `cost`.
        copies: how many copies the origin sends, because nodes ask before they know of each other.
    """
    times = {
        origin.name: copies * size / origin.rate,
        # Every copy but the first few is sent by a node: on average a node sends what it receives.
        "a node's link": size * (nodes - copies) / nodes / node_rate,
        "unpacking on a node": size / unpacked,
    }
    limit = max(times, key=lambda name: times[name])
    return Cost(times[limit], limit, copies * size, size * (nodes - copies) / nodes)


def table(nodes: int, size: float, changed: float) -> Iterator[str]:
    """Yield the lines of the table, in Markdown.

    Args:
        nodes: the number of nodes.
        size: the compressed bytes of the image.
        changed: those of the layers that are new since the version that the nodes have.
    """
    origin = Level("the origin's link", 1, 10 * _GIGABIT)
    region = Level("a region's mirror", 10, 25 * _GIGABIT)
    rack = Level("a rack's mirror", nodes // 40, 25 * _GIGABIT)
    node_rate, unpacked = 10 * _GIGABIT, size / 5.0
    ways = {
        "each node asks the origin": (origin,),
        "ten mirrors": (origin, region),
        f"ten mirrors, {rack.count} mirrors of racks": (origin, region, rack),
    }
    yield "| way | image | seconds | limited by | the origin sends | one mirror or node sends |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for what, wanted in (("whole", size), ("new layers", changed)):
        for way, levels in ways.items():
            yield _row(way, what, cost(levels, nodes, wanted, node_rate=node_rate, unpacked=unpacked))
        found = peer_to_peer(origin, nodes, wanted, node_rate=node_rate, unpacked=unpacked)
        yield _row("peer to peer", what, found)


def _row(way: str, what: str, found: Cost) -> str:
    sender = "-" if way.startswith("each") else f"{found.sender / 1e9:,.2f} GB"
    return f"| {way} | {what} | {found.seconds:,.1f} | {found.limit} | {found.origin / 1e9:,.1f} GB | {sender} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000, help="number of nodes [%(default)s]")
    parser.add_argument("--size", type=float, default=350e6, help="compressed bytes of the image [%(default)s]")
    parser.add_argument("--changed", type=float, default=20e6, help="compressed bytes of new layers [%(default)s]")
    options = parser.parse_args()
    print("\n".join(table(options.nodes, options.size, options.changed)))


if __name__ == "__main__":
    main()
