"""The same chain of layers shows the same tree through every driver: paths, types, modes, owners, times, links, attributes, content."""

from __future__ import annotations

import pytest

from tests import tars
from tests.across.chains import CHAINS
from tests.across.conftest import Stores


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_that_is_hard_to_get_right(stores: Stores, name: str) -> None:
    layers = None
    for entries in CHAINS[name]():
        layers = stores.register(tars.tar(*entries), layers)
        assert stores.assert_same_trees(layers) is not None
