from __future__ import annotations

import os
from pathlib import Path

from layerstore_core.metadata.records import read_driver_id
from layerstore_core.metadata.transaction import WriteSet


def test_a_collector_that_comes_before_the_lock_does_no_harm(tmp_path, monkeypatch):
    """The directory of a transaction is not locked at once: it may be taken for a dead one until then."""
    real = Path.chmod
    taken = []

    def collected(path, mode):
        if not taken and path.name.startswith("write-set-"):
            taken.append(path)
            path.rmdir()
        real(path, mode)

    monkeypatch.setattr(Path, "chmod", collected)
    with WriteSet(tmp_path / "db", durable=False) as files:
        assert files.path.is_dir()
        assert files.path not in taken


def test_a_fifo_in_place_of_a_field_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "size")
    assert read_driver_id(tmp_path / "size") is None
