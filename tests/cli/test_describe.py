from __future__ import annotations

from layerstore_core.base.digests import ChainID
from layerstore_core.cli.describe import short_length


def test_twelve_digits_where_they_are_enough() -> None:
    assert short_length([]) == 12
    assert short_length([ChainID.from_hex("a" * 64), ChainID.from_hex("b" * 64)]) == 12


def test_more_digits_where_chain_ids_begin_alike() -> None:
    chains = [ChainID.from_hex("a" * 64), ChainID.from_hex("a" * 13 + "b" * 51)]
    assert short_length(chains) == 16
    chains.append(ChainID.from_hex("a" * 63 + "b"))
    assert short_length(chains) == 64
