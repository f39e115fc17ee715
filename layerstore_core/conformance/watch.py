"""A hook wrapper that is told of every call of a driver: it counts, delays, fails, or kills."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from layerstore_core.driver import hookspecs
from layerstore_core.driver.hookspecs import hookimpl

#: All hooks of the contract.
HOOKS: Final = tuple(name for name, value in vars(hookspecs).items() if hasattr(value, "layerstore_spec"))

#: Called with the hook's name, and with `"before"` or `"after"`.
OnCall = Callable[[str, str], None]


class Watch:
    """Stands around all hooks of a driver.

    Args:
        on_call: called before each call, and after each that has not failed; what it raises, the call raises.
    """

    def __init__(self, on_call: OnCall) -> None:
        self.on_call = on_call


def _around(name: str) -> Callable[[Watch], Generator[None, Any, Any]]:
    @hookimpl(wrapper=True)
    def around(self: Watch) -> Generator[None, Any, Any]:
        self.on_call(name, "before")
        result = yield
        try:
            self.on_call(name, "after")
        except BaseException:
            # Nobody else will: the caller never sees the stream.
            if hasattr(result, "close"):
                result.close()
            raise
        return result

    return around


for _name in HOOKS:
    setattr(Watch, _name, _around(_name))
