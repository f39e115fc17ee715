"""`layerstore tags`: the tags of a repository, page by page."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.registry.fake_content import OCI_INDEX
from tests.registry.fake_registry import FakeRegistry

TAGS = ["1.0", "1.1", "10", "2", "latest"]


@pytest.fixture
def filled(fake_registry: FakeRegistry) -> FakeRegistry:
    fake_registry.settings.page = 2
    fake_registry.add_manifest("team/app", {"schemaVersion": 2, "manifests": []}, OCI_INDEX, *TAGS)
    return fake_registry


def test_all_pages_are_listed_in_the_order_of_the_registry(run: Run, filled: FakeRegistry) -> None:
    assert run("tags", f"{filled.host}/team/app", store=False).lines == TAGS
    assert filled.log.count("GET .*/tags/list") == 3
    document = run("tags", "--json", f"{filled.host}/team/app", store=False).json
    assert document == {"repository": f"{filled.host}/team/app", "tags": TAGS}


def test_a_repository_without_tags(run: Run, filled: FakeRegistry) -> None:
    filled.repository("empty")
    filled.settings.null_tags = True
    assert run("tags", f"{filled.host}/empty", store=False).lines == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none", "none"),
        ("team/app:1.0", "names one image; give the repository: HOST/team/app"),
        (f"team/app@sha256:{'0' * 64}", "names one image"),
        ("Team", "cannot name an image"),
    ],
)
def test_errors_say_what_is_wrong(run: Run, filled: FakeRegistry, name: str, text: str) -> None:
    outcome = run("tags", f"{filled.host}/{name}", store=False, code=1)
    assert (text.replace("HOST", filled.host) in outcome.stderr, outcome.stdout) == (True, b"")
