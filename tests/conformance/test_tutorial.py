"""The tutorial's pieces of code make the minimal example, file by file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerstore_core.conformance.outcomes.results import GROUP_NAMES

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- (\S+) -->\n```\w+\n(.*?)\n```\n", re.DOTALL)


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ["pyproject.toml", "tests/test_conformance.py", "layerstore_minimal/__init__.py"])
def test_the_tutorial_makes_the_minimal_example(name: str) -> None:
    blocks = BLOCK.findall((ROOT / "docs/tutorial.md").read_text())
    written = "\n".join(text for file, text in blocks if file == name)
    assert lines_of(written) == lines_of((ROOT / "examples/minimal" / name).read_text())


def test_every_group_is_documented() -> None:
    documented = re.findall(r"^\| (\w+) \|", (ROOT / "docs/conformance.md").read_text(), re.MULTILINE)
    assert [name for name in documented if name in GROUP_NAMES] == list(GROUP_NAMES)
