"""Strangers' bytes: any, and those of the corpus with something changed. `HYPOTHESIS_PROFILE=thorough` looks longer.

`tests/fuzz/corpus/<target>/` has what once did harm, and what leads deep. A crash that is found goes there.
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
def test_the_corpus(target):
    assert seeds(target)
    for data in seeds(target):
        TARGETS[target](data)


@st.composite
def changed(draw, target):
    """A file of the corpus with some bytes replaced, removed or doubled."""
    data = bytearray(draw(st.sampled_from(seeds(target))))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 64, 512])))
        data[start:end] = draw(st.one_of(st.binary(max_size=12), st.just(bytes(data[start:end]) * 2), st.just(b"")))
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes(target):
    @given(st.one_of(st.binary(max_size=2000), changed(target)))
    def look(data):
        TARGETS[target](data)

    look()
