"""The kernel that writes tar-split lines, and its twin in Python."""

from __future__ import annotations

from random import Random

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.tar.run import Run, entry_of
from layerstore_core.tarsplit.codec import encode_file, encode_segment
from tests import tars
from tests.across.test_properties import whole_tars

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

POSITIONS = st.sampled_from([0, 9, 99, 2**32, 2**63])


def by_the_twin(run: Run, position: int) -> bytes:
    lines = []
    for number in range(len(run)):
        payload = run.payload(number)
        crc = crc64.go_iso(payload) if payload else 0
        name = entry_of(run, number).name
        at = position + 2 * number
        lines += encode_segment(run.segment(number), at), encode_file(name, len(payload), crc, at + 1)
    return b"".join(lines)


def check(tar: bytes, position: int) -> Run:
    run: Run = kernels.scan(tar, 0, 0, 0, 99, 1 << 40)
    assert kernels.lines(run, position) == by_the_twin(run, position)
    return run


@given(whole_tars, POSITIONS)
def test_lines_of_a_tar_are_the_twins(tar: bytes, position: int) -> None:
    check(tar, position)


texts = st.text(min_size=1, max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
special = st.sampled_from(
    [b'"', b"\\", b"\n\r\t\x01\x1f\x7f", b"<>&", "\u2027\u2028\u2029\u202a".encode(), b"\xe2\x80"]
)
broken = st.sampled_from(
    [
        b"\x80",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5",
    ]
)


@given(st.lists(st.one_of(texts, special, broken, st.binary(min_size=1, max_size=4)), min_size=1, max_size=6))
def test_names_are_escaped_as_by_the_twin(parts: list[bytes]) -> None:
    name = b"".join(parts).replace(b"\0", b"0").replace(b"/", b"-")
    assert len(check(tars.tar(tars.pax([(b"path", b"n" + name)]) + tars.entry(b"a", b"x")), 0)) == 1


@given(st.lists(st.one_of(st.integers(0, 700), st.integers(0, 5000)), max_size=8), st.randoms(use_true_random=False))
def test_payloads_and_segments_of_all_lengths_are_the_twins(lengths: list[int], random: Random) -> None:
    entries = [tars.entry(b"%d" % number, random.randbytes(length)) for number, length in enumerate(lengths)]
    assert len(check(tars.tar(*entries), 0)) == len(lengths)


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(TypeError):
        kernels.lines(b"", 0)
