"""`python -m benchmarks.snapshots`: calls a second of `layerstore-snapshotter`, and of containerd's own snapshotter.

Clients repeat Prepare, Commit and Remove on one parent, over the API of containerd's snapshot service. The snapshotter
is asked directly, and through a private containerd that has it as a proxy plugin; containerd's own overlayfs
snapshotter is asked through the same containerd. With `--snapshots` there are many others at the same time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from layerstore_containerd.messages import CALLS

_PATIENCE: Final = 60
#: containerd's garbage collection removes snapshots without this label that no image and no container has.
_KEPT: Final = {"containerd.io/gc.root": "1"}


@dataclass(frozen=True)
class Contender:
    """A snapshotter, as clients reach it.

    Attributes:
        name: what the table calls it.
        address: the socket.
        snapshotter: its name there.
        processes: whose processor time counts.
    """

    name: str
    address: Path
    snapshotter: str
    processes: Sequence[int]


class Client:
    """A connection to a contender."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        # Each client has a connection of its own, as processes would have.
        self._channel = grpc.insecure_channel(
            f"unix:{contender.address}", options=[("grpc.use_local_subchannel_pool", 1)]
        )

    def call(self, name: str, /, **fields: Any) -> Any:
        """Call, and return the answer; of a list, the number of snapshots."""
        call = CALLS[name]
        request = call.request(snapshotter=self._contender.snapshotter, **fields).SerializeToString()
        options: dict[str, Any] = {"metadata": (("containerd-namespace", "bench"),), "timeout": _PATIENCE}
        if call.streams:
            parts = self._channel.unary_stream(call.path, response_deserializer=call.answer.FromString)
            return sum(len(part.info) for part in parts(request, **options))
        return self._channel.unary_unary(call.path)(request, **options)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def main() -> None:
    """Measure, and print a table."""
    arguments = _parse()
    with tempfile.TemporaryDirectory(prefix="layerstore-bench-", dir=arguments.work) as work, ExitStack() as stack:
        # Sockets need short paths.
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lsb-")))
        server = stack.enter_context(_snapshotter(Path(work), run, arguments.driver))
        contenders = [Contender(f"layerstore, {arguments.driver}", run / "s.sock", "layerstore", [server])]
        engine = None if arguments.direct else stack.enter_context(_containerd(Path(work), run))
        if engine is not None:
            through = run / "c.sock"
            contenders.append(
                Contender(f"layerstore, {arguments.driver}, in containerd", through, "layerstore", [server, engine])
            )
            contenders.append(Contender("containerd's own overlayfs", through, "overlayfs", [engine]))
        print("| snapshotter | other snapshots | clients | calls a second | processor time of a call, ms | list, s |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for contender in contenders:
            _prepare(contender)
            for others in sorted({0, arguments.snapshots}):
                _add(contender, others)
                for clients in arguments.clients:
                    print(_row(contender, others, clients, arguments.seconds), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshots", description=main.__doc__)
    parser.add_argument("--driver", default="overlay2", help="the driver of the snapshotter (default: overlay2)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="(default: 1 8 32)")
    parser.add_argument("--seconds", type=float, default=10, help="the length of each measurement (default: 10)")
    parser.add_argument("--snapshots", type=int, default=0, metavar="N", help="measure also with N others (default: 0)")
    parser.add_argument("--direct", action="store_true", help="without containerd")
    parser.add_argument("--work", default="/var/tmp", help="where the stores are (default: /var/tmp)")
    return parser.parse_args()


@contextmanager
def _snapshotter(work: Path, run: Path, driver: str) -> Iterator[int]:
    words = [sys.executable, "-m", "layerstore_containerd", "--root", str(work / "root"), "--driver", driver]
    with _process([*words, "--address", str(run / "s.sock")], run / "s.sock") as number:
        yield number


@contextmanager
def _containerd(work: Path, run: Path) -> Iterator[int | None]:
    if os.geteuid() or shutil.which("containerd") is None:
        yield None
        return
    config = run / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{work}/containerd"\nstate = "{run}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{run}/c.sock"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\npath = "{work}/opt"\n'
        f'[proxy_plugins.layerstore]\ntype = "snapshot"\naddress = "{run}/s.sock"\n'
    )
    with _process(["containerd", "--config", str(config), "--log-level", "error"], run / "c.sock") as number:
        yield number


@contextmanager
def _process(words: list[str], address: Path) -> Iterator[int]:
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            with grpc.insecure_channel(f"unix:{address}") as channel:
                grpc.channel_ready_future(channel).result(_PATIENCE)
            yield process.pid
        finally:
            process.terminate()


def _prepare(contender: Contender) -> None:
    client = Client(contender)
    client.call("Prepare", key="first", labels=_KEPT)
    client.call("Commit", name="base", key="first", labels=_KEPT)
    client.close()


def _add(contender: Contender, others: int) -> None:
    client = Client(contender)
    for number in range(others):
        client.call("Prepare", key=f"other {number}", parent="base", labels=_KEPT)
    client.close()


def _row(contender: Contender, others: int, count: int, seconds: float) -> str:
    clients = [Client(contender) for _ in range(count)]
    done = [0] * count
    end = time.monotonic() + seconds

    def repeat(number: int) -> None:
        client = clients[number]
        while time.monotonic() < end:
            key = f"{number} {done[number]}"
            client.call("Prepare", key=f"active {key}", parent="base", labels=_KEPT)
            client.call("Commit", name=f"committed {key}", key=f"active {key}", labels=_KEPT)
            client.call("Remove", key=f"committed {key}")
            done[number] += 3

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(count)]
    before, started = _processor_time(contender), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, used = time.monotonic() - started, _processor_time(contender) - before
    started = time.monotonic()
    found = clients[0].call("List")
    listing = time.monotonic() - started
    assert found == others + 1, f"{found} snapshots are left, and not {others + 1}"
    for client in clients:
        client.close()
    calls = sum(done)
    return (
        f"| {contender.name} | {others:,} | {count} | {calls / took:.0f} | {used / calls * 1000:.2f} | {listing:.3f} |"
    )


def _processor_time(contender: Contender) -> float:
    """Return what the contender's processes have used, in seconds: fields 14 and 15 of proc_pid_stat(5)."""
    ticks = 0
    for process in contender.processes:
        fields = Path("/proc", str(process), "stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
