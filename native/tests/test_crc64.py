"""CRC-64/GO-ISO of the kernel and of fastcrc."""

from __future__ import annotations

from random import Random

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksum_is_fastcrcs(first: bytes, second: bytes) -> None:
    assert kernels.crc64(first) == crc64.go_iso(first)
    assert kernels.crc64(second, kernels.crc64(first)) == crc64.go_iso(first + second)


@given(st.integers(0, 3000), st.integers(0, 70), st.randoms(use_true_random=False))
def test_checksum_of_longer_buffers_is_fastcrcs(length: int, start: int, random: Random) -> None:
    data = memoryview(random.randbytes(start + length))[start:]
    assert kernels.crc64(data, 7) == crc64.go_iso(data, 7)
