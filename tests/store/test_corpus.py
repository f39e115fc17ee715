"""Real and unusual tars of other projects, registered and exported by a store."""

from __future__ import annotations

import gzip
import hashlib

import pytest

from layerstore_core import InvalidLayer
from tests.across.test_corpus import names, oracle, path_of, plain
from tests.store.layers import export, record_path, tree, warm


@pytest.mark.parametrize("name", names())
def test_a_tar_of_the_corpus_is_exported_exactly_or_refused(store, store_root, name):
    path = path_of(name)
    known = oracle()[name]
    warm(store)
    before = tree(store_root)
    try:
        layer = store.register(path)
    except InvalidLayer:
        assert known["load"] != "ok", "Docker accepts it"
        assert tree(store_root) == before
        return
    assert export(layer) == plain(path)
    assert layer.diff_id == known["diff_id"]
    if known["load"] == "ok":
        assert layer.diff_size == known["stored_size"]
        if "tarsplit_sha256" in known and known["roundtrip"] is True:
            lines = gzip.decompress((record_path(layer) / "tar-split.json.gz").read_bytes())
            assert lines.count(b"\n") == known["tarsplit_n"]
            assert hashlib.sha256(lines).hexdigest() == known["tarsplit_sha256"]
    assert len(store.release(layer)) == 1
    assert tree(store_root) == before
