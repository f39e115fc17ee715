"""Names of images, as Docker parses them."""

from __future__ import annotations

import pytest

from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidReference

DIGEST = "sha256:" + "ab" * 32


# The results are Docker's: most cases are from distribution/reference, `normalize_test.go`.
@pytest.mark.parametrize(
    ("text", "full", "shown"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/debian:12", "docker.io/library/debian:12", "debian:12"),
        ("index.docker.io/org/app", "docker.io/org/app:latest", "org/app:latest"),
        ("docker.io/library/foo/bar", "docker.io/library/foo/bar:latest", "library/foo/bar:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:V1.2_x", "localhost:5000/app:V1.2_x", "localhost:5000/app:V1.2_x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("Upper/app", "Upper/app:latest", "Upper/app:latest"),
        ("org/a--b__c.d-e", "docker.io/org/a--b__c.d-e:latest", "org/a--b__c.d-e:latest"),
        # In a shorter form, these would mean other images, or be invalid: found by fuzzing.
        ("docker.io/localhost/app", "docker.io/localhost/app:latest", "docker.io/localhost/app:latest"),
        ("index.docker.io/docker.io/a/b", "docker.io/docker.io/a/b:latest", "docker.io/docker.io/a/b:latest"),
        ("library/" + "ab" * 32, f"docker.io/library/{'ab' * 32}:latest", f"docker.io/library/{'ab' * 32}:latest"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"example.com/app@{DIGEST}", f"example.com/app@{DIGEST}", f"example.com/app@{DIGEST}"),
    ],
)
def test_a_name_has_a_full_and_a_short_form(text: str, full: str, shown: str) -> None:
    reference = Reference.parse(text)
    assert (reference.full_name, str(reference)) == (full, shown)
    assert Reference.parse(full) == Reference.parse(shown) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Debian",
        "debian:",
        "debian:-1",
        "debian:" + "x" * 129,
        "debian@sha256:12",
        "debian@md5:" + "ab" * 16,
        "a//b",
        "/a",
        "a/",
        "-a",
        "a_",
        "a___b",
        "a..b",
        "../a",
        "a b",
        "a\nb",
        "ä",
        "ab" * 32,
        "x" * 256,
        "exa mple.com/a",
        "example.com:port/a",
    ],
)
def test_an_invalid_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)
