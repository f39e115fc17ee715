"""`layerstore prune`: its options and answers. `tests/maintenance/test_prune.py` tests what it chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

APP, NAMELESS = ImageSpec([tar_of({"app": b"a" * 3000})], ["app:1"]), ImageSpec([tar_of({"less": b"n" * 10})])


@pytest.fixture
def loaded(run: Run) -> None:
    run("load", "-", stdin=docker_archive(APP, NAMELESS))


@pytest.mark.usefixtures("loaded")
def test_prune_prints_what_it_removes(run: Run) -> None:
    would = run("prune", "--dry-run")
    assert would.stderr == "Would free 10 B\n"
    assert [line.split()[0] for line in would.lines] == ["image", "layer"]
    done = run("prune")
    assert (done.lines, done.stderr) == (would.lines, "Freed 10 B\n")
    assert run("prune").text == run("prune").stderr == ""
    assert run("prune", "-a").lines[:2] == ["name app:1", f"image {APP.image_id}"]
    assert run("images", "-q").text == run("ls", "-q").text == ""


@pytest.mark.usefixtures("loaded")
def test_the_document_of_prune(run: Run) -> None:
    document = run("prune", "--keep-storage", "2KiB", "--json").json
    assert (document["dry_run"], document["untagged"]) == (False, ["app:1"])
    assert APP.image_id in document["deleted"]
    sizes = [layer["diff_size"] for layer in document["removed"]]
    assert 3000 in sizes and document["freed"] == sum(sizes)


@pytest.mark.usefixtures("loaded")
def test_images_that_were_just_used_are_not_old(run: Run) -> None:
    assert run("prune", "--older-than", "1h").text == ""
    assert len(run("prune", "--older-than", "0s", "--filter", "dangling=false").lines) == 3


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--older-than", "7"], "such as 7d, 12h"),
        (["--older-than", "-1d"], "such as 7d, 12h"),
        (["--older-than", "7days"], "such as 7d, 12h"),
        (["--keep-storage", "20X"], "is not a size"),
        (["--keep-storage", "-5G"], "is not a size"),
        (["--keep-storage", ""], "is not a size"),
        (["--filter", "age=7d"], "there is no filter 'age'"),
        (["--filter", "until=x"], "neither a time"),
    ],
)
def test_words_that_cannot_be_read_are_wrong_usage(run: Run, options: list[str], message: str) -> None:
    assert message in " ".join(run("prune", *options, code=2).stderr.split())
    assert len(run("images", "-q").lines) == 2


@pytest.mark.usefixtures("loaded")
def test_a_damaged_record_keeps_everything(run: Run, root: Path) -> None:
    config = root / "image/vfs/imagedb/content/sha256" / APP.image_id.removeprefix("sha256:")
    config.write_bytes(b"{")
    assert "nothing is pruned" in run("prune", "-a", code=1).stderr
    assert len(run("ls", "-q").lines) == 2
