"""Structs behave as classes of `dataclasses` do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from layerstore_core.base import structs
from layerstore_core.base.structs import MISSING, struct, struct_fields


def make(decorator: Callable[[type], type], field: Any) -> type:
    @decorator
    class Example:
        """An example."""

        constant: ClassVar[int] = 3
        a: int
        b: str = "b"
        c: list[int] = field(default_factory=list)
        d: int = field(default=4, metadata={"x": 1})
        e: int = field(init=False)
        f: list[int] = field(init=False, default_factory=list)
        g: int = field(init=False, default=7)
        h: int = field(default=8, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "e", self.a + self.d)

        def method(self) -> int:
            return self.constant

    return Example


FORMS: list[dict[str, bool]] = [
    {},
    {"frozen": True},
    {"slots": True},
    {"frozen": True, "slots": True},
    {"eq": False},
    {"repr": False, "kw_only": True},
]


@pytest.fixture(params=FORMS, ids=str)
def form(request: pytest.FixtureRequest) -> dict[str, bool]:
    found: dict[str, bool] = request.param
    return found


@pytest.fixture(params=[0, 100], ids=["compiled", "first"])
def twins(request: pytest.FixtureRequest, form: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    monkeypatch.setattr(structs, "_COMPILE_AFTER", request.param)
    return make(struct(**form), structs.field), make(dataclasses.dataclass(**form), dataclasses.field)


def of_both(twins: tuple[type, type], action: Callable[[Any], Any]) -> tuple[Any, Any]:
    found: list[Any] = []
    for one in twins:
        try:
            found.append(action(one))
        except Exception as error:
            found.append((type(error), str(error).replace("make.<locals>.Example.", "")))
    return found[0], found[1]


def values(one: Any) -> tuple[Any, ...]:
    return tuple(getattr(one, name) for name in "abcdefgh")


ACTIONS: dict[str, Callable[[Any], Any]] = {
    "defaults": lambda kind: values(kind(a=1)),
    "keywords": lambda kind: values(kind(a=1, b="x", c=[2], d=5)),
    "positions": lambda kind: values(kind(1, "x", [2], 5)),
    "missing": lambda kind: kind(),
    "unknown": lambda kind: kind(a=1, z=2),
    "not an argument": lambda kind: kind(a=1, e=2),
    "too many": lambda kind: kind(1, 2, 3, 4, 5, 6),
    "repr": lambda kind: repr(kind(a=1)).partition(" object at")[0],
    "equal": lambda kind: (kind(a=1) == kind(a=1), kind(a=1) == kind(a=2), kind(a=1) == 1),
    "equal but for a field": lambda kind: kind(a=1) == kind(a=1, h=1),
    "hash": lambda kind: hash(kind(a=1)) == hash(kind(a=1)),
    "set": lambda kind: setattr(kind(a=1), "a", 2),
    "delete": lambda kind: delattr(kind(a=1), "a"),
    "new attribute": lambda kind: setattr(kind(a=1), "z", 2),
    "own factories": lambda kind: kind(a=1).c is kind(a=1).c,
    "copy": lambda kind: values(copy.deepcopy(kind(a=1, c=[1]))),
    "replace": lambda kind: values(dataclasses.replace(kind(a=1, b="x"), b="y")),
    "asdict": lambda kind: dataclasses.asdict(kind(a=1)),
    "is_dataclass": lambda kind: (dataclasses.is_dataclass(kind), dataclasses.is_dataclass(kind(a=1))),
    "fields": lambda kind: [
        (f.name, f.type, f.init, f.repr, f.compare, dict(f.metadata), f.kw_only) for f in dataclasses.fields(kind)
    ],
    "match": lambda kind: kind.__match_args__,
    "documents": lambda kind: (kind.__name__, kind.__qualname__, kind.__module__, kind.__doc__),
    "class attributes": lambda kind: (kind.constant, kind(a=1).method(), hasattr(kind, "c")),
    "default of the class": lambda kind: kind.b if not isinstance(kind.b, type(make.__class__.__dict__)) else None,
    "dictionary": lambda kind: hasattr(kind(a=1), "__dict__"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_struct_is_like_a_dataclass(twins: tuple[type, type], action: str) -> None:
    mine, theirs = of_both(twins, ACTIONS[action])
    if action == "default of the class" and "__slots__" in vars(twins[0]):
        return  # a descriptor
    if action == "hash" and isinstance(theirs, tuple):
        assert mine[0] is theirs[0]
        return
    if action == "new attribute" and theirs and theirs[0] is TypeError:
        theirs = (dataclasses.FrozenInstanceError,)  # Python 3.11 fails at the error itself
    if isinstance(mine, tuple) and mine and mine[0] in (dataclasses.FrozenInstanceError, AttributeError, TypeError):
        assert mine[0] is theirs[0]
        return
    assert mine == theirs


@struct(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


@struct(frozen=True)
class Spot(Point):
    z: int = 1


def test_objects_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Point(1, 2))) == Point(1, 2)
    assert pickle.loads(pickle.dumps(Spot(1, 2, 3))) == Spot(1, 2, 3)


def test_a_constructor_is_compiled_after_some_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structs, "_COMPILE_AFTER", 1)

    @struct()
    class Small:
        x: int

    before = Small.__init__
    assert Small(1) == Small(x=1) == Small(1)
    assert Small.__init__ is not before


def test_fields_are_inherited() -> None:
    assert Spot(1) == Spot(1, 0, 1) != Point(1)
    assert repr(Spot(5, z=7)) == "Spot(x=5, y=0, z=7)"
    assert [one.name for one in struct_fields(Spot)] == ["x", "y", "z"]
    assert [one.default for one in struct_fields(Spot)] == [MISSING, 0, 1]


def test_patterns_match() -> None:
    match Point(1, 2):
        case Point(1, y):
            assert y == 2
        case _:
            pytest.fail("the pattern does not match")


def test_dataclasses_is_not_loaded_until_something_asks_for_it() -> None:
    program = (
        "import sys; from layerstore_core.base.structs import struct\n"
        "@struct(frozen=True, slots=True)\n"
        "class Point:\n"
        "    x: int\n"
        "assert Point(1) == Point(1) and {Point(1)} and repr(Point(2)) == 'Point(x=2)'\n"
        "print('dataclasses' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
