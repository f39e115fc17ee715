"""`layerstore report`."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Run, tar_of
from tests.cli.modules import loaded as modules_of
from tests.images.archives import ImageSpec, docker_archive

BASE, TOP, OTHER = tar_of({"base": b"b" * 2048}), tar_of({"base": b"t" * 1024}), tar_of({"base": b"o" * 4096})
IMAGES = ImageSpec([BASE, TOP], ["a:1"]), ImageSpec([BASE, OTHER], ["a:2"])


@pytest.fixture
def loaded(run: Run) -> Run:
    run("load", "-", stdin=docker_archive(*IMAGES))
    return run


def test_the_report_of_an_image_in_json(loaded: Run) -> None:
    document = loaded("report", "a:1", "--json").json
    assert (document["schema"], document["kind"]) == (1, "image")
    assert (document["image"]["visible"], document["image"]["overwritten"]) == (1024, 2048)
    assert loaded("--json", "report", IMAGES[0].image_id).json["image"]["name"] == "a:1"


def test_the_report_of_two_images_in_markdown(loaded: Run) -> None:
    lines = loaded("report", "a:1", "a:2", "--markdown").lines
    assert "| size | 1.0 KiB | 4.0 KiB | +3.0 KiB |" in lines
    assert "| `/base` | changed | +3.0 KiB |" in lines


def test_the_report_of_the_store(loaded: Run) -> None:
    assert loaded("report", "--store", "--json").json["store"] == loaded("du", "--json").json
    assert "### Store" in loaded("report", "--store", "--markdown").lines


@pytest.mark.parametrize(
    "words",
    [(), ("a", "b", "c"), ("a", "--store"), ("a", "--markdown", "--json"), ("a", "-o", "-", "--json")],
    ids=" ".join,
)
def test_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    assert "Usage:" in run("report", *words, code=2).stderr or "--json" in words


def test_an_unknown_image_is_an_error(loaded: Run) -> None:
    assert loaded("report", "nothing:1", "--json", code=1).error["type"] == "ImageDoesNotExist"


def test_a_page_is_written_and_the_answer_is_still_printed(loaded: Run, tmp_path: Path) -> None:
    assert loaded("report", "a:1", "a:2", "-o", tmp_path / "one.html").stdout == b""
    assert "| size |" in loaded("report", "a:1", "a:2", "-o", tmp_path / "two.html", "--markdown").text
    assert loaded("report", "a:1", "a:2", "-o", tmp_path / "three.html", "--json").json["kind"] == "comparison"
    pages = {path.read_bytes() for path in tmp_path.glob("*.html")}
    assert len(list(tmp_path.glob("*.html"))) == 3
    assert pages == {loaded("report", "a:1", "a:2", "-o", "-").stdout}


def test_a_page_that_cannot_be_written_is_an_error(loaded: Run, tmp_path: Path) -> None:
    assert f"{tmp_path}/no/page.html" in loaded("report", "a:1", "-o", tmp_path / "no/page.html", code=1).stderr


def test_the_report_package_is_not_loaded_by_other_commands(loaded: Run, tmp_path: Path, root: Path) -> None:
    modules = modules_of(tmp_path, "--root", str(root), "--driver", "vfs", "ls")
    assert not any(name.startswith("layerstore_core.report") for name in modules)
    modules = modules_of(tmp_path, "report", "--help")
    assert not any(name.startswith("layerstore_core.report") for name in modules)


def test_rules_decide_the_exit_code(loaded: Run, tmp_path: Path) -> None:
    passed = loaded("report", "a:1", "--max", "wasted=2K", "--fail-under", "efficiency=0.3")
    assert passed.lines[-1] == "- passed: wasted is 2.0 KiB, at most 2.0 KiB is allowed"
    failed = loaded("report", "a:1", "--max", "wasted=2047", "--max", "layers=1", "--max", "files=1", code=1)
    assert failed.lines[-2] == "- **failed: layers is 2, at most 1 is allowed**"
    assert failed.stderr.splitlines() == [
        "layerstore: failed: wasted is 2048 bytes, at most 2047 bytes is allowed",
        "  failed: layers is 2, at most 1 is allowed",
    ]
    junit = tmp_path / "report.xml"
    document = loaded("report", "a:1", "--json", "--max", "layers=1", "--junit", junit, code=1)
    assert [(one["name"], one["value"], one["passed"]) for one in document.json["rules"]] == [("layers", 2, False)]
    assert document.error["type"] == "RuleFailed"
    (case,) = ElementTree.parse(junit).getroot()[0]
    assert case.attrib["name"] == "--max layers=1"
    assert case[0].attrib["message"] == "failed: layers is 2, at most 1 is allowed"


def test_growth_is_that_since_the_baseline(loaded: Run) -> None:
    loaded("report", "a:2", "--baseline", "a:1", "--max", "growth=300%")
    failed = loaded("report", "a:2", "--baseline", "a:1", "--max", "growth=200%", code=1)
    assert "growth is 3.0 KiB, at most 200% (2.0 KiB) is allowed" in failed.stderr
    loaded("report", "a:1", "a:2", "--max", "growth=2KB", code=1)
    loaded("report", "a:1", "--baseline", "a:2", "--max", "growth=0")


def test_rules_of_the_configuration_count_unless_others_are_given(loaded: Run, tmp_path: Path) -> None:
    (file := tmp_path / "c.toml").write_text(
        '[report.max]\nlayers = 1\ngrowth = "1%"\n[report.fail_under]\nfiles = 1\n'
    )
    page = tmp_path / "page.html"
    assert "layers is 2" in loaded("--config", file, "report", "a:1", "-o", page, code=1).stderr
    assert '"given":"1","value":2,"limit":1,"passed":false' in page.read_text()
    loaded("--config", file, "report", "a:1", "--max", "layers=2")
    loaded("--config", file, "report", "a:1", "--max", "layers=off")
    loaded("--config", file, "report", "--store")
    file.write_text("[report.max]\nlayer = 1\n")
    message = loaded("--config", file, "report", "a:1", code=1).stderr
    assert "setting 'report': there is no number 'layer'" in message
    assert str(file) in message


@pytest.mark.parametrize(
    "words",
    [
        "--max wasted",
        "--max x=1",
        "--max growth=1",
        "--junit x.xml",
        "a:2 --baseline a:1",
        "--fail-under efficiency=95",
    ],
)
def test_rules_that_cannot_be_are_wrong_usage(loaded: Run, words: str) -> None:
    assert "Usage:" in loaded("report", "a:1", *words.split(), code=2).stderr
    loaded("report", "--store", "--max", "layers=1", code=2)
