"""Hashes without OpenSSL are those of hashlib."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.hashes import blake2b, sha256_hex


@given(st.binary() | st.integers(65530, 65540).map(bytes))
def test_the_hashes_are_those_of_hashlib(data: bytes) -> None:
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()
    assert blake2b(data, digest_size=8).digest() == hashlib.blake2b(data, digest_size=8).digest()
