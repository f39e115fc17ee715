"""The arguments of the methods of `Images`: accepted forms, and errors for wrong values."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import Platform
from layerstore_core.errors import InvalidReference
from layerstore_core.images import Images
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE

APP = ImageSpec((BASE,), ("app:1",))


@pytest.fixture
def app(images: Images) -> Images:
    images.load(io.BytesIO(docker_archive(APP)))
    return images


def test_one_name_or_a_list_of_names_is_accepted(app: Images, tmp_path: Path) -> None:
    assert [image.names for image in app.save("app:1", tmp_path / "x.tar")] == [("app:1",)]
    assert [step.created_by for step in app.history("app:1")] == ["CMD", "step 0"]
    with open(tmp_path / "y.tar", "wb", buffering=0) as file:
        app.save(("app:1",), file)
    assert (tmp_path / "y.tar").read_bytes() == (tmp_path / "x.tar").read_bytes()
    memory = io.BytesIO()
    app.save(["app:1"], memory, form="oci")
    assert memory.getvalue()[:4] == b"blob"


@pytest.mark.parametrize(
    "platform", ["linux/amd64", "amd64", ("linux", "amd64"), ["linux", "amd64"], Platform("linux", "amd64")]
)
def test_a_platform_is_accepted_in_each_form(images: Images, platform: Any) -> None:
    assert images.load(io.BytesIO(docker_archive(APP)), platform=platform)[0].names == ("app:1",)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda images: images.save(["app:1"], "x.tar", form="foo"), ValueError, '"oci" or "dir", not \'foo\''),
        (lambda images: images.save(7, "x.tar"), TypeError, "a name, or a list of names, not 7"),
        (lambda images: images.save([b"app:1"], "x.tar"), TypeError, "a str, not b'app:1'"),
        (lambda images: images.save(b"app:1", "x.tar"), TypeError, "a str, not b'app:1'"),
        (lambda images: images.save(["app:1"], 7), TypeError, "a path or a binary file object, not to 7"),
        (lambda images: images.save(["app:1"], io.StringIO()), TypeError, "a path or a binary file object"),
        (lambda images: images.load(b"x"), TypeError, "binary mode, not as bytes"),
        (lambda images: images.load(io.BytesIO(), platform=7), TypeError, 'a Platform, "linux/arm64"'),
        (lambda images: images.load(io.BytesIO(), platform="a/b/c/d"), ValueError, "is not a platform"),
        (lambda images: images.load(io.BytesIO(), name=7), TypeError, "an image's name, a str, not int 7"),
        (lambda images: images.load(io.BytesIO(), wanted=7), TypeError, "a name, or a list of names, not 7"),
        (lambda images: images.get(None), TypeError, "an image's name, a str"),
        (lambda images: images.tag("app:1", 7), TypeError, "an image's name, a str"),
        (lambda images: images.remove(7), TypeError, "a name, or a list of names, not 7"),
        (lambda images: images.history(7), TypeError, "an image, as get returns it, or its name"),
        (lambda images: Images("root"), TypeError, "an open LayerStore"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_an_error_before_anything_is_done(
    app: Images, call: Any, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words):
        call(app)
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize("value", [1.5, b"app:1", ["app:1"]])
def test_values_of_a_wrong_type_are_refused_with_what_is_expected(app: Images, value: Any) -> None:
    """Each was an `AttributeError`, or a comparison that failed, somewhere inside."""
    before = app.all()
    for call in (
        lambda: app.all(value),
        lambda: app.append(value, []),
        lambda: app.squash(value),
        lambda: app.squash("app:1", keep=value),
        lambda: app.squash("app:1", since=value),
        lambda: app.configure("app:1", None, value),
    ):
        with pytest.raises(TypeError, match=r"expected .*, not (float|bytes|list) "):
            call()
    assert app.all() == before


@pytest.mark.parametrize("name", ["scratch", "scratch:1", "docker.io/library/scratch:latest"])
def test_the_name_for_no_image_is_reserved(app: Images, name: str) -> None:
    with pytest.raises(InvalidReference, match="scratch means no image"):
        app.tag("app:1", name)
    with pytest.raises(InvalidReference, match="scratch means no image"):
        app.create([], name=name)
    app.tag("app:1", "example.org/scratch:1")
