"""`python -m benchmarks.snapshot_calls`: how many snapshots a second can be prepared, committed and removed.

Some clients at once, each with a connection of its own, go through Prepare, Commit and Remove of an empty snapshot.
They ask our server directly, as containerd does; and containerd, for its own overlayfs snapshotter and for ours, which
includes its database of names. With `--snapshots 10000` it is measured again when there are so many. Only as root.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
from layerstore_containerd.messages import CALLS

from benchmarks.engines import OURS, OWN, both, short_directory

_DIRECTLY: Final = "our server"
_CLIENTS: Final = (1, 8, 32)
#: containerd's collector leaves such snapshots alone.
_KEPT: Final = {"containerd.io/gc.root": "bench"}
_FILLERS: Final = 32


class Client:
    """A client of a snapshot service, with a connection of its own."""

    def __init__(self, address: Path, snapshotter: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"unix:{address}", options=options)
        self._snapshotter = snapshotter

    def call(self, name: str, /, **fields: Any) -> None:
        """Make a call that has no answer that matters here."""
        one = CALLS[name]
        made: Callable[..., Any] = self._channel.unary_unary(one.path, response_deserializer=bytes)
        request = one.request(snapshotter=self._snapshotter, **fields).SerializeToString()
        made(request, metadata=(("containerd-namespace", "bench"),), timeout=60)

    def make(self, name: str) -> None:
        """Prepare and commit an empty snapshot."""
        self.call("Prepare", key=f"{name} active", labels=_KEPT)
        self.call("Commit", name=name, key=f"{name} active", labels=_KEPT)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def rate(address: Path, snapshotter: str, clients: int, seconds: float, label: str) -> float:
    """Return how many snapshots a second are prepared, committed and removed."""
    end = time.monotonic() + seconds
    done = [0] * clients

    def work(number: int) -> None:
        client = Client(address, snapshotter)
        while time.monotonic() < end:
            name = f"{label}-{clients}-{number}-{done[number]}"
            client.make(name)
            client.call("Remove", key=name)
            done[number] += 1
        client.close()

    began = time.monotonic()
    _at_once(clients, work)
    return sum(done) / (time.monotonic() - began)


def fill(address: Path, snapshotter: str, count: int) -> None:
    """Make committed snapshots that stay."""

    def work(number: int) -> None:
        client = Client(address, snapshotter)
        for one in range(number, count, _FILLERS):
            client.make(f"stays-{one}")
        client.close()

    _at_once(_FILLERS, work)


def _at_once(count: int, work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def main() -> None:
    """Measure, and print the rates."""
    parser = argparse.ArgumentParser(description="Prepare, Commit and Remove: calls of containerd's snapshot service.")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--snapshots", type=int, default=0, help="measure again with so many snapshots")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("this needs root and containerd")
    found: dict[str, dict[str, float]] = {}
    with short_directory(arguments.work) as work, both(work) as (ctr, _, address):
        theirs = Path(ctr[2])
        targets = {
            _DIRECTLY: (address, ""),
            f"{OURS} in containerd": (theirs, OURS),
            f"{OWN} in containerd": (theirs, OWN),
        }
        for count in (0, arguments.snapshots) if arguments.snapshots else (0,):
            if count:  # those that containerd makes are our server's, too
                fill(theirs, OURS, count)
                fill(theirs, OWN, count)
            for name, (at, snapshotter) in targets.items():
                title = f"{name}, {count} snapshots"
                row = found.setdefault(title, {})
                for clients in _CLIENTS:
                    row[str(clients)] = round(rate(at, snapshotter, clients, arguments.seconds, f"c{count}"), 1)
                print(f"{title:42} " + " ".join(f"{each:>8}" for each in row.values()), flush=True)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"seconds": arguments.seconds, "rates": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
