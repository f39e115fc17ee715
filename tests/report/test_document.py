"""The JSON documents of reports: exact numbers, and the fields that the reference describes."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from hypothesis import given

from layerstore_core import InvalidLayer
from layerstore_core.images import Images
from layerstore_core.report.document import (
    config_changes,
    package_changes,
    tree_document,
)
from layerstore_core.view.analysis.layers import analyze_layers
from layerstore_core.view.analysis.sizes import directory_sums
from layerstore_core.view.packages.package import Package
from tests import tars
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.docs.surroundings import TOP
from tests.report.conftest import load
from tests.view.conftest import view_of


def fields(value: Any, path: str) -> set[str]:
    """Return the paths of all fields, but those in the config of an image and in the values of settings."""
    if isinstance(value, list):
        return set().union(*(fields(one, f"{path}[]") for one in value))
    if not isinstance(value, dict) or path == "image.config":
        return set()
    found = set()
    for key, inner in value.items():
        name = f"{path}.{key}".lstrip(".")
        found.add(name)
        if not name.startswith("comparison.config[]"):
            found |= fields(inner, name)
    return found


def test_the_reference_describes_the_fields_that_there_are(documents: dict[str, dict[str, Any]]) -> None:
    text = (TOP / "docs/reference/report.md").read_text()
    described = re.findall(r"^\| `([\w.\[\]]+)` \|", text, re.MULTILINE)
    assert len(described) == len(set(described))
    seen: set[str] = set()
    for document in documents.values():
        seen |= fields(document, "")
    before = {name for name in seen if name.startswith("before.")}
    assert {name.replace("before.", "image.") for name in before} < seen
    # No engine keeps snapshots here; `tests/cli/test_docs.py` compares their fields.
    of_snapshots = {name for name in described if name.startswith("store.snapshots[]")}
    assert seen - before == set(described) - of_snapshots


def test_an_image_has_exact_numbers(documents: dict[str, dict[str, Any]]) -> None:
    image = documents["image"]["image"]
    numbers = {key: image[key] for key in ("visible", "overwritten", "deleted", "duplicated", "wasted", "layer_count")}
    visible = 2000 + 8 + 8 + next(one["size"] for one in image["tree"] if one["path"].endswith("/status"))
    assert numbers == {
        "visible": visible,
        "overwritten": 5000,
        "deleted": 3010,
        "duplicated": 8,
        "wasted": 8018,
        "layer_count": 2,
    }
    assert [(one["path"], one["size"], one["files"]) for one in image["places"]] == [
        ("/a", 5000, 1),
        ("/gone/x", 3000, 1),
        ("/gone/y", 10, 1),
    ]
    assert [one["paths"] for one in image["duplicates"]] == [["/as-well", "/same"]]
    assert [(one["system"], one["name"], one["size"]) for one in image["packages"]] == [
        ("dpkg", "base-files", 12 << 10),
        ("dpkg", "old", 3 << 10),
    ]
    assert image["tree"][0] == {"path": "/", "type": "directory", "size": visible, "layer": 0}
    assert [one["layer"] for one in image["history"]] == [0, 1, None]


def test_a_comparison_says_what_came_and_went(documents: dict[str, dict[str, Any]]) -> None:
    document = documents["comparison"]
    found = document["comparison"]
    assert (document["before"]["name"], document["image"]["name"]) == ("app:1", "app:2")
    files = {one["path"]: (one["kind"], one["before"], one["after"]) for one in found["files"]}
    assert files["/a"] == ("changed", 2000, 7000)
    assert files["/as-well"] == ("deleted", 8, None)
    assert files["/gone/x"] == ("added", None, 3000)
    assert found["shared_layers"] == 1
    assert [(one["name"], one["kind"], one["before"], one["after"]) for one in found["packages"]] == [
        ("base-files", "changed", ["12"], ["13"]),
        ("new", "added", [], ["1"]),
        ("old", "deleted", ["1"], []),
    ]
    assert {one["setting"]: one["after"] for one in found["config"]} == {"Cmd": ["/bin/bash"], "User": "me"}


def test_a_deleted_directory_has_the_bytes_of_all_in_it(images: Images) -> None:
    from layerstore_core.report.document import comparison_report

    load(images, [tars.tar(tars.entry(b"d/a", b"1" * 70), tars.entry(b"d/e/b", b"2" * 7), tars.entry(b"c"))], "a")
    load(images, [tars.tar(tars.entry(b"c"))], "b")
    found = comparison_report(images.analyze("a"), images.analyze("b"), images.diff("a", "b"))["comparison"]
    assert [(one["path"], one["before"], one["directory"]) for one in found["files"]] == [("/d", 77, True)]
    assert found["deleted"] == 4


def test_a_name_that_is_not_utf_8_can_be_had_back(images: Images) -> None:
    load(images, [tars.tar(tars.entry(b"caf\xe9", b"1"))], "a")
    from layerstore_core.report.document import image_report

    document = json.loads(json.dumps(image_report(images.analyze("a"))))
    assert os.fsencode(document["image"]["tree"][1]["path"]) == b"/caf\xe9"


@given(CHAINS_OF_ENTRIES)
def test_the_sizes_of_a_tree_are_those_of_its_directories(layers: list[list[Entry]]) -> None:
    view = view_of(*[[entry.tar() for entry in layer] for layer in layers])
    try:
        root = analyze_layers(view).root
    except InvalidLayer:
        return
    sums = directory_sums(root)
    listed = tree_document(root)
    found = {one["path"]: one for one in listed}
    assert len(found) == len(listed) == 1 + sums[id(root)].files
    for path, node in view.walk():
        one = found["/" + os.fsdecode(path)]
        assert (one["type"] == "directory") is node.is_directory
        if node.is_directory:
            assert one["size"] == sums[id(node)].size


def test_packages_of_several_versions_are_compared_together() -> None:
    same = Package("rpm", "a", "1", "x", 1)
    kernels = [Package("rpm", "kernel", str(number), "x", 10 + number) for number in range(4)]
    old, new = [kernels[1], kernels[2], same], [kernels[2], kernels[3], same]
    (found,) = package_changes(old, new)
    assert (found["before"], found["after"], found["grown"]) == (["1", "2"], ["2", "3"], 2)


def test_settings_that_are_missing_are_null() -> None:
    assert config_changes({"Cmd": ["a"], "User": "x"}, {"Cmd": ["a"], "Env": ["A=1"]}) == [
        {"setting": "Env", "before": None, "after": ["A=1"]},
        {"setting": "User", "before": "x", "after": None},
    ]
