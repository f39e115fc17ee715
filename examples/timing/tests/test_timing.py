"""The timing wrapper: what it counts, and that it does nothing unless a file is named."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from layerstore_timing import BOUNDS, VARIABLE, Histogram

from layerstore_core import InvalidLayer, LayerStore


def _run(tmp_path, *lines: str) -> str:
    """Use a store in a new process, which writes its counts when it ends; return the file."""
    script = "\n".join(("import io", "from layerstore_core import *", *lines))
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    return (tmp_path / "times.prom").read_text()


def test_calls_and_failures_of_the_driver_are_counted(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "times.prom"))
    text = _run(
        tmp_path,
        "with LayerStore.open(root='root', driver='vfs') as store:",
        "    store.register(io.BytesIO(bytes(1024)))",
        "    try: store.register(io.BytesIO(b'no tar' * 1000))",
        "    except InvalidLayer: pass",
    )
    counts = dict(re.findall(r'_count\{call="(\w+)"\} (\d+)', text))
    assert counts["create"] == "2" and counts["apply_diff"] == "2" and counts["remove"] == "1"
    assert 'layerstore_driver_call_failures_total{call="apply_diff"} 1' in text
    assert 'layerstore_driver_call_failures_total{call="create"} 0' in text
    assert oct((tmp_path / "times.prom").stat().st_mode)[-3:] == "644"


def test_nothing_is_recorded_unless_the_environment_names_a_file(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with LayerStore.open(root=tmp_path / "root", driver="vfs") as store:
        with pytest.raises(InvalidLayer):
            store.register(io.BytesIO(b"no tar" * 1000))
        timing = store.driver.plugins.get_plugin("wrapper timing")
        assert "_count" not in timing.exposition()


def test_a_bucket_includes_its_upper_bound() -> None:
    histogram = Histogram()
    for seconds in (0.0005, 0.001, 0.0011, 1000.0):
        histogram.observe(seconds, failed=False)
    assert histogram.counts == [2, 1, *[0] * (len(BOUNDS) - 2), 1]
    assert histogram.seconds == pytest.approx(1000.0026)
