"""The set of names: exact for any number of names, and with little memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.nameset import SeenNames


@given(st.lists(st.binary(max_size=3)))
def test_the_set_of_names_behaves_like_a_python_set(names: list[bytes]) -> None:
    seen, model = SeenNames(), set()
    for name in names:
        assert (name in seen) == (name in model)
        assert seen.add(name) == (name not in model)
        model.add(name)
        assert name in seen


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
