"""What a report says of a failed test: what happened, in a few lines, and where the driver's author should look."""

from __future__ import annotations

import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any, Final

from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.watch import HOOKS

#: No more lines of a message, and characters of a line, than these.
_LINES: Final = 12
_WIDTH: Final = 240
#: Lines that pytest adds to explain itself.
_NOISE: Final = re.compile(r"^\s*(?:Use -v+ to get (?:more|the full) diff|\.\.\.Full output truncated.*)$")


@dataclass(frozen=True)
class Crash:
    """A failure in one line."""

    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Failure:
    """What a report says of a failed test. pytest shows it in the place of a traceback.

    Attributes:
        message: what happened.
        where: where to look, the most likely place first.
        demand, loss: what the contract demands, and what a user would lose otherwise.
    """

    message: str
    where: tuple[str, ...]
    demand: str
    loss: str

    @property
    def reprcrash(self) -> Crash:
        """What pytest shows where it has one line for a failure."""
        return Crash(" ".join(self.message.split()))

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text."""
        yield f"the contract:   {self.demand}"
        yield f"what is lost:   {self.loss}"
        yield "what happened:"
        yield from (f"  {line}" for line in self.message.splitlines())
        if self.where:
            yield "where to look:"
            yield from (f"  {line}" for line in self.where)

    def toterminal(self, writer: Any) -> None:
        """Write the text as pytest does with a traceback."""
        for line in self.lines():
            writer.line(line)


def what_happened(error: BaseException) -> str:
    """Return an error's message: for a comparison of the kit, what differs."""
    text = str(error)
    if isinstance(error, AssertionError):
        # pytest adds the source and the values of the comparison after a message of the kit's own.
        own, found, compared = text.partition("\nassert ")
        if found and ("\n" in own or " == " not in compared):
            text = own
        text = text or "a comparison of the kit failed"
    elif type(error).__name__ == "Failed":  # pytest.fail and pytest.raises
        text = re.sub(r"^DID NOT RAISE (?:<class ')?(?:\w+\.)*(\w+)(?:'>)?$", r"no \1 was raised", text)
    else:
        text = f"{type(error).__name__}: {text}"
    first, _, rest = text.partition("\n")
    # pytest indents the lines of a message.
    lines = [first, *textwrap.indent(textwrap.dedent(rest), "  ").splitlines(), *getattr(error, "__notes__", ())]
    if isinstance(error, BaseExceptionGroup):
        lines += [f"- {what_happened(one)}" for one in error.exceptions]
    return shortened(lines)


def shortened(lines: Iterable[str]) -> str:
    """Return the first lines of a text, none of them too long."""
    kept = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in lines if not _NOISE.match(line)]
    while kept and not kept[-1].strip():
        kept.pop()
    more = len(kept) - _LINES
    return "\n".join([*kept[:_LINES], f"… and {more} more lines"] if more > 1 else kept)


def where_to_look(error: BaseException, demand: str, test: Any, rig: DriverRig | None, factory: Any) -> tuple[str, ...]:
    """Return where the cause may be: the driver's line that raised, the driver's hooks, and the test.

    Args:
        error: the error.
        demand: what the contract demands; it names hooks in backticks.
        test: the test's function.
        rig: the rig that the test has used, if it could be made.
        factory: the driver's class, or a function that returns a driver.
    """
    places = []
    if (own := _own_frame(error, rig.instance if rig is not None else factory)) is not None:
        code, line = own
        places.append(f"{_place(code.co_filename, line)}, in {code.co_name}")
    if rig is not None:
        named = [name for name in re.findall(r"`(\w+)`", demand) if name in HOOKS]
        called = [name for name in rig.called if name not in ("capabilities", "exists", "layer_ids")]
        for name in dict.fromkeys(named or called):
            function = rig.implementation(name)
            if function is None:
                places.append(f"the hook {name}, which the driver does not have: the fallback answers")
            else:
                code = inspect.unwrap(function).__code__
                places.append(f"the hook {name}: {_place(code.co_filename, code.co_firstlineno)}")
    code = inspect.unwrap(test).__code__
    places.append(f"the test {code.co_name}: {_place(code.co_filename, code.co_firstlineno)}")
    return tuple(dict.fromkeys(places))


def _own_frame(error: BaseException, driver: object) -> tuple[CodeType, int] | None:
    """Return the code and the line in which the driver was when an error, or its cause, was raised."""
    own = _files_of(driver)
    found = None
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        trace: TracebackType | None = one.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.startswith(own):
                found = trace.tb_frame.f_code, trace.tb_lineno
            trace = trace.tb_next
        one = one.__cause__ or one.__context__
    return found


def _files_of(driver: object) -> tuple[str, ...]:
    """Return the directories, and the files without a directory of their own, of a driver's code."""
    kind = driver if isinstance(driver, type) else type(driver)
    classes = kind.__mro__ if kind.__module__ != "builtins" else (driver,)
    found = []
    for one in classes:
        name = getattr(one, "__module__", "builtins")
        package = sys.modules.get(name.rpartition(".")[0] or name) if name != "builtins" else None
        if package is None or name.partition(".")[0] == "layerstore_core":
            continue
        places = [f"{place}{os.sep}" for place in getattr(package, "__path__", ())]
        found += places or [file for file in [getattr(sys.modules[name], "__file__", None)] if file]
    return tuple(found)


def _place(name: str, line: int) -> str:
    here = os.getcwd() + os.sep
    return f"{name.removeprefix(here)}:{line}"
