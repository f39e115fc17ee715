"""Fuzz tests: random bytes, and changed bytes of the corpus. `HYPOTHESIS_PROFILE=thorough` tries more of them.

`tests/fuzz/corpus/<target>/` has bytes that once made a target fail, and bytes that reach much code. Bytes of a new
failure belong there.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


def seeds(target):
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize("target", TARGETS)
def test_targets_accept_the_corpus(target):
    assert seeds(target)
    for data in seeds(target):
        TARGETS[target](data)


@st.composite
def changed(draw, target):
    """Draw a file of the corpus with some bytes replaced, removed or doubled."""
    data = bytearray(draw(st.sampled_from(seeds(target))))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 64, 512])))
        data[start:end] = draw(st.one_of(st.binary(max_size=12), st.just(bytes(data[start:end]) * 2), st.just(b"")))
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_targets_accept_any_bytes(target):
    @given(st.one_of(st.binary(max_size=2000), changed(target)))
    def feed(data):
        TARGETS[target](data)

    feed()
