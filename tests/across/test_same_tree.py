"""Drivers agree on trees: a chain of layers shows the same files with every driver.

Compared are paths, types, modes, owners, times, links, attributes and content.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import tars
from tests.across.chains import CAP_NET_RAW, CHAINS, SPARSE, T, attributes, d, f, link, node, sym, with_records
from tests.across.conftest import Stores


@pytest.mark.parametrize("name", CHAINS)
def test_drivers_show_the_same_tree_of_a_difficult_chain(stores: Stores, name: str) -> None:
    layers = None
    for entries in CHAINS[name]():
        layers = stores.register(tars.tar(*entries), layers)
        assert stores.assert_same_trees(layers) is not None


NAMES = (b"a", b"b", b"c", b"\xff")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
KINDS = (
    "file",
    "file",
    "dir",
    "dir",
    "whiteout",
    "opaque",
    "symlink",
    "link",
    "fifo",
    "device",
    "deleting device",
    "sparse",
)
ATTRIBUTES = ({}, {}, {"user_one": b"1"}, {"security_capability": CAP_NET_RAW}, {"trusted_t": b"\0"})


@dataclass(frozen=True)
class Entry:
    """An entry of a random tar."""

    kind: str
    path: bytes
    target: bytes
    seed: int

    def tar(self) -> bytes:
        directory, _, base = self.path.rpartition(b"/")
        inside = directory + b"/" if directory else b""
        mode = (0o644, 0o755, 0o4711, 0o2770, 0o1777)[self.seed % 5]
        options = {"mode": mode, "uid": self.seed % 3 * 1000, "gid": self.seed % 4 * 7}
        attributes_ = ATTRIBUTES[self.seed % len(ATTRIBUTES)]
        entry = {
            "whiteout": lambda: f(inside + b".wh." + base),
            "opaque": lambda: f(self.path + b"/.wh..wh..opq"),
            "link": lambda: link(self.path, self.target, **options),
            "symlink": lambda: sym(self.path, self.target, uid=self.seed % 3),
            "dir": lambda: attributes(d(self.path, **options), **attributes_),
            "fifo": lambda: node(self.path, b"6", **options),
            "device": lambda: node(self.path, b"34"[self.seed % 2 : self.seed % 2 + 1], (7, 1 + self.seed), **options),
            "deleting device": lambda: node(self.path, b"3", (0, 0), **options),
            "sparse": lambda: tars.sparse_pax(self.path, *SPARSE, "1.0", mtime=T),
            "file": lambda: attributes(f(self.path, b"%d" % (self.seed % 3), **options), **attributes_),
        }[self.kind]()
        if self.kind in ("file", "dir", "symlink") and self.seed % 2:
            return with_records(entry, (b"mtime", b"%d.000000%03d" % (T * (self.seed % 3 - 1), self.seed)))
        return entry


CHAINS_OF_ENTRIES = st.lists(
    st.lists(st.builds(Entry, st.sampled_from(KINDS), PATHS, PATHS, st.integers(0, 59)), max_size=7),
    min_size=2,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(chain=CHAINS_OF_ENTRIES)
def test_drivers_show_the_same_tree_of_any_chain(stores: Stores, chain: list[list[Entry]]) -> None:
    registered = []
    layers = None
    try:
        for entries in chain:
            new, refusals = stores.try_register(tars.tar(*(entry.tar() for entry in entries)), layers)
            assert len(set(refusals.values())) == 1, "accepted by some drivers, and refused by others"
            if new is not None:
                registered.append(new)
                layers = new
                stores.assert_same_trees(layers)
    finally:
        for one in reversed(registered):
            stores.release(one)
