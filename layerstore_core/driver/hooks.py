"""Marks for hooks, and calls of hooks, without pluggy where it has nothing to do.

A store with wrappers needs pluggy: they are called around a driver's hooks. Without wrappers, a hook is a method of the
driver, or else of the fallback, and this module calls it. pluggy takes longer to load than such a store to open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

PROJECT: Final = "layerstore"

if TYPE_CHECKING:
    import pluggy

    hookspec: Final = pluggy.HookspecMarker(PROJECT)
    hookimpl: Final = pluggy.HookimplMarker(PROJECT)
else:

    def _marker(attribute: str, **defaults: Any) -> Callable[..., Any]:
        def mark(function: Callable[..., Any] | None = None, **given: Any) -> Any:
            if not given.keys() <= defaults.keys():
                raise TypeError(f"unknown: {', '.join(given.keys() - defaults.keys())}; known: {', '.join(defaults)}")

            def marked(function: Callable[..., Any]) -> Callable[..., Any]:
                setattr(function, attribute, {**defaults, **given})
                return function

            return marked if function is None else marked(function)

        return mark

    #: Marks that pluggy reads. They are those of its `HookspecMarker` and `HookimplMarker`.
    hookspec = _marker(f"{PROJECT}_spec", firstresult=False, historic=False, warn_on_impl=None, warn_on_impl_args=None)
    hookimpl = _marker(
        f"{PROJECT}_impl",
        wrapper=False,
        hookwrapper=False,
        optionalhook=False,
        tryfirst=False,
        trylast=False,
        specname=None,
    )

#: A hook's implementation, and the arguments that it takes.
_Call = tuple[Callable[..., Any], tuple[str, ...]]


class DirectHooks:
    """The hooks of a driver and its fallback, as attributes. Each is called with keywords.

    The first result that is not `None` counts. A hook that nobody implements returns `None`.
    """

    def __init__(self, calls: Mapping[str, tuple[_Call, ...]]) -> None:
        self._calls = calls

    def __getattr__(self, hook: str) -> Callable[..., Any]:
        if hook.startswith("_"):
            raise AttributeError(hook)
        calls = self._calls[hook]

        def call(**arguments: Any) -> Any:
            for function, names in calls:
                found = function(*[arguments[name] for name in names])
                if found is not None:
                    return found
            return None

        setattr(self, hook, call)
        return call

    def implemented_by(self, plugin: object) -> set[str]:
        """Return the hooks that a plugin implements."""
        return {
            hook
            for hook, calls in self._calls.items()
            if any(getattr(function, "__self__", None) is plugin for function, _ in calls)
        }


def direct_hooks(specifications: object, driver: object, fallback: object) -> DirectHooks | None:
    """Return the hooks of a driver and its fallback.

    Args:
        specifications: the module with the functions that `hookspec` marks; all have `firstresult`.
        driver: the driver.
        fallback: answers what the driver does not.

    Returns:
        The hooks; `None` if pluggy has to call them, or has an error to report: the driver has a hook that is not
        specified, takes an argument that is not, or is marked in an unusual way.
    """
    specified = {
        name: _arguments(value)
        for name, value in vars(specifications).items()
        if isinstance(value, FunctionType) and f"{PROJECT}_spec" in vars(value)
    }
    calls: dict[str, tuple[_Call, ...]] = dict.fromkeys(specified, ())
    for plugin in (driver, fallback):
        if isinstance(plugin, (type, ModuleType)) or type(plugin).__dir__ is not object.__dir__:
            return None
        of_instance = _of_instance(plugin)
        for name, value in {**_of_classes(plugin), **of_instance}.items():
            marked = value.__func__ if isinstance(value, (staticmethod, classmethod, MethodType)) else value
            if not isinstance(marked, FunctionType):
                continue
            options = vars(marked).get(f"{PROJECT}_impl") or vars(value).get(f"{PROJECT}_impl")
            if options is None:
                continue
            names = _arguments(marked)
            unusual = value is not marked or "__wrapped__" in vars(marked) or name in of_instance
            if unusual or name not in specified or not names:
                return None
            if any(isset for option, isset in options.items() if option != "trylast" or plugin is driver):
                return None
            if not set(names[1:]) <= set(specified[name]):
                return None
            calls[name] += ((marked.__get__(plugin), names[1:]),)
    return DirectHooks(calls)


def _of_classes(plugin: object) -> dict[str, Any]:
    """Return what the classes of an object have, as it is stored there; the most special of each name."""
    found: dict[str, Any] = {}
    for owner in reversed(type(plugin).__mro__):
        found.update(vars(owner))
    return found


def _of_instance(plugin: object) -> dict[str, Any]:
    """Return what an object has itself, in its dictionary and in slots."""
    found = dict(getattr(plugin, "__dict__", {}))
    for name, slot in _of_classes(plugin).items():
        if isinstance(slot, MemberDescriptorType):
            try:
                found[name] = slot.__get__(plugin)
            except AttributeError:  # it is empty
                pass
    return found


def _arguments(function: FunctionType) -> tuple[str, ...]:
    """Return the arguments that a hook may be given: those without defaults."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount - len(function.__defaults__ or ())]
