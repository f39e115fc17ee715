"""The server: from the first socket to the last call."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc

from layerstore_containerd.forward import forward_connections
from layerstore_containerd.health import Health
from layerstore_containerd.metrics import Metrics
from layerstore_containerd.service import SnapshotService
from layerstore_containerd.sockets import listening_path, private_files, publish, starting_at, withdraw
from layerstore_core import Snapshots
from layerstore_core.errors import SnapshotDoesNotExist
from layerstore_core.log import logger
from layerstore_core.sdk import notify_systemd

#: Calls that are worked on at once; further ones wait.
_THREADS: Final = 64
#: Calls that may wait or run at once, each with a message of at most 4 MiB. A further one is refused.
_CALLS: Final = 512
#: Seconds that running calls have when the server is to stop. A second signal ends them at once.
GRACE: Final = 30
#: Seconds that clients have for reading last answers.
_LAST_ANSWERS: Final = 1
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 4 << 20),
)


@dataclass(frozen=True)
class ServerOptions:
    """Where a server listens.

    Attributes:
        address: the path of the socket.
        passed: the socket of this path that systemd has passed; `None`: the server makes it.
        metrics: host and port for Prometheus; `None` for nowhere.
        grace: seconds that running calls have when the server is to stop.
    """

    address: Path
    passed: socket.socket | None = None
    metrics: tuple[str, int] | None = None
    grace: float = GRACE


def serve(snapshots: Snapshots, options: ServerOptions) -> None:
    """Serve snapshots until a signal (SIGTERM, SIGINT, SIGHUP) says that it is enough; running calls then end.

    To be called in the main thread. The caller closes `snapshots` afterwards.

    Raises:
        AddressInUse: another server has the address.
        OSError: the socket cannot be made.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="call") as executor:
        # Leaving this waits for calls whose clients have gone away.
        asyncio.run(_serve(snapshots, options, executor))


async def _serve(snapshots: Snapshots, options: ServerOptions, executor: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()

    def answers() -> None:
        try:
            snapshots.stat("layerstore health check")
        except SnapshotDoesNotExist:
            pass

    stopping = _StopSignals(loop)
    metrics = Metrics(snapshots)
    service = SnapshotService(snapshots, executor, metrics)
    health = Health(lambda: loop.run_in_executor(executor, answers))
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_CALLS)
    server.add_generic_rpc_handlers((service.handler(),))
    health.add_to(server)
    await health.update()
    async with AsyncExitStack() as stack:
        if options.metrics is not None:
            stack.callback(metrics.serve(*options.metrics))
        async with _listening(server, options):
            watching = asyncio.create_task(health.watch())
            notify_systemd("READY=1")
            logger.info("serving at {}", options.address)
            await stopping.first.wait()
            notify_systemd("STOPPING=1")
            logger.info("stopping: waiting for running calls")
            watching.cancel()
            await health.end()
        await _stop(server, service, health, stopping, options.grace)
    logger.info("stopped")


async def _stop(server: Any, service: SnapshotService, health: Health, stopping: _StopSignals, grace: float) -> None:
    """Take no more calls, and wait for those that run."""
    service.refuse()
    waiting = [asyncio.create_task(stopping.second.wait()), asyncio.create_task(service.wait_until_idle())]
    await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
    health.end_streams()
    # What is left are clients that are reading their answers.
    await server.stop(0 if stopping.second.is_set() else _LAST_ANSWERS)
    for task in waiting:
        task.cancel()


@asynccontextmanager
async def _listening(server: Any, options: ServerOptions) -> AsyncIterator[None]:
    """Let clients find the server in a block."""
    path = options.address
    with starting_at(path, is_named=options.passed is not None):
        with private_files():
            server.add_insecure_port(f"unix:{quote(str(listening_path(path)))}")
        await server.start()
        identity = publish(path) if options.passed is None else None
    forwarding = await forward_connections(options.passed, listening_path(path)) if options.passed else None
    try:
        yield
    finally:
        if identity is not None:
            withdraw(path, identity)
        if forwarding is not None:
            forwarding.close()  # new connections wait at systemd's socket for the next server


class _StopSignals:
    """The signals that end the server.

    Args:
        loop: the loop that runs in the main thread.

    Attributes:
        first: set by the first of them.
        second: set by the second.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # A signal that the parent process chose to ignore (nohup) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
