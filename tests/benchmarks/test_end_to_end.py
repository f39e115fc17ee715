"""The benchmark runs from end to end, at a size at which its figures mean nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import inputs, report
from benchmarks.contenders import CHECKOUT
from benchmarks.realistic import realistic_files


def run(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    return done.stdout


@pytest.mark.nightly
def test_the_benchmark_runs_all_works(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sizes = ["--entries", "200", "--rounds", "1", "--large-bytes", "4194304", "--layers", "12", "--depth", "3"]
    sizes += ["--real-entries", "60", "--changed", "10", "--checked", "2"]
    sizes += ["--pulled-entries", "60", "--pulled-bytes", "4194304"]
    sizes += ["--full", "--full-entries", "1000", "--full-bytes", "3000000", "--growth-entries", "1000"]
    output = run("benchmarks", *sizes, "--no-daemons", "--work", tmp_path, "--disk", tmp_path, "--output", out)
    results = json.loads((out / "results.json").read_text())
    ours = {
        name: measured
        for work in results["work"].values()
        for name, measured in work["contenders"].items()
        if name.startswith("layerstore") and (os.geteuid() == 0 or "overlay2" not in name)
    }
    if shutil.which("docker-registry") is None:
        ours = {name: one for name, one in ours.items() if not name.startswith(("layerstore pull", "layerstore push"))}
    assert len(ours) > 8
    assert {name: one["missing"] for name, one in ours.items()} == dict.fromkeys(ours, "")
    assert set(results["memory"]) == {
        "a layer of one large file: 3,000,000 bytes",
        "a layer of very many entries: 1,000 entries",
    }
    assert all(10 << 20 < size < 500 << 20 for sizes in results["memory"].values() for size in sizes.values())
    assert set(results["growth"]["of"]["register"]) == {"1000"}
    assert set(results["depth"]["of"]["export"]) == {"3"}
    assert all(row["work"] in output for row in results["rows"])
    for name in [*results["work"], "growth", "depth"]:
        ElementTree.parse(out / f"{name}.svg")
    assert [path for path in tmp_path.iterdir() if path != out] == [], "files are left"

    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\n{report.END}\nafter\n")
    readme = tmp_path / "README.md"
    readme.write_text(page.read_text())
    run("benchmarks.report", out / "results.json", "--page", page, "--charts", tmp_path / "charts", "--readme", readme)
    assert "![Registering a realistic layer, peers side by side](charts/register-real.svg)" in readme.read_text()
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    for row in results["rows"]:
        assert any(line.startswith(f"| {row['work']} | {row['target']} | ") for line in lines)
    for name in ("register.svg", "growth.svg", "results.json"):
        assert (tmp_path / "charts" / name).read_bytes() == (out / name).read_bytes()


def test_the_benchmark_runs_only_the_chosen_work(tmp_path: Path) -> None:
    sizes = ["--entries", "50", "--rounds", "2", "--work", tmp_path, "--output", tmp_path]
    run("benchmarks", "--only", "copy", "changes", "--targets-only", *sizes)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["work"]) == {"copy", "changes"}
    theirs = [name for name in results["work"]["changes"]["contenders"] if not name.startswith("layerstore")]
    assert theirs == ["rsync -an --delete", "rsync -an --checksum --delete"]
    assert len(results["work"]["copy"]["contenders"]["layerstore copy_tree"]["runs"]) == 2
    assert "growth" not in results
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\n{report.END}\nafter\n")
    readme = tmp_path / "README.md"
    readme.write_text(page.read_text())
    # Without --readme it would write into that of the repository.
    options = ["--page", page, "--charts", tmp_path / "charts", "--readme", readme]
    run("benchmarks.report", tmp_path / "results.json", *options)
    assert all(f"| {row['work']} | {row['target']} | " in page.read_text() for row in results["rows"])


@pytest.mark.parametrize("size", [1, 4 << 20, 12 << 20])
def test_the_compressed_form_of_large_files_is_the_same(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest file has several blocks, with blocks of another size."""
    monkeypatch.setattr(inputs, "_BLOCK", 1 << 20)
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    inputs.large_files(plain, packed, size)
    with gzip.open(packed) as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == inputs.digest_of(plain)
    with tarfile.open(plain) as tar:
        assert [member.name for member in tar] == ["large-0", "large-1", "large-2", "large-3"]
        assert sum(member.size for member in tar) >= size
    assert packed.stat().st_size < plain.stat().st_size


def test_a_hollow_file_takes_no_disk_space(tmp_path: Path) -> None:
    inputs.hollow_file(tmp_path / "tar", 10**9 + 1)
    with tarfile.open(tmp_path / "tar") as tar:
        assert [(member.name, member.size) for member in tar] == [("hollow", 10**9 + 1)]
    assert (tmp_path / "tar").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("entries", [1, 51, 2345])
def test_even_files_have_the_number_of_entries(tmp_path: Path, entries: int) -> None:
    inputs.even_files(tmp_path / "tar", entries)
    with tarfile.open(tmp_path / "tar") as tar:
        assert len({member.name for member in tar}) == entries


def test_a_realistic_layer_has_what_programs_write(tmp_path: Path) -> None:
    realistic_files(tmp_path / "tar", 400)
    with tarfile.open(tmp_path / "tar") as tar:
        members = tar.getmembers()
    assert len(members) == 400
    assert all(re.fullmatch(r"\d+\.\d{9}", member.pax_headers["mtime"]) for member in members)
    assert {member.type for member in members} == {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}
    assert any("SCHILY.xattr.user.mime_type" in member.pax_headers for member in members)
    assert len({member.uid for member in members}) > 1
    known = {member.name for member in members}
    assert all(member.linkname in known for member in members if member.islnk())
