"""Hooks that are called directly behave as with pluggy; what only pluggy can do is declined."""

from __future__ import annotations

import functools
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pluggy
import pytest

from layerstore_core.driver import hookspecs
from layerstore_core.driver.hooks import PROJECT, DirectHooks, direct_hooks, hookimpl, hookspec
from layerstore_core.driver.plugin_manager import make_plugins
from layerstore_core.errors import DriverContractError

OPTIONS = ("wrapper", "hookwrapper", "optionalhook", "tryfirst", "trylast", "specname")


class Fallback:
    @hookimpl(trylast=True)
    def status(self) -> list[tuple[str, str]]:
        return [("from", "fallback")]

    @hookimpl(trylast=True)
    def metadata(self, layer_id: str) -> dict[str, str]:
        return {"ID": layer_id}


class Base:
    calls: list[tuple[Any, ...]]

    def __init__(self) -> None:
        self.calls = []

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Any) -> None:
        self.calls.append(("create", layer_id, parent_id, storage_opt))

    @hookimpl
    def remove(self, layer_id: str) -> None:
        raise OSError(layer_id)

    def put(self, layer_id: str) -> str:
        return "not marked"


class Plain(Base):
    """Takes fewer arguments, in another order; overrides; returns nothing where the fallback knows."""

    @property
    def broken(self) -> None:
        raise AssertionError("a property is evaluated")

    @hookimpl
    def create(self, parent_id: str, layer_id: str) -> None:
        self.calls.append((parent_id, layer_id))

    @hookimpl
    def metadata(self, layer_id: str, more: int = 0) -> dict[str, str] | None:
        return None if layer_id == "none" else {"mine": layer_id}

    @hookimpl
    def get(self, layer_id: str, mount_label: str) -> str:
        return f"/{layer_id}{mount_label}"

    def remove(self, layer_id: str) -> None:
        """Hide the hook of the base class: it is not marked."""


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("create", {"layer_id": "a", "parent_id": "b", "storage_opt": {}}),
    ("metadata", {"layer_id": "none"}),
    ("metadata", {"layer_id": "x"}),
    ("status", {}),
    ("get", {"layer_id": "x", "mount_label": "z"}),
    ("put", {"layer_id": "x"}),
    ("remove", {"layer_id": "x"}),
    ("cleanup", {}),
]


def results(hooks: Any) -> list[Any]:
    found: list[Any] = []
    for name, arguments in CALLS:
        try:
            found.append(getattr(hooks, name)(**arguments))
        except OSError as error:
            found.append(repr(error))
    return found


@pytest.mark.parametrize("driver", [Base, Plain])
def test_direct_calls_are_those_of_pluggy(driver: type[Base]) -> None:
    first, second = driver(), driver()
    direct = direct_hooks(hookspecs, first, Fallback())
    assert isinstance(direct, DirectHooks)
    manager = make_plugins("x", second, Fallback(), ())
    assert results(direct) == results(manager.hook)
    assert first.calls == second.calls != []
    assert direct.implemented_by(first) == {hook.name for hook in manager.get_hookcallers(second) or ()}


def test_a_driver_with_an_unknown_hook_is_left_to_pluggy() -> None:
    class Unknown(Plain):
        @hookimpl
        def no_hook(self) -> None: ...

    class UnknownArgument(Plain):
        @hookimpl
        def put(self, layer: str) -> None:  # type: ignore[override]
            ...

    for driver in (Unknown, UnknownArgument):
        assert direct_hooks(hookspecs, driver(), Fallback()) is None
        with pytest.raises(DriverContractError, match="driver x does not follow the contract"):
            make_plugins("x", driver(), Fallback(), ())


def in_instance() -> Any:
    driver = Plain()
    driver.put = hookimpl(lambda layer_id: layer_id)  # type: ignore[method-assign]
    return driver


def bound_in_instance() -> Any:
    driver, other = Plain(), Base()
    driver.remove = other.remove  # type: ignore[method-assign]
    return driver


def with_static_method() -> Any:
    class Static(Plain):
        @staticmethod
        @hookimpl
        def exists(layer_id: str) -> bool:
            return True

    return Static()


def with_marked_class_method() -> Any:
    class OfClass(Plain):
        @hookimpl
        @classmethod
        def exists(cls, layer_id: str) -> bool:
            return True

    return OfClass()


def with_wrapped_function() -> Any:
    class Wrapped(Plain):
        @hookimpl
        @functools.wraps(Base.create)
        def create(self, *arguments: Any) -> None:  # type: ignore[override]
            ...

    return Wrapped()


def with_slot() -> Any:
    class Slotted:
        __slots__ = ("put",)

    driver = Slotted()
    driver.put = hookimpl(lambda layer_id: layer_id)  # type: ignore[attr-defined]
    return driver


def with_directory_of_its_own() -> Any:
    class Odd(Plain):
        def __dir__(self) -> list[str]:
            return ["create"]

    return Odd()


@pytest.mark.parametrize(
    "make",
    [
        in_instance, bound_in_instance, with_static_method, with_marked_class_method, with_wrapped_function, with_slot,
        with_directory_of_its_own, lambda: Plain, lambda: sys,
    ],
)  # fmt: skip
def test_an_unusual_hook_is_left_to_pluggy(make: Any) -> None:
    assert direct_hooks(hookspecs, make(), Fallback()) is None


@pytest.mark.parametrize("option", OPTIONS)
def test_a_hook_with_an_option_is_left_to_pluggy(option: str) -> None:
    class Special(Plain):
        @hookimpl(**{option: "get" if option == "specname" else True})
        def put(self, layer_id: str) -> Any: ...

    assert direct_hooks(hookspecs, Special(), Fallback()) is None


def test_the_marks_are_those_of_pluggy() -> None:
    def of(marker: Any, options: dict[str, bool]) -> Any:
        return marker(**options)(lambda: None).layerstore_impl, marker(lambda: None).layerstore_impl

    for values in product([False, True], repeat=len(OPTIONS)):
        options = dict(zip(OPTIONS, values, strict=True))
        assert of(hookimpl, options) == of(pluggy.HookimplMarker(PROJECT), options)


def test_the_marks_of_specifications_are_those_of_pluggy() -> None:
    def of(marker: Any) -> Any:
        return marker(firstresult=True)(lambda: None).layerstore_spec, marker(lambda: None).layerstore_spec

    assert of(hookspec) == of(pluggy.HookspecMarker(PROJECT))
    with pytest.raises(TypeError, match="unknown: first_result"):
        hookspec(first_result=True)  # type: ignore[call-overload]


def test_a_driver_that_uses_pluggys_own_marker_is_called_directly() -> None:
    class Own:
        @pluggy.HookimplMarker(PROJECT)
        def put(self, layer_id: str) -> str:
            return layer_id

    hooks = direct_hooks(hookspecs, Own(), Fallback())
    assert hooks is not None
    assert hooks.put(layer_id="x") == "x"


def test_plugins_that_are_added_later_are_called(tmp_path: Path) -> None:
    program = f"""
import sys
from layerstore_core import LayerStore, hookimpl
from layerstore_core.driver import registry
registry.load_wrappers = list  # an example wrapper is installed
class Late:
    @hookimpl
    def status(self):
        return [("from", "late")]
with LayerStore.open(root={str(tmp_path)!r}, driver="vfs", durability="none") as store:
    assert not any(name.partition(".")[0] == "pluggy" for name in sys.modules)
    before = store.driver.status()
    store.driver.plugins.register(Late())
    print(before != store.driver.status() == [("from", "late")], "pluggy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
