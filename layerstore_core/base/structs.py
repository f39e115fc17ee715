"""Classes with fields, declared as for `dataclasses`, which take a tenth of the time to define.

For modules that a short command loads. `dataclasses` compiles six functions for each class, 0.4 ms, and loads `inspect`
for 5 ms, half of what an empty program takes. Here the methods are shared by all classes; a constructor is compiled
where a class gets many objects. Functions of `dataclasses` (`fields`, `replace`, `asdict`) take these classes and their
objects, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

__all__ = ["MISSING", "Field", "field", "struct", "struct_fields"]

_T = TypeVar("_T")

if TYPE_CHECKING:
    from typing import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[_T], _T]:
        return lambda function: function


class _Missing:
    """No value."""

    def __repr__(self) -> str:
        return "<missing>"


MISSING: Final = _Missing()
#: The objects that are made before a constructor is compiled.
_COMPILE_AFTER: Final = 100


class Field:
    """How a field is declared.

    Attributes:
        name: its name.
        default: its default; `MISSING` if there is none.
        default_factory: makes its default; `MISSING` if there is none.
        init: whether it is an argument of the constructor.
        repr: whether it is shown.
        compare: whether it counts in comparisons.
        metadata: what others want to know of it.
    """

    __slots__ = ("compare", "default", "default_factory", "init", "metadata", "name", "repr")

    def __init__(
        self,
        default: Any,
        *,
        default_factory: Any = MISSING,
        init: bool = True,
        repr: bool = True,  # noqa: A002
        compare: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = ""
        self.default = default
        self.default_factory = default_factory
        self.init = init
        self.repr = repr
        self.compare = compare
        self.metadata = metadata or {}


def field(
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    init: bool = True,
    repr: bool = True,  # noqa: A002
    compare: bool = True,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """Declare a field; see `Field`."""
    return Field(default, default_factory=default_factory, init=init, repr=repr, compare=compare, metadata=metadata)


def struct_fields(owner: type) -> tuple[Field, ...]:
    """Return the fields of a class, in their order."""
    found: dict[str, Field] = vars(owner).get("__struct_fields__") or getattr(owner, "__struct_fields__")  # noqa: B009
    return tuple(found.values())


@dataclass_transform(field_specifiers=(field,))
def struct(
    *,
    frozen: bool = False,
    slots: bool = False,
    init: bool = True,
    repr: bool = True,  # noqa: A002
    eq: bool = True,
    kw_only: bool = False,
) -> Callable[[type[_T]], type[_T]]:
    """Return a decorator for a class with annotated fields. The arguments are those of `dataclasses.dataclass`."""

    def decorate(owner: type[_T]) -> type[_T]:
        fields: dict[str, Field] = {}
        for base in reversed(owner.__mro__[1:]):
            fields.update(vars(base).get("__struct_fields__", {}))
        namespace = dict(vars(owner))
        own = [name for name, hint in owner.__annotations__.items() if not str(hint).startswith("ClassVar")]
        for name in own:
            given = namespace.get(name, MISSING)
            declared = given if isinstance(given, Field) else Field(given)
            declared.name = name
            fields[name] = declared
            if slots or (given is declared and declared.default is MISSING):
                namespace.pop(name, None)
            elif given is declared:
                namespace[name] = declared.default
        namespace["__struct_fields__"] = fields
        namespace["__match_args__"] = () if kw_only else tuple(one.name for one in fields.values() if one.init)
        namespace["__dataclass_fields__"] = _OfDataclass("__dataclass_fields__", frozen, kw_only)
        namespace["__dataclass_params__"] = _OfDataclass("__dataclass_params__", frozen, kw_only)
        if init:
            namespace["__init__"] = _first_init(fields, frozen, kw_only)
        if repr:
            namespace.setdefault("__repr__", _repr)
        if eq:
            namespace.setdefault("__eq__", _eq)
            if namespace.get("__hash__") is None:
                namespace["__hash__"] = _hash if frozen else None
        if frozen:
            namespace.update(__setattr__=_refuse_set, __delattr__=_refuse_delete)
            if slots:
                namespace.update(__getstate__=_state, __setstate__=_set_state)
        if slots:
            namespace["__slots__"] = tuple(own)
        for name in ("__dict__", "__weakref__"):
            namespace.pop(name, None)
        qualified = owner.__qualname__
        made: Any = type(owner)
        made = made(owner.__name__, owner.__bases__, namespace)
        made.__qualname__ = qualified
        decorated: type[_T] = made
        return decorated

    return decorate


def _first_init(fields: Mapping[str, Field], frozen: bool, kw_only: bool) -> Callable[..., None]:
    """Return a constructor for the first objects of a class. Then it compiles one, and puts that in its own place.

    To compile it takes as long as to make a hundred objects. It also has the errors of wrong arguments.
    """
    names = [name for name, one in fields.items() if one.init]
    made = 0

    def first(self: Any, /, *args: Any, **kwargs: Any) -> None:
        nonlocal made
        made += 1
        owner = next(owner for owner in type(self).__mro__ if fields is vars(owner).get("__struct_fields__"))
        post = hasattr(owner, "__post_init__")
        given = dict(zip(names, args, strict=False))
        fits = len(args) <= (0 if kw_only else len(names)) and not given.keys() & kwargs.keys()
        given.update(kwargs)
        if not fits or made > _COMPILE_AFTER or not _fill(self, fields, given):
            real = _compile_init(fields, frozen, kw_only, post)
            if vars(owner)["__init__"] is first:
                setattr(owner, "__init__", real)  # noqa: B010
            real(self, *args, **kwargs)
        elif post:
            self.__post_init__()

    return first


def _fill(made: object, fields: Mapping[str, Field], given: Mapping[str, Any]) -> bool:
    """Set the fields of a new object; return whether these were its arguments."""
    values = {}
    used = 0
    for name, one in fields.items():
        if one.init and name in given:
            values[name] = given[name]
            used += 1
        elif one.default_factory is not MISSING:
            values[name] = one.default_factory()
        elif one.default is not MISSING:
            values[name] = one.default
        elif one.init:
            return False
    if used < len(given):
        return False
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return True


def _compile_init(fields: Mapping[str, Field], frozen: bool, kw_only: bool, post: bool) -> Callable[..., None]:
    known: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    arguments, lines = [], []
    for name, one in fields.items():
        value = name
        if one.default_factory is not MISSING:
            known[f"_make_{name}"] = one.default_factory
            value = f"_make_{name}() if {name} is _missing else {name}" if one.init else f"_make_{name}()"
        if one.init:
            default = ""
            if one.default_factory is not MISSING:
                default = " = _missing"
            elif one.default is not MISSING:
                known[f"_default_{name}"] = one.default
                default = f" = _default_{name}"
            arguments.append(f"{name}{default}")
        elif one.default_factory is MISSING and one.default is MISSING:
            continue
        elif one.default_factory is MISSING:
            known[f"_default_{name}"] = one.default
            value = f"_default_{name}"
        lines.append(f" _set(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
    if post:
        lines.append(" self.__post_init__()")
    signature = ", ".join(["self", *(["*"] if kw_only and arguments else []), *arguments])
    exec(f"def __init__({signature}):\n" + "\n".join(lines or [" pass"]), known)
    made: Callable[..., None] = known["__init__"]
    return made


def _values(one: Any) -> tuple[Any, ...]:
    return tuple([getattr(one, name) for name, declared in one.__struct_fields__.items() if declared.compare])


def _repr(self: Any) -> str:
    fields: Mapping[str, Field] = self.__struct_fields__
    shown = ", ".join([f"{name}={getattr(self, name)!r}" for name, one in fields.items() if one.repr])
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: object) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented  # type: ignore[no-any-return]
    equal: bool = _values(self) == _values(other)
    return equal


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse_set(self: Any, name: str, value: object) -> None:
    from dataclasses import FrozenInstanceError  # lazy: only for this error

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError  # lazy: only for this error

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__struct_fields__]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__struct_fields__, state, strict=True):
        object.__setattr__(self, name, value)


class _OfDataclass:
    """An attribute by which `dataclasses` knows its classes, made when it is asked for."""

    def __init__(self, name: str, frozen: bool, kw_only: bool) -> None:
        self._name = name
        self._arguments = {"frozen": frozen, "kw_only": kw_only}

    def __get__(self, instance: object, owner: type) -> Any:
        import dataclasses

        members: dict[str, Any] = {"__annotations__": {}, "__module__": owner.__module__}
        for one in struct_fields(owner):
            members["__annotations__"][one.name] = _annotation(owner, one.name)
            given = {"default": one.default, "default_factory": one.default_factory}
            kept = {key: value for key, value in given.items() if value is not MISSING}
            members[one.name] = dataclasses.field(
                init=one.init, repr=one.repr, compare=one.compare, metadata=one.metadata, **kept
            )
        twin: Any = dataclasses.dataclass(**self._arguments)(type(owner.__name__, (), members))
        return getattr(twin, self._name)


def _annotation(owner: type, name: str) -> Any:
    return next(base.__annotations__[name] for base in owner.__mro__ if name in base.__annotations__)
