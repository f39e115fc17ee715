"""`layerstore drivers`: the report of the conformance kit that came with a package."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

REPORT: dict[str, Any] = {
    "layerstore_core": "0.1.0",
    "date": "2026-11-29",
    "drivers": [
        {"driver": "other", "version": "1", "verdict": "failed", "summary": "does not conform", "groups": []},
        {
            "driver": "rep",
            "version": "1.5",
            "verdict": "conforms",
            "summary": "conforms with 1 declared limit",
            "groups": [{"group": "lifecycle", "verdict": "passed"}, {"group": "limits", "verdict": "limited"}],
        },
    ],
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package whose driver cannot be imported, and return its directory."""
    site = tmp_path / "site"
    info = site / "layerstore_driver_rep-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: layerstore-driver-rep\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[layerstore.drivers]\nrep = layerstore_rep.files:Driver\n")
    (info / "RECORD").write_text("layerstore_rep/__init__.py,,\nlayerstore_rep/conformance.json,,\n")
    (site / "layerstore_rep").mkdir()
    (site / "layerstore_rep/__init__.py").write_text("raise ImportError('the driver was imported')\n")
    monkeypatch.syspath_prepend(str(site))
    return site / "layerstore_rep"


def report_of(run: Run) -> tuple[Any, str]:
    """Return what the command says of the driver's report: as JSON, and its line."""
    (found,) = [one for one in run("--json", "drivers").json["drivers"] if one["name"] == "rep"]
    (line,) = [line for line in run("drivers").lines if line.startswith("rep ")]
    return found["conformance"], line


def test_a_package_with_a_report(run: Run, package: Path) -> None:
    (package / "conformance.json").write_text(json.dumps(REPORT))
    report, line = report_of(run)
    assert report == {
        "verdict": "conforms",
        "summary": "conforms with 1 declared limit",
        "groups": 2,
        "version": "1.5",
        "core": "0.1.0",
        "date": "2026-11-29",
    }
    assert " conforms with 1 declared limit (core 0.1.0, 2026-11-29) " in line
    assert "layerstore_rep" not in sys.modules


def test_a_report_of_another_version(run: Run, package: Path) -> None:
    (package / "conformance.json").write_text(json.dumps(REPORT).replace('"1.5"', '"1.4"'))
    assert "(core 0.1.0, 2026-11-29, version 1.4)" in report_of(run)[1]


def test_an_editable_package_has_no_list_of_its_files(run: Run, package: Path) -> None:
    (package.parent / "layerstore_driver_rep-1.5.dist-info/RECORD").write_text("")
    (package / "conformance.json").write_text(json.dumps(REPORT))
    assert report_of(run)[0]["verdict"] == "conforms"


def test_a_second_name_of_the_driver_has_the_same_report(run: Run, package: Path) -> None:
    """As `overlay` is another name of `overlay2`; a driver of another class has none."""
    points = "[layerstore.drivers]\nrep = layerstore_rep.files:Driver\nrep-again = layerstore_rep.files:Driver\n"
    names = package.parent / "layerstore_driver_rep-1.5.dist-info/entry_points.txt"
    names.write_text(f"{points}rep-other = layerstore_rep.files:Other\n")
    (package / "conformance.json").write_text(json.dumps(REPORT))
    found = {one["name"]: one["conformance"] for one in run("--json", "drivers").json["drivers"]}
    assert found["rep-again"] == found["rep"]
    assert found["rep"]["verdict"] == "conforms"
    assert found["rep-other"]["summary"] == "conformance.json: it is not about this driver"


def test_a_package_without_a_report(run: Run, package: Path) -> None:
    report, line = report_of(run)
    assert report is None
    assert " no report " in line


def changed(**values: object) -> str:
    document = json.loads(json.dumps(REPORT))
    document["drivers"][1] |= values
    return json.dumps(document)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "conformance.json: Invalid JSON"),
        ("[" * 100_000, "conformance.json: Invalid JSON: recursion limit exceeded"),
        ("[]", "conformance.json: Input should be an object"),
        ("\udc80\udcff", "conformance.json: Invalid JSON"),
        (json.dumps({"drivers": []}), "conformance.json: layerstore_core: Field required"),
        (json.dumps(REPORT | {"date": "today\x1b[31m"}), "conformance.json: date: String should match pattern"),
        (json.dumps(REPORT | {"drivers": REPORT["drivers"][:1]}), "it is not about this driver"),
        (changed(verdict="best of all"), "conformance.json: drivers.1.verdict: Input should be 'conforms'"),
        (changed(summary="x" * 201), "drivers.1.summary: String should have at most 200 characters"),
        (changed(groups=[{"group": "model", "verdict": "failed"}]), "it says that the driver conforms, and that"),
        (" " * (9 << 20), "it has more than 8 MiB"),
    ],
    ids=range(11),
)
def test_a_damaged_report(run: Run, package: Path, content: str, why: str) -> None:
    (package / "conformance.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    report, line = report_of(run)
    assert report["verdict"] == "damaged"
    assert why in report["summary"]
    assert f" damaged: {report['summary'][:20]}" in line


def test_a_report_that_is_no_file(run: Run, package: Path) -> None:
    (package / "conformance.json").mkdir()
    assert report_of(run)[0]["summary"] == "conformance.json: it is no regular file"
    (package / "conformance.json").rmdir()
    os.mkfifo(package / "conformance.json")
    assert report_of(run)[0]["summary"] == "conformance.json: it is no regular file"


def test_a_summary_that_would_write_on_the_terminal(run: Run, package: Path) -> None:
    (package / "conformance.json").write_text(changed(summary="conforms\x1b[2J\n"))
    assert "conforms\\x1b[2J\\n (core" in report_of(run)[1]
