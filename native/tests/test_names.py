"""The kernel's set of names, and its twin in Python."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base import nameset
from layerstore_core.base.kernels import Engine
from layerstore_core.base.nameset import SeenNames, seen_names
from tests import tars

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

paths = st.sampled_from([b"a", b"b", b"c/d", b"c/e"])
sizes = st.sampled_from([0, 5])


def run_of(entries: list[tuple[bytes, int]]) -> object:
    """Return a run of files with these paths and sizes."""
    tar = b"".join(tars.entry(path, b"x" * size) for path, size in entries)
    run = kernels.scan(tar, 0, 0, 0, len(entries), len(tar))
    assert len(run) == len(entries)
    return run


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=3), st.tuples(st.sampled_from(["add", "empty"]), st.lists(st.tuples(paths, sizes)))
        )
    )
)
def test_both_sets_behave_like_a_python_set(steps: list[bytes | tuple[str, list[tuple[bytes, int]]]]) -> None:
    for names in (kernels.Names(), SeenNames()):
        model: set[bytes] = set()
        for step in steps:
            if isinstance(step, bytes):
                assert (step in names) == (step in model)
                assert names.add(step) == (step not in model)
                model.add(step)
            elif step[0] == "empty":
                names.add_empty(run_of(step[1]))
                model.update(path for path, size in step[1] if not size)
            else:
                found = [path for path, _ in step[1]]
                all_new = model.isdisjoint(found) and len(set(found)) == len(found)
                assert names.add_run(run_of(step[1])) == all_new
                model.update(found if all_new else [])
            assert len(names) == len(model)
            for name in (b"a", b"b", b"c/d", b"c/e", b"", b"\0"):
                assert (name in names) == (name in model)


def test_names_that_differ_in_one_byte_are_different() -> None:
    names = kernels.Names()
    zeros = [bytes(length) for length in range(70)]
    names.update(zeros)
    assert len(names) == 70
    for zero in zeros:
        for at in range(len(zero)):
            for byte in (b"\1", b"\x80"):
                assert names.add(zero[:at] + byte + zero[at + 1 :])
    assert not any(map(names.add, zeros))


def test_a_set_of_many_names_has_them_all() -> None:
    names = kernels.Names()
    for number in range(100_000):
        assert names.add(b"%d" % number)
    assert len(names) == 100_000
    assert all(b"%d" % number in names for number in range(100_000))
    assert not any(b"%d" % number in names for number in range(100_000, 200_000))


def test_a_set_is_the_kernels_where_there_are_kernels() -> None:
    with mock.patch.object(nameset, "engine", return_value=Engine(kernels, "a test")):
        assert isinstance(seen_names(), kernels.Names)


def test_what_is_no_name_is_refused() -> None:
    names = kernels.Names()
    for wrong in ("a", 1, None, bytearray(b"a")):
        with pytest.raises(TypeError):
            names.add(wrong)
        with pytest.raises(TypeError):
            wrong in names  # noqa: B015
        with pytest.raises(TypeError):
            names.update([wrong])
        with pytest.raises(TypeError, match="must be one Run"):
            names.add_run(wrong)
    with pytest.raises(TypeError, match="no arguments"):
        kernels.Names(1)
