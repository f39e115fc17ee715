"""`-v` logs each step with its object, size and time; `-vv` also logs driver calls and settings."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import Run


def test_v_logs_each_step_of_a_layer_s_life(spawn: Run, base: Path, tmp_path: Path) -> None:
    done = spawn("-v", "register", base)
    chain = done.text.strip()
    assert re.search(rf"applied {base}: sha256:[0-9a-f]{{64}}, 5020 bytes of files, in \d+\.\d+ s", done.stderr)
    assert re.search(rf"committed layer {chain} as [0-9a-f]{{64}}", done.stderr)
    assert "created writable layer 'work'" in spawn("-v", "rw", "create", "work", "--parent", chain).stderr
    mounted = spawn("-v", "rw", "mount", "work")
    assert f"mounted writable layer 'work' at {mounted.text.strip()}" in mounted.stderr
    assert "unmounted writable layer 'work'" in spawn("-v", "rw", "umount", "work").stderr
    assert "deleted writable layer 'work'" in spawn("-v", "rw", "rm", "work").stderr
    tar = tmp_path / "out.tar"
    exported = spawn("-v", "export", chain, "-o", tar).stderr
    assert re.search(rf"exported layer {chain}: {tar.stat().st_size} bytes in \d+\.\d+ s", exported)
    assert f"deleted layer {chain}, 5020 bytes of files" in spawn("-v", "rm", chain).stderr


def test_vv_logs_calls_of_the_driver_with_their_time(spawn: Run, base: Path) -> None:
    log = spawn("-vv", "register", base).stderr
    assert re.search(r"driver vfs: create [0-9a-f]{64} in \d+\.\d+ s", log)
    assert re.search(r"driver vfs: apply_diff [0-9a-f]{64} in \d+\.\d+ s: 5020 bytes", log)
    assert "setting driver = vfs (from: argument)" in log


def test_vv_logs_the_error_of_a_call_of_the_driver(spawn: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    done = spawn("-vv", "register", tmp_path / "bad.tar", code=1)
    assert re.search(r"driver vfs: apply_diff [0-9a-f]{64} in \d+\.\d+ s: InvalidLayer: ", done.stderr)


def test_without_v_nothing_is_logged(spawn: Run, base: Path) -> None:
    assert spawn("register", base).stderr == ""
