"""`-q`, `--filter`, `--format` and `--no-trunc` of `images` and `ls`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerstore_core.cli.listing import IMAGE_FILTERS, Template
from layerstore_core.images.filters import KEYS
from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

BASE, TOP = tar_of({"base": b"b" * 1000}), tar_of({"top": b"t"})
OLD = ImageSpec(
    [BASE], ["example/app:1", "other:1"], extra={"created": "2020-01-01T00:00:00Z", "config": {"Labels": {"team": "a"}}}
)
NEW = ImageSpec([BASE, TOP], ["example/app:2"], extra={"created": "2022-01-01T00:00:00Z", "variant": "v2"})
NAMELESS = ImageSpec([TOP], extra={"created": ""})


@pytest.fixture
def images(run: Run) -> None:
    run("load", "-", stdin=docker_archive(OLD, NEW, NAMELESS))


def short(image: ImageSpec) -> str:
    return image.image_id[7:19]


def test_the_keys_in_the_help_text_are_those_of_the_filters() -> None:
    assert IMAGE_FILTERS == KEYS


@pytest.mark.usefixtures("images")
def test_quiet_prints_each_id_once(run: Run) -> None:
    assert sorted(run("images", "-q").lines) == sorted(map(short, (OLD, NEW, NAMELESS)))
    assert sorted(run("images", "-q", "--no-trunc").lines) == sorted(i.image_id for i in (OLD, NEW, NAMELESS))
    chains = [layer["chain_id"] for layer in run("ls", "--json").json["layers"]]
    assert run("ls", "-q").lines == [chain[7:19] for chain in chains]
    assert run("ls", "--quiet", "--no-trunc").lines == chains


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["reference=example/app"], ["example/app:1", "example/app:2"]),
        (["reference=example/*:2"], ["example/app:2"]),
        (["reference=*"], ["other:1"]),
        (["reference=*/*:[1-1]", "reference=oth?r"], ["example/app:1", "other:1"]),
        (["reference=app"], []),
        (["dangling=true"], [None]),
        (["dangling=0"], ["example/app:1", "other:1", "example/app:2"]),
        (["label=team"], ["example/app:1", "other:1"]),
        (["label=team=a", "reference=other"], ["other:1"]),
        (["label=team=b"], []),
        (["label!=team", "dangling=false"], ["example/app:2"]),
        (["before=example/app:2"], ["example/app:1", "other:1"]),
        (["since=other:1"], ["example/app:2"]),
        (["until=2021-06-01T00:00:00+02:00"], ["example/app:1", "other:1"]),
        (["until=1d12h"], ["example/app:1", "other:1", "example/app:2"]),
    ],
)
def test_filters_of_images(run: Run, conditions: list[str], names: list[str | None]) -> None:
    options = [word for condition in conditions for word in ("--filter", condition)]
    shown = run("images", *options, "--format", "{{json .Name}}").lines
    assert sorted(map(str, map(json.loads, shown))) == sorted(map(str, names))
    documents = run("images", *options, "--json").json["images"]
    assert sorted(str(n) for one in documents for n in one["names"] or [None]) == sorted(map(str, names))


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("nosuch=1", "there is no filter 'nosuch'"),
        ("dangling=maybe", "neither true nor false"),
        ("reference=[a", "is not a pattern"),
        ("reference=[z-a]", "is not a pattern"),
        ("reference=a\\", "is not a pattern"),
        ("label==x", "names no label"),
        ("until=yesterday", "neither a time"),
        ("until=999999999w", "longer ago than any time"),
        ("reference=", "the value is missing"),
        ("reference", "KEY=VALUE"),
    ],
)
def test_a_filter_that_cannot_be_used_is_wrong_usage(run: Run, condition: str, message: str) -> None:
    assert message in run("images", "--filter", condition, code=2).stderr


@pytest.mark.usefixtures("images")
def test_a_filter_may_name_a_missing_image(run: Run) -> None:
    assert run("images", "--json", "--filter", "before=none", code=1).error["type"] == "ImageDoesNotExist"


@pytest.mark.usefixtures("images")
def test_formats_of_images(run: Run) -> None:
    form = r"{{.Repository}}\t{{ .Tag }} {{.ID}}\n{{.Platform}} {{.CreatedAt}} {{.Size}} {{.Bytes}}"
    lines = run("images", "--format", form, "--filter", "reference=example/app:2").lines
    assert lines == [
        f"example/app\t2 {short(NEW)}",
        "linux/amd64/v2 2022-01-01T00:00:00Z 1001 B 1001",
    ]
    row = json.loads(run("images", "--format", "json", "--filter", "dangling=1").text)
    assert (row["Name"], row["Tag"], row["Bytes"]) == (None, None, 1)
    assert run("images", "--format", "{{.Name}}", "--filter", "dangling=1").lines == ["<none>"]
    table = run("images", "--format", r"table {{.Name}}\t{{.Bytes}}").lines
    assert table == [
        "NAME           BYTES",
        "example/app:1  1000",
        "other:1        1000",
        "example/app:2  1001",
        "<none>         1",
    ]


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{{.Nosuch}}", "there is no field .Nosuch; the fields are .Name, .ID"),
        ("{{.}}", "there is no field ."),
        ("{{range .}}x", "cannot be used"),
        ("{{.ID", "cannot be used"),
        ("{{.ID | upper}}", "cannot be used"),
        ("", "the format is empty"),
        ("table", "the format is empty"),
    ],
)
def test_a_format_that_cannot_be_used_is_wrong_usage(run: Run, form: str, message: str) -> None:
    assert message in " ".join(run("images", "--format", form, code=2).stderr.split())


@pytest.mark.usefixtures("images")
def test_combinations_that_contradict_each_other_are_wrong_usage(run: Run) -> None:
    for options in (["-q", "--format", "{{.ID}}"], ["--json", "-q"], ["--json", "--format", "json"]):
        assert "cannot be combined" in run("images", *options, code=2).stderr
        assert "cannot be combined" in run("ls", *options, code=2).stderr


@pytest.mark.usefixtures("images")
def test_whole_ids_in_tables(run: Run) -> None:
    assert f"{OLD.image_id} " in run("images", "--no-trunc").text
    chain = run("ls", "--json").json["layers"][0]["chain_id"]
    assert chain in run("ls", "--no-trunc").text and chain not in run("ls").text


@pytest.mark.usefixtures("images")
def test_filters_and_formats_of_layers(run: Run, tmp_path: Path) -> None:
    def chosen(*conditions: str) -> set[str]:
        options = [word for condition in conditions for word in ("--filter", condition)]
        return set(run("ls", "-q", "--no-trunc", *options).lines)

    pinned = run("register", "-", stdin=tar_of({"pinned": b"p"})).text.strip()
    of_new = {layer["chain_id"] for layer in run("inspect", "example/app:2", "--json").json["layers"]}
    assert chosen("image=example/app:2") == of_new
    assert chosen("image=example/app:2", "image=other:1") == of_new
    assert chosen("pinned=true") == {pinned} and len(chosen("pinned=false")) == 3
    assert chosen("dangling=true") == set() and len(chosen("dangling=false")) == 4
    assert json.loads(run("ls", "--filter", "pinned=1", "--format", "json").text) == {
        "ID": pinned[7:19],
        "Size": "1 B",
        "ChainSize": "1 B",
        "Bytes": 1,
        "DiffID": pinned,
        "Parent": None,
        "Pinned": True,
    }
    assert run("ls", "--filter", "pinned=1", "--format", "{{.Parent}} {{.Pinned}}").text == "<none> true\n"
    assert "there is no filter 'label'" in run("ls", "--filter", "label=a", code=2).stderr
    assert run("ls", "--filter", "image=none", "--json", code=1).error["type"] == "ImageDoesNotExist"


def test_a_value_cannot_break_a_line_or_a_column() -> None:
    template = Template.parse(r"table {{.A}}\t{{.B}}", ("A", "B"))
    assert template.lines([{"A": "x\ty\n", "B": True}]) == ["A       B", r"x\ty\n  true"]
