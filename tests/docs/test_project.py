"""The files around the code say the same: checks before a commit, workflows, Makefile, and what CONTRIBUTING lists."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.docs.surroundings import TOP

MAKEFILE = (TOP / "Makefile").read_text()
WORKFLOWS = sorted((TOP / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][\w-]*):.*##", MAKEFILE, re.MULTILINE))


def test_checks_before_a_commit_are_those_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*?\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    linted = {line.strip().replace("$(BIN)", ".venv/bin").removesuffix(" .") for line in recipe[1].splitlines()}
    entries = re.findall(r"entry: (\.venv/bin/[\w-]+(?: [a-z-]+)*)", (TOP / ".pre-commit-config.yaml").read_text())
    assert set(entries) == linted


def test_every_target_of_the_makefile_is_explained_in_contributing() -> None:
    explained = set(re.findall(r"`make ([\w-]+)`", (TOP / "CONTRIBUTING.md").read_text()))
    assert TARGETS - explained == {"real"}  # takes a mirror of Debian: for maintainers
    assert explained <= TARGETS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_calls_targets_that_exist(workflow) -> None:
    called = set(re.findall(r"run: make ((?:[a-z-]+ ?)+)", workflow.read_text()))
    assert {word for words in called for word in words.split()} <= TARGETS
    assert "permissions: {contents: read}" in workflow.read_text()


def test_pythons_of_the_workflow_are_those_of_the_classifiers_or_newer() -> None:
    classifiers = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["classifiers"]
    named = {match[1] for text in classifiers if (match := re.fullmatch(r".*:: (3\.\d+)", text))}
    tested = set(
        re.findall(r'"(3\.\d+)"', re.search(r"python: \[.*\]", (TOP / ".github/workflows/ci.yml").read_text())[0])
    )
    assert named <= tested


def test_fragments_of_the_changelog_have_a_known_type() -> None:
    types = {
        entry["directory"] for entry in tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
    }
    fragments = {path.name for path in (TOP / "changes").iterdir()} - {"README.md", "template.md.jinja"}
    assert [name for name in fragments if not re.fullmatch(rf"[\w-]+\.({'|'.join(types)})\.md", name)] == []


def test_repository_names_no_package_index() -> None:
    """A clone works with any index that pip is configured for."""
    for name in ("constraints-dev.txt", "pyproject.toml", "Makefile"):
        assert not re.search(r"https?://[^\s]*(pypi|pythonhosted)", (TOP / name).read_text()), name
