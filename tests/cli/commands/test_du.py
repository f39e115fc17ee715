"""`layerstore du`."""

from __future__ import annotations

from layerstore_core.base.times import time_of
from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

BASE, TOP = tar_of({"base": b"b" * 2048}), tar_of({"top": b"t" * 1024})
A, B = ImageSpec([BASE], ["a:1", "a:2"]), ImageSpec([BASE, TOP])


def test_du_of_an_empty_store(run: Run) -> None:
    run("rw", "create", "work")
    assert [line.split()[:4] for line in run("du").lines] == [
        ["TYPE", "TOTAL", "IN", "USE"],
        ["images", "0", "0", "0"],
        ["layers", "0", "0", "0"],
        ["writable", "layers", "1", "0"],
    ]


def test_people_see_totals_and_with_v_each_object(run: Run) -> None:
    run("load", "-", stdin=docker_archive(A, B))
    run("rw", "create", "work", "--image", "a:1")
    run("register", "-", stdin=tar_of({"pinned": b"p"}))
    lines = run("du").lines
    assert lines[1].split() == ["images", "2", "1", "3.0", "KiB", "1.0", "KiB", "(33%)"]
    assert lines[2].split() == ["layers", "3", "3", "3.0", "KiB", "0", "B", "(0%)"]
    assert lines[3].split() == ["writable", "layers", "1", "0", "0", "B", "0", "B"]
    details = run("du", "-v").lines
    assert details[:4] == lines
    words = [line.split()[:1] + line.split()[2:9] for line in details]
    assert ["a:1", "2.0", "KiB", "2.0", "KiB", "0", "B", "yes"] in words
    assert ["a:2", "2.0", "KiB", "2.0", "KiB", "0", "B", "yes"] in words
    assert ["<none>", "3.0", "KiB", "2.0", "KiB", "1.0", "KiB", "no"] in words
    assert details[-1].split()[0] == "work"


def test_the_document_has_exact_numbers(run: Run) -> None:
    run("load", "-", stdin=docker_archive(A, B))
    document = run("du", "--json").json
    assert document["totals"][0] == {"kind": "images", "count": 2, "in_use": 0, "size": 3072, "reclaimable": 3072}
    assert {tuple(image["names"]): (image["shared"], image["own"]) for image in document["images"]} == {
        ("a:1", "a:2"): (2048, 0),
        (): (2048, 1024),
    }
    assert document["images"][0]["last_used"].endswith("Z")


def test_a_time_beyond_all_calendars_is_shown_as_the_last_one(run: Run) -> None:
    assert (time_of(0), time_of(-5), time_of(1e15)) == ("1970-01-01T00:00:00Z",) * 2 + ("9999-12-31T23:59:59Z",)
