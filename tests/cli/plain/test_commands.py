"""Commands that run without click: their answers, and what they leave to click after they have begun."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run, tar_of

ID = "ab" * 32


def test_a_parent_that_is_no_layer_is_left_to_click(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of({"a": b"a"}))
    outcome = run("register", tmp_path / "a.tar", "--parent", ID, code=1)
    assert f"no layer sha256:{ID} in {root}, and no image" in outcome.stderr
    assert "no image" in run("rw", "create", "w", "--parent", ID, code=1).stderr


def test_the_four_commands_of_a_writable_layer(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of({"a": b"a"}))
    chain = run("register", tmp_path / "a.tar").text.strip()
    assert run("rw", "create", "w", "--parent", chain).text == "w\n"
    path = run("rw", "mount", "w").text.strip()
    assert Path(path, "a").read_bytes() == b"a"
    assert json.loads(run("rw", "umount", "w", "--json").text) == {"name": "w"}
    assert run("rw", "rm", "w").text == ""
    assert run("ls", "-q").text == f"{chain[7:19]}\n"
    assert run("rw", "rm", "w", code=1).stderr.startswith(f"layerstore: there is no writable layer 'w' in {root}")
