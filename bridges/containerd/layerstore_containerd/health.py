"""gRPC's health service: whether the snapshotter can answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from layerstore_containerd.messages import SERVICE
from layerstore_core.log import logger

#: Seconds between two checks, and the longest that one may take.
_INTERVAL: Final = 10


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc]  # it has no types
    """The service, whose streams end with the server. gRPC would have to break them off, and to log that."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802  (the name of the call)
        """Tell a client each state until the last."""
        watching = asyncio.create_task(super().Watch(request, context))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([watching, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watching, ended):
                task.cancel()

    def end_streams(self) -> None:
        """End all streams."""
        self._ended.set()


class Health:
    """The state that clients of the health service see, for the whole server and for the snapshot service.

    Args:
        check: asks for something of the snapshots; if it raises, or takes too long, the state is "not serving".

    Attributes:
        servicer: what answers, for gRPC.
    """

    def __init__(self, check: Callable[[], Awaitable[object]]) -> None:
        self._check = check
        self.servicer = _Servicer()
        self._serves: bool | None = None

    def add_to(self, server: Any) -> None:
        """Add the service to gRPC's server."""
        health_pb2_grpc.add_HealthServicer_to_server(self.servicer, server)

    async def watch(self) -> None:
        """Check again and again, until this is cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(_INTERVAL)

    async def update(self) -> None:
        """Check once."""
        try:
            await asyncio.wait_for(self._check(), _INTERVAL)
        except Exception as error:
            serves, reason = False, str(error) or type(error).__name__
        else:
            serves, reason = True, ""
        if serves == self._serves:
            return
        if reason:
            logger.error("the snapshots cannot be used: {}", reason)
        elif self._serves is False:
            logger.warning("the snapshots can be used again")
        self._serves = serves
        state = health_pb2.HealthCheckResponse.SERVING if serves else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self.servicer.set(service, state)

    async def end(self) -> None:
        """Say that the server is about to end."""
        await self.servicer.enter_graceful_shutdown()

    def end_streams(self) -> None:
        """End the streams of clients that wait for another state: there will be none."""
        self.servicer.end_streams()
