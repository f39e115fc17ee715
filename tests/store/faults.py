"""Injected faults: in the hooks of the driver, and in the system calls with which records are written."""

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

#: The system calls of the code that writes records.
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
_HELPING_MODULES = (
    "contextlib",
    "pathlib",
    "tempfile",
    "os",
    "layerstore_core.tree.remove",
    "layerstore_core.base.descriptors",
    "layerstore_core.base.inside",
)
_RECORD_MODULES = (
    "layerstore_core.records.",
    "layerstore_core.locking.",
    "layerstore_core.base.atomic",
    "layerstore_core.store.registration.layer",
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
    """Wrap one hook of a store's driver for the length of a `with` block.

    Args:
        store: the store with the driver.
        hook: the name of the hook.
        before: called before the driver acts.
        after: called after the driver has acted.
    """

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
    """A function whose first `skip` calls do nothing, and whose next `times` calls raise an error."""

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
    """A patch of the system calls that write records, which lets one call fail.

    Attributes:
        seen: the names of the calls so far.

    Args:
        monkeypatch: undoes the patch.
        fail_at: the number of the call that fails, counted from 0; `None` lets none fail, to count them.
        fail: called there first; if it returns, the call fails with `EIO`.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fail_at: int | None, fail: Callable[[], object] | None = None
    ) -> None:
        self.seen: list[str] = []
        self._fail_at = fail_at
        self._fail = fail
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        monkeypatch.setattr(
            "layerstore_core.base.durability.FlushPoint.flush", lambda point: self._count("syncfs", point)
        )

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            # Opening the directories on the way to a file is not counted as a step.
            walks = name == "open" and len(args) > 1 and args[1] & os.O_PATH
            if not walks and _called_by_record_module():
                self._count(name, args[0])
                if name == "fsync":  # no power cut is tested here, and fsync takes time
                    return None
            return real(*args, **kwargs)

        return call

    def _count(self, name: str, what: object) -> None:
        self.seen.append(name)
        if len(self.seen) - 1 == self._fail_at:
            if self._fail is not None:
                self._fail()
            raise OSError(errno.EIO, os.strerror(errno.EIO), what if isinstance(what, (str, bytes)) else str(what))


def _called_by_record_module() -> bool:
    frame = sys._getframe(2)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_RECORD_MODULES):
            return True
        if not module.startswith(_HELPING_MODULES):
            return False
        frame = frame.f_back
    return False
