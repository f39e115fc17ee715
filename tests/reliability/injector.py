"""Raise an exception at any point at which a signal handler could raise one.

CPython runs signal handlers at three kinds of points: after a call has returned, before its result is stored; at the
beginning of a function; and at the jump back of a loop, which is equivalent to the end of the loop's first call. The
injector finds these points by tracing each instruction of the package's modules in one thread. So a point has a number,
and the same operation reaches it again under the same number.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final

_PACKAGES: Final = ("layerstore_core", "layerstore_vfs", "layerstore_overlay", "layerstore_btrfs")
_CALLS: Final = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW"})
_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE

Point = tuple[CodeType, int]


class Injector:
    """Counts points, and raises an exception at one of them.

    Args:
        at: the number of the point, counted from 1. 0 for none.
        error: returns the exception to raise.

    Attributes:
        points: the points that were passed.
        where: a description of the place where the exception was raised. `""` if it was not raised.
    """

    def __init__(self, at: int = 0, error: Callable[[], BaseException] = KeyboardInterrupt) -> None:
        self._at = at
        self._error = error
        self._plans: dict[CodeType, frozenset[int]] = {}
        self._left_for: FrameType | None = None
        self.points: list[Point] = []
        self.where = ""

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Count points for the length of a `with` block."""
        sys.settrace(self._begin)
        try:
            yield
        finally:
            sys.settrace(None)
            self._left_for = None

    def _begin(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _PACKAGES:
            frame.f_trace_lines = False
            return self._leave
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if frame.f_lasti <= 0 or event == "call":
            self._pass(frame)
        return self._step

    def _leave(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        # After a Python function that the interpreter itself has called, no handler runs.
        if event == "return" and frame.f_code.co_name != "__init__" and not frame.f_code.co_flags & _GENERATORS:
            self._left_for = frame.f_back
        return self._leave

    def _step(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "return":
            self._leave(frame, event, argument)
        elif event == "opcode" and self._left_for is frame:
            self._left_for = None
        elif event == "opcode":
            plan = self._plans.get(frame.f_code)
            if plan is None:
                plan = self._plans[frame.f_code] = _after_calls(frame.f_code)
            if frame.f_lasti in plan:
                self._pass(frame)
        return self._step

    def _pass(self, frame: FrameType) -> None:
        self.points.append((frame.f_code, frame.f_lasti))
        # Python discards exceptions that are raised in a finalizer. There the next point is taken.
        if 0 < self._at <= len(self.points) and not self.where and not _in_finalizer(frame):
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname} +{frame.f_lasti}"
            raise self._error()


def _after_calls(code: CodeType) -> frozenset[int]:
    """Return the offsets of instructions before which signal handlers run after a call.

    Offsets at which an exception would have another handler than in the call itself are left out.
    """
    found = set()
    table = _handlers(code)
    before = None
    for instruction in dis.get_instructions(code):
        # A tracer can raise only at the next instruction, which may be outside of the call's `try` block.
        same = before is not None and table.get(before.offset) == table.get(instruction.offset)
        if before is not None and before.opname in _CALLS and same:
            found.add(instruction.offset)
        before = instruction
    return frozenset(found)


def _in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _handlers(code: CodeType) -> dict[int, int]:
    """Return the offset of the exception handler for each offset."""
    return {
        offset: entry.target
        for entry in dis._parse_exception_table(code)  # type: ignore[attr-defined]
        for offset in range(entry.start, entry.end, 2)
    }
