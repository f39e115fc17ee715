"""`python -m benchmarks.snapshot_calls`: how many snapshots a second can be prepared, committed and removed.

Some clients at once, each with a connection of its own, go through Prepare, Commit and Remove of an empty snapshot.
They ask our server directly, as containerd does; and containerd, for its own overlayfs snapshotter and for ours, which
includes its database of names. With `--snapshots 10000` it is measured again when there are so many. Only as root.

After each rate comes the processor time of the servers for one of the calls, in milliseconds. Other work of the machine
affects it less.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
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


def rate(
    address: Path, snapshotter: str, clients: int, seconds: float, label: str, *, servers: Sequence[Path]
) -> tuple[float, float]:
    """Measure.

    Returns:
        How many snapshots a second are prepared, committed and removed; the milliseconds of processor time that the
        processes at `servers` take for one call.
    """
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

    processes = [_process_at(server) for server in servers]
    before, began = _processor_time(processes), time.monotonic()
    _at_once(clients, work)
    took, used = time.monotonic() - began, _processor_time(processes) - before
    return sum(done) / took, used / (sum(done) * 3) * 1000


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


def _process_at(address: Path) -> int:
    """Return the ID of the process that listens at a socket; see SO_PEERCRED in unix(7)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process: int = struct.unpack("3i", credentials)[0]
    return process


def _processor_time(processes: Sequence[int]) -> float:
    """Return what processes have used, in seconds: fields 14 and 15 of proc_pid_stat(5)."""
    ticks = 0
    for process in processes:
        fields = Path("/proc", str(process), "stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print the rates."""
    parser = argparse.ArgumentParser(description="Prepare, Commit and Remove: calls of containerd's snapshot service.")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--snapshots", type=int, default=0, help="measure again with so many snapshots")
    parser.add_argument("--directly", action="store_true", help="our server only, without containerd")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("this needs root and containerd")
    found: dict[str, dict[str, float]] = {}
    with short_directory(arguments.work) as work, both(work) as (ctr, _, address):
        theirs = Path(ctr[2])
        targets = {
            _DIRECTLY: (address, "", (address,)),
            f"{OURS} in containerd": (theirs, OURS, (address, theirs)),
            f"{OWN} in containerd": (theirs, OWN, (theirs,)),
        }
        for count in (0, arguments.snapshots) if arguments.snapshots else (0,):
            if count and arguments.directly:
                fill(address, "", count)
            elif count:  # those that containerd makes are our server's, too
                fill(theirs, OURS, count)
                fill(theirs, OWN, count)
            for name, (at, snapshotter, servers) in targets.items():
                if arguments.directly and name != _DIRECTLY:
                    continue
                title = f"{name}, {count} snapshots"
                row = found.setdefault(title, {})
                for clients in _CLIENTS:
                    found_here = rate(at, snapshotter, clients, arguments.seconds, f"c{count}", servers=servers)
                    row[str(clients)], row[f"{clients}: ms"] = round(found_here[0], 1), round(found_here[1], 2)
                print(f"{title:42} " + " ".join(f"{each:>8}" for each in row.values()), flush=True)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"seconds": arguments.seconds, "rates": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
