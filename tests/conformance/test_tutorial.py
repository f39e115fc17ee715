"""The pieces of code in the tutorials make the examples, file by file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerstore_core.conformance.outcomes.results import GROUP_NAMES

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- (\S+) -->\n```\w+\n(.*?)\n```\n", re.DOTALL)


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("document", "example", "name"),
    [
        ("tutorial", "minimal", "pyproject.toml"),
        ("tutorial", "minimal", "tests/test_conformance.py"),
        ("tutorial", "minimal", "layerstore_minimal/__init__.py"),
        ("tutorial-pool", "pool", "tests/test_conformance.py"),
        ("tutorial-pool", "pool", "layerstore_pool/__init__.py"),
        ("tutorial-pool", "pool", "layerstore_pool/options.py"),
        ("tutorial-pool", "pool", "layerstore_pool/pool.py"),
        ("tutorial-pool", "pool", "layerstore_pool/sharing.py"),
    ],
)
def test_the_tutorials_make_the_examples(document: str, example: str, name: str) -> None:
    blocks = BLOCK.findall((ROOT / f"docs/{document}.md").read_text())
    written = "\n".join(text for file, text in blocks if file == name)
    assert lines_of(written) == lines_of((ROOT / f"examples/{example}" / name).read_text())


def test_every_group_is_documented() -> None:
    documented = re.findall(r"^\| (\w+) \|", (ROOT / "docs/conformance.md").read_text(), re.MULTILINE)
    assert [name for name in documented if name in GROUP_NAMES] == list(GROUP_NAMES)
