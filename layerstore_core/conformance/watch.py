"""A hook wrapper that sees every call of a driver, to count calls, or to let them fail or kill the process."""

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
    """A wrapper of all hooks of a driver.

    Args:
        on_call: called before each call, and after each call that has not failed. The call raises what `on_call`
            raises.
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
            # The caller never gets the stream, so it cannot close it.
            if hasattr(result, "close"):
                result.close()
            raise
        return result

    return around


for _name in HOOKS:
    setattr(Watch, _name, _around(_name))
