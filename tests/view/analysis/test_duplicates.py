"""Files of the same content: found by size and checksum, and compared."""

from __future__ import annotations

from unittest import mock

from layerstore_core import LayerStore
from layerstore_core.view.analysis.duplicates import Duplicates, find_duplicates
from tests import tars
from tests.across.chains import d, f, link
from tests.store.layers import register
from tests.view.conftest import view_of


def test_files_of_the_same_content_are_found_and_hard_links_are_not() -> None:
    view = view_of(
        [
            d(b"d"),
            f(b"d/a", b"same"),
            f(b"b", b"same"),
            link(b"c", b"b"),
            f(b"e", b"Same"),
            f(b"x", b"xx"),
            f(b"y", b"xx"),
        ],
        [f(b"z", b"same")],
    )
    (first, second) = find_duplicates(view)
    assert first == Duplicates(4, (b"b", b"d/a", b"z"))
    assert first.wasted == 8
    assert second == Duplicates(2, (b"x", b"y"))


def test_empty_files_are_left_out() -> None:
    assert find_duplicates(view_of([f(b"a"), f(b"b")])) == ()


def test_only_what_may_be_the_same_is_read(store: LayerStore) -> None:
    tar = tars.tar(f(b"a", b"12345"), f(b"b", b"54321"), f(b"c", b"12345"), f(b"d", b"1"))
    with register(store, tar, "").view() as view:
        read = []
        real = view.chunks
        with mock.patch.object(view, "chunks", lambda node: read.append(node.name) or real(node)):
            assert find_duplicates(view) == (Duplicates(5, (b"a", b"c")),)
    assert sorted(read) == [b"a", b"c"]
