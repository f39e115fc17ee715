"""The text of a report for pull requests."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.report.markdown import change, code, markdown


def test_an_image_has_its_numbers_layers_and_waste(documents: dict[str, dict[str, Any]]) -> None:
    text = markdown(documents["image"])
    assert text.startswith("### `app:1`\n")
    assert "| efficiency | " in text
    assert "| 0 | `step 0` | 8.0 KiB | 7.8 KiB |" in text
    assert "| `/a` | 4.9 KiB | overwritten by layer 1 |" in text
    assert "| `/gone/x` | 2.9 KiB | deleted by layer 1 |" in text


def test_a_comparison_has_the_differences(documents: dict[str, dict[str, Any]]) -> None:
    text = markdown(documents["comparison"])
    assert text.startswith("### `app:1` → `app:2`\n")
    assert "| `/a` | changed | +4.9 KiB |" in text
    assert "| `base-files` | `12` | `13` |" in text
    assert "| `old` | `1` | – |" in text
    assert "1 of 2 layers are shared." in text
    assert "Settings that changed: `Cmd`, `User`" in text


def test_a_store_has_its_totals_and_images(documents: dict[str, dict[str, Any]]) -> None:
    text = markdown(documents["store"])
    assert "| images | 2 | 0 |" in text
    assert "| `app:2` |" in text


@pytest.mark.parametrize("kind", ["image", "comparison", "store"])
def test_every_row_of_a_table_has_the_columns_of_its_heading(kind: str, documents: dict[str, dict[str, Any]]) -> None:
    columns = 0
    for line in markdown(documents[kind]).splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        bars = len(re.findall(r"(?<!\\)\|", line))
        assert columns in (0, bars), line
        columns = bars


def test_a_hostile_name_stays_code() -> None:
    assert code("a`b") == "``a`b``"
    assert code("`") == "`` ` ``"
    assert code("a|b\nc <b>@all</b>") == "`a\\|b c <b>@all</b>`"
    assert code("\u202egnp") == "`\\u202egnp`"
    assert code("") == "` `"
    assert len(code("x" * 5000)) == 122


@given(st.text())
def test_code_is_one_line_and_ends_where_it_should(text: str) -> None:
    shown = code(text)
    fence = re.match("`+", shown)
    assert fence is not None
    inner = shown[len(fence[0]) : -len(fence[0])]
    assert shown.endswith(fence[0])
    assert fence[0] not in re.findall("`+", inner)
    assert not re.search(r"(?<!\\)\|", inner)
    assert shown.isprintable()


def test_a_difference_has_its_sign() -> None:
    assert [change(0, 2048), change(2048, 0), change(5, 5)] == ["+2.0 KiB", "−2.0 KiB", "±0 B"]
