"""Faults, put in where the driver is called and where records are written."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from layerstore_core import LayerStore, hookimpl

#: What the code that keeps records asks of the system.
CALLS = (
    "open",
    "mkdir",
    "chmod",
    "fchmod",
    "rename",
    "replace",
    "fsync",
    "write",
    "pwrite",
    "unlink",
    "rmdir",
    "scandir",
)
_ON_THE_WAY = (
    "contextlib",
    "pathlib",
    "tempfile",
    "os",
    "layerstore_core.tree.remove",
    "layerstore_core.base.descriptors",
    "layerstore_core.base.inside",
)
_RECORD_KEEPERS = (
    "layerstore_core.records.",
    "layerstore_core.locking.",
    "layerstore_core.base.atomic",
    "layerstore_core.store.registration",
    "layerstore_core.store.writable",
)


@contextmanager
def around(
    store: LayerStore,
    hook: str,
    *,
    before: Callable[[], object] | None = None,
    after: Callable[[], object] | None = None,
) -> Iterator[None]:
    """A wrapper around one hook of a store's driver, which calls something before the driver acts, or after."""

    @hookimpl(wrapper=True)
    def wrapper() -> Iterator[None]:
        if before is not None:
            before()
        result = yield
        if after is not None:
            after()
        return result

    plugin = SimpleNamespace(**{hook: wrapper})
    name = store.driver.plugins.register(plugin, f"fault of {hook}")
    try:
        yield
    finally:
        store.driver.plugins.unregister(name=name)


class FailingCall:
    """Raises the first `times` times that it is called, after having let `skip` calls pass."""

    def __init__(self, error: BaseException, *, skip: int = 0, times: int = 1) -> None:
        self._error = error
        self._skip = skip
        self._times = times
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self._skip < self.calls <= self._skip + self._times:
            raise self._error


class FaultySystem:
    """Stands before the system's calls, as far as records are concerned, and lets one of them fail.

    Args:
        fail_at: which one, counted from 0; `None`: none, for counting them.
        fail: what happens there instead of an error.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fail_at: int | None, fail: Callable[[], object] | None = None
    ) -> None:
        self.seen: list[str] = []
        self._fail_at = fail_at
        self._fail = fail
        for name in CALLS:
            monkeypatch.setattr(os, name, self._stand_before(name, getattr(os, name)))
        monkeypatch.setattr(
            "layerstore_core.base.durability.FlushPoint.flush", lambda point: self._count("syncfs", point)
        )

    def _stand_before(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            # Going through the directories on the way is no step of its own.
            walks = name == "open" and len(args) > 1 and args[1] & os.O_PATH
            if not walks and _called_by_record_keeper():
                self._count(name, args[0])
                if name == "fsync":  # nobody cuts the power here, and it costs time
                    return None
            return real(*args, **kwargs)

        return call

    def _count(self, name: str, what: object) -> None:
        self.seen.append(name)
        if len(self.seen) - 1 == self._fail_at:
            if self._fail is not None:
                self._fail()
            raise OSError(errno.EIO, os.strerror(errno.EIO), what if isinstance(what, (str, bytes)) else str(what))


def _called_by_record_keeper() -> bool:
    frame = sys._getframe(2)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_RECORD_KEEPERS):
            return True
        if not module.startswith(_ON_THE_WAY):
            return False
        frame = frame.f_back
    return False
