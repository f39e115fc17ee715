"""The set of names: exact for any number of names, and with little memory."""

from __future__ import annotations

import tracemalloc
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base import nameset
from layerstore_core.base.kernels import Engine
from layerstore_core.base.nameset import SeenNames, seen_names


@given(st.lists(st.one_of(st.binary(max_size=3), st.lists(st.binary(max_size=2), max_size=3))))
def test_the_set_of_names_behaves_like_a_python_set(steps: list[bytes | list[bytes]]) -> None:
    seen, model = SeenNames(), set()
    for step in steps:
        if isinstance(step, list):
            seen.update(step)
            model.update(step)
            continue
        assert (step in seen) == (step in model)
        assert seen.add(step) == (step not in model)
        model.add(step)
        assert step in seen
        assert len(seen) == len(model)


def test_the_set_in_python_is_used_without_kernels() -> None:
    with mock.patch.object(nameset, "engine", return_value=Engine(None, "a test")):
        assert isinstance(seen_names(), SeenNames)


def test_many_names_take_little_memory() -> None:
    count = 140_000  # more than are kept in the Python set before they are packed
    tracemalloc.start()
    try:
        seen = SeenNames()
        for number in range(count):
            assert seen.add(b"usr/share/doc/package/%d" % number)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < count * 8 + (8 << 20)
    assert peak < 24 << 20
    for number in range(0, count, 997):
        assert not seen.add(b"usr/share/doc/package/%d" % number)
        assert b"usr/share/doc/package/%d" % number in seen
        assert b"usr/share/doc/%d" % number not in seen
