"""The number of digits in shortened chain IDs."""

from __future__ import annotations

from layerstore_core.base.digests import ChainID
from layerstore_core.cli.describe import short_length


def test_short_chain_ids_have_twelve_digits_if_they_differ() -> None:
    assert short_length([]) == 12
    assert short_length([ChainID.from_hex("a" * 64), ChainID.from_hex("b" * 64)]) == 12


def test_short_chain_ids_have_more_digits_if_they_begin_alike() -> None:
    chains = [ChainID.from_hex("a" * 64), ChainID.from_hex("a" * 13 + "b" * 51)]
    assert short_length(chains) == 16
    chains.append(ChainID.from_hex("a" * 63 + "b"))
    assert short_length(chains) == 64
