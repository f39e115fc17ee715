"""containerd's snapshot service, over the snapshots of a store.

Calls are taken by an event loop and answered in threads. So a client that does not read its list keeps no thread, and
one that calls for each snapshot of a list, while it reads it, is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError

from layerstore_containerd import messages
from layerstore_containerd.filters import parse_filters
from layerstore_containerd.messages import CALLS, SERVICE, Call
from layerstore_containerd.metrics import Metrics, Outcome
from layerstore_containerd.refusals import InvalidRequest, NotSupported, Refusal, Stopping, refusal_of
from layerstore_core import MountSpec, Snapshot, SnapshotKind, Snapshots
from layerstore_core.errors import LayerStoreError
from layerstore_core.log import logger

T = TypeVar("T")

#: The least bytes of one part of a list, except for the last. Clients take messages of 4 MiB.
_PART: Final = 1 << 18
#: The most snapshots that are looked at in one go: a filter that drops most of them keeps no thread for long.
_LOOKED_AT: Final = 2000

_KINDS: Final = {
    SnapshotKind.VIEW: messages.KIND_VIEW,
    SnapshotKind.ACTIVE: messages.KIND_ACTIVE,
    SnapshotKind.COMMITTED: messages.KIND_COMMITTED,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The outcome of a call whose client has gone away, or whose time is over.
_CANCELLED: Final = grpc.StatusCode.CANCELLED.name


class SnapshotService:
    """The calls of the service. To be made, and used, in an event loop.

    Args:
        snapshots: what is served.
        executor: runs the calls.
        metrics: counts them.
    """

    def __init__(self, snapshots: Snapshots, executor: Executor, metrics: Metrics) -> None:
        self._snapshots = snapshots
        self._executor = executor
        self._metrics = metrics
        self._running = 0
        self._refuses = False
        self._idle = asyncio.Event()
        self._idle.set()

    def handler(self) -> Any:
        """Return what gRPC's server needs to hand calls to this object."""
        operations: dict[str, Callable[[Any], Any]] = {
            "Prepare": self._prepare,
            "View": self._view,
            "Mounts": self._mounts,
            "Commit": self._commit,
            "Remove": self._remove,
            "Stat": self._stat,
            "Update": self._update,
            "Usage": self._usage,
            "Cleanup": self._cleanup,
        }
        # Without functions that read and write messages gRPC passes bytes: a request that is none is refused here.
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(partial(self._answer, CALLS[name], operation))
            for name, operation in operations.items()
        }
        handlers["List"] = grpc.unary_stream_rpc_method_handler(self._list)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def refuse(self) -> None:
        """Take no more calls: the server is stopping. Clients may try again, at the next one."""
        self._refuses = True

    async def wait_until_idle(self) -> None:
        """Wait until no call is running."""
        await self._idle.wait()

    # How calls are answered

    async def _answer(self, call: Call, operation: Callable[[Any], Any], data: bytes, context: Any) -> bytes:
        with self._observing(call) as outcome:
            try:
                self._check_serving()
                answer = await self._in_thread(_run, call, operation, data)
            except Exception as error:
                refusal = _refused(call, error)
                outcome.code = refusal.code.name
            else:
                outcome.code = grpc.StatusCode.OK.name
                return answer
        await context.abort(refusal.code, refusal.message)
        raise AssertionError("abort raises")

    async def _list(self, data: bytes, context: Any) -> None:
        call = CALLS["List"]
        with self._observing(call) as outcome:
            try:
                self._check_serving()
                parts = self._parts(data)
                # A thread makes one part, and is free while the client reads it.
                while (part := await self._in_thread(next, parts, None)) is not None:
                    if part:
                        await context.write(part)
            except Exception as error:
                refusal = _refused(call, error)
                outcome.code = refusal.code.name
            else:
                outcome.code = grpc.StatusCode.OK.name
                return
        await context.abort(refusal.code, refusal.message)

    @contextmanager
    def _observing(self, call: Call) -> Iterator[Outcome]:
        self._running += 1
        self._idle.clear()
        try:
            with self._metrics.observing(call.name) as outcome:
                outcome.code = _CANCELLED
                yield outcome
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def _check_serving(self) -> None:
        if self._refuses:
            raise Stopping("the snapshotter is stopping; try again when it has started again")

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function in a thread. It goes on if the client goes away: a change is made whole, or not at all."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    # The calls

    def _prepare(self, request: Any) -> Any:
        mounts = self._snapshots.prepare(request.key, request.parent, dict(request.labels))
        return CALLS["Prepare"].answer(mounts=map(_mount, mounts))

    def _view(self, request: Any) -> Any:
        mounts = self._snapshots.view(request.key, request.parent, dict(request.labels))
        return CALLS["View"].answer(mounts=map(_mount, mounts))

    def _mounts(self, request: Any) -> Any:
        return CALLS["Mounts"].answer(mounts=map(_mount, self._snapshots.mounts(request.key)))

    def _commit(self, request: Any) -> Any:
        # containerd asks for another parent only if its configuration gives this snapshotter the capability "rebase".
        if request.parent and request.parent != self._snapshots.stat(request.key).parent:
            raise NotSupported(
                f"the parent of a snapshot cannot be changed when it is committed: {request.key!r} was to get "
                f'{request.parent!r}; take the capability "rebase" out of containerd\'s configuration'
            )
        self._snapshots.commit(request.name, request.key, dict(request.labels))
        return messages.Empty()

    def _remove(self, request: Any) -> Any:
        self._snapshots.remove(request.key)
        return messages.Empty()

    def _stat(self, request: Any) -> Any:
        return CALLS["Stat"].answer(info=_info(self._snapshots.stat(request.key)))

    def _update(self, request: Any) -> Any:
        info = request.info
        updated = self._snapshots.update(info.name, dict(info.labels), list(request.update_mask.paths))
        return CALLS["Update"].answer(info=_info(updated))

    def _usage(self, request: Any) -> Any:
        usage = self._snapshots.usage(request.key)
        return CALLS["Usage"].answer(size=usage.size, inodes=usage.inodes)

    def _cleanup(self, request: Any) -> Any:
        self._snapshots.cleanup()
        return messages.Empty()

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Yield the parts of a list; an empty one where nothing was found among the snapshots that were looked at."""
        call = CALLS["List"]
        wanted = parse_filters(_parsed(call, data).filters)
        infos: list[Any] = []
        size = looked_at = found = 0
        for snapshot in self._snapshots.walk():
            looked_at += 1
            if wanted is None or wanted(snapshot.key, snapshot.parent, snapshot.kind.value, snapshot.labels):
                info = _info(snapshot)
                infos.append(info)
                size += info.ByteSize()
            if size >= _PART or looked_at >= _LOOKED_AT:
                found += len(infos)
                yield call.answer(info=infos).SerializeToString()
                infos, size, looked_at = [], 0, 0
        found += len(infos)
        yield call.answer(info=infos).SerializeToString()
        logger.debug("List: {} snapshots", found)


def _run(call: Call, operation: Callable[[Any], Any], data: bytes) -> bytes:
    request = _parsed(call, data)
    started = time.perf_counter()
    answer: bytes = operation(request).SerializeToString()
    # Changes are logged by the core, with less verbosity.
    logger.debug("{} {}: {:.3f} s", call.name, _subject(request), time.perf_counter() - started)
    return answer


def _refused(call: Call, error: Exception) -> Refusal:
    refusal = refusal_of(error)
    if refusal.is_ours:
        # Where in the code it was is of use for a bug alone, and not for a full disk.
        bug = None if isinstance(error, LayerStoreError | OSError) else error
        logger.opt(exception=bug).error("{} failed: {}", call.name, refusal.message)
    else:
        logger.info("{} refused, {}: {}", call.name, refusal.code.name, refusal.message)
    return refusal


def _parsed(call: Call, data: bytes) -> Any:
    """Return the message of a request.

    Raises:
        InvalidRequest: the bytes are not such a message.
    """
    try:
        return call.request.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(
            f"the request of {call.name} is no {call.request.DESCRIPTOR.name}, or not in UTF-8"
        ) from error


def _subject(request: Any) -> str:
    """Return what a request is about, for the log."""
    parts = []
    for field in ("name", "key", "parent"):
        value = getattr(request, field, "")
        if value:
            parts.append(f"{field} {value!r:.300}")
    if hasattr(request, "info"):
        parts.append(f"key {request.info.name!r:.300}")
    return ", ".join(parts)


def _mount(mount: MountSpec) -> Any:
    return messages.Mount(type=mount.type, source=mount.source, options=mount.options)


def _info(snapshot: Snapshot) -> Any:
    info = messages.Info(
        name=snapshot.key, parent=snapshot.parent, kind=_KINDS[snapshot.kind], labels=dict(snapshot.labels)
    )
    _set_time(info.created_at, snapshot.created)
    _set_time(info.updated_at, snapshot.updated)
    return info


def _set_time(timestamp: Any, time: datetime) -> None:
    since = time - _EPOCH
    timestamp.seconds = since // timedelta(seconds=1)
    timestamp.nanos = since.microseconds * 1000
