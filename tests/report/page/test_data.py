"""The data of a page: bounded whatever the image has, and true to the document."""

from __future__ import annotations

import copy
import json
from typing import Any

import layerstore_core
from layerstore_core.report.page.data import page_data, shown
from layerstore_core.report.page.html import page


def many(document: dict[str, Any]) -> dict[str, Any]:
    """Return a report of an image of 100,000 files, with everything in plenty and in long texts."""
    large = copy.deepcopy(document)
    image = large["image"]
    long = "<é" * 100
    names = [f"/usr/share/{number % 300}/{number}" for number in range(100_000)]
    directories = ["/", "/usr", "/usr/share", *(f"/usr/share/{number}" for number in range(300))]
    image["tree"] = [{"path": path, "type": "directory", "size": 1 << 40, "layer": 0} for path in directories]
    image["tree"] += [{"path": path + long[:20], "type": "file", "size": 7, "layer": 1} for path in names]
    for key in ("wasted_files", "places", "duplicates", "packages", "history"):
        rows = image[key]
        assert rows, key
        texts = [{name: long for name, value in one.items() if isinstance(value, str)} for one in rows]
        image[key] = [{**one, **changed} for one, changed in zip(rows, texts, strict=True)] * 5000
    image["duplicates"] = [{**one, "paths": one["paths"] * 1000} for one in image["duplicates"][:100]]
    image["layers"] = [{**one, "created_by": long * 50} for one in image["layers"] * 60]
    image["config"]["config"] = {f"{number}": long for number in range(1000)}
    return large


def test_the_page_of_a_large_image_has_less_than_a_million_bytes(documents: dict[str, dict[str, Any]]) -> None:
    large = many({**documents["comparison"], "image": documents["image"]["image"]})
    found = large["comparison"]
    found["files"] = found["files"] * 20_000
    found["packages"] = found["packages"] * 5000
    data = page_data(large)
    assert len(data["image"]["layers"]) == len(large["image"]["layers"])
    for name in ("image.tree", "image.packages", "comparison.files", "image.config", "image.wasted_files"):
        assert data["left_out"][name] > 0
    assert data["left_out"]["image.packages"] + len(data["image"]["packages"]) == len(large["image"]["packages"])
    assert len(page(large)) < 1_000_000


def test_a_store_of_very_many_images_fits_too(documents: dict[str, dict[str, Any]]) -> None:
    large = copy.deepcopy(documents["store"])
    for key in ("images", "layers", "rw_layers"):
        large["store"][key] = large["store"][key] * 20_000
    assert len(page(large)) < 1_000_000


def test_what_is_small_is_whole(documents: dict[str, dict[str, Any]]) -> None:
    data = page_data(documents["comparison"])
    assert data["left_out"] == {}
    assert data["version"] == layerstore_core.__version__
    for key in ("visible", "wasted", "layers", "packages", "wasted_files"):
        assert data["image"][key] == documents["comparison"]["image"][key]
    assert len(data["image"]["tree"]) == len(documents["comparison"]["image"]["tree"])
    assert "rootfs" not in data["image"]["config"]


def test_the_page_has_what_became_of_the_rules(documents: dict[str, dict[str, Any]]) -> None:
    rules = page_data(documents["image"])["rules"]
    assert [(one["given"], one["passed"]) for one in rules] == [("2", True), ("1%", False)]
    assert rules == documents["image"]["rules"]
    assert "rules" not in page_data(documents["comparison"])


def test_the_largest_changes_of_a_comparison_stay(documents: dict[str, dict[str, Any]]) -> None:
    large = copy.deepcopy(documents["comparison"])
    (one,) = (file for file in large["comparison"]["files"] if file["path"] == "/a")
    small = [{**one, "path": f"/{'x' * 90}{number}", "before": 1, "after": 2} for number in range(3000)]
    large["comparison"]["files"] = [*small, one]
    assert page_data(large)["comparison"]["files"][0]["path"] == "/a"


def test_texts_can_mislead_nobody_and_are_not_endless() -> None:
    assert shown("a\u202eb\n c") == "a\\u202eb c"
    assert shown({"\x1b": ["\udcff", 7, None, True]}) == {"\\x1b": ["\\udcff", 7, None, True]}
    assert len(shown("x" * 10_000)) == 2000
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    assert len(json.dumps(shown(deep))) < 100
