"""Entry points that are read directly are those that `importlib_metadata` finds; anything odd is declined."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import importlib_metadata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.plugins.entry_points import EntryPoint, read_entry_points

GROUPS = ("a.drivers", "a.wrappers")


@contextmanager
def path_of(*places: Path | str) -> Iterator[None]:
    before, sys.path = sys.path, list(map(str, places))
    try:
        yield
    finally:
        sys.path = before


def reference() -> list[tuple[str, ...]]:
    try:
        points = list(importlib_metadata.entry_points())
    except (TypeError, OSError):  # a file is damaged, or missing
        points = []
        for distribution in importlib_metadata.distributions():
            with suppress(TypeError, OSError):
                points += distribution.entry_points
    return sorted((point.name, point.value, point.group) for point in points if point.group in GROUPS)


def found() -> list[tuple[str, ...]] | None:
    points = read_entry_points(GROUPS)
    return None if points is None else sorted((point.name, point.value, point.group) for point in points)


def write(site: Path, directory: str, text: str | bytes, *, metadata: bool = True) -> None:
    info = site / directory
    info.mkdir(parents=True)
    if metadata:
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1\n")
    (info / "entry_points.txt").write_bytes(text.encode() if isinstance(text, str) else text)


lines = st.one_of(
    st.sampled_from(
        ["", "# x = y", "[a.drivers]", " [a.wrappers] ", "[b]", "[[a.drivers]]", "[a.drivers", "\f", "x", "a = b = c"]
    ),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["one", " two", "", "z-1.x"]),
        st.sampled_from(["=", " = ", " =", ":"]),
        st.sampled_from(["m:C", "m.n : C.d ", "m", "", "m:C [x, y]", "m-n:C", "# no"]),
    ),
)
directories = st.sampled_from(
    ["one-1.dist-info", "One-2.dist-info", "o.ne-1.dist-info", "o_ne-1.egg-info", "two-1-py3.egg-info", "x.DIST-INFO",
     "three-1.dist-info.bak", "-1.dist-info", "four.dist-info"]
)  # fmt: skip


@given(
    st.lists(
        st.dictionaries(directories, st.tuples(st.lists(lines, max_size=6).map("\n".join), st.booleans()), max_size=4),
        min_size=1,
        max_size=2,
    )
)
def test_what_is_read_is_what_importlib_metadata_finds(sites: list[dict[str, tuple[str, bool]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        places = [Path(name) / str(number) for number in range(len(sites))]
        for place, infos in zip(places, sites, strict=True):
            place.mkdir()
            for directory, (text, metadata) in infos.items():
                write(place, directory, text, metadata=metadata)
        with path_of(*places, Path(name) / "missing"):
            direct = found()
            if direct is not None:
                assert direct == reference()


def test_usual_packages_are_not_declined(tmp_path: Path) -> None:
    write(tmp_path, "one-1.dist-info", "[a.drivers]\nx = m:C\n[a.wrappers]\ny = m\n")
    write(tmp_path, "other-1.dist-info", "[console_scripts]\nx = m:C\n")
    with path_of(tmp_path, "/proc/none"):
        assert found() == [("x", "m:C", "a.drivers"), ("y", "m", "a.wrappers")] == reference()
    [point] = [point for point in read_entry_points(["layerstore.drivers"]) or () if point.name == "vfs"]
    assert point.dist is not None
    assert point.dist.name == "layerstore-driver-vfs"
    assert point.load().__name__ == "VfsDriver"
    assert point.module == "layerstore_vfs"


@pytest.mark.parametrize(
    "text", ["[a.drivers]\nno equals sign\n", b"[a.drivers]\nx = \xff\n", "[b]\nx\n[a.drivers]\nx = y\n"]
)
def test_a_damaged_file_is_declined(tmp_path: Path, text: str | bytes) -> None:
    write(tmp_path, "one-1.dist-info", text)
    with path_of(tmp_path):
        assert found() is None


def test_two_distributions_of_one_name_are_declined(tmp_path: Path) -> None:
    for site in ("first", "second"):
        write(tmp_path / site, "one-1.dist-info", f"[a.drivers]\n{site} = m:C\n")
    with path_of(tmp_path / "first", tmp_path / "second"):
        assert found() is None
        assert reference() == [("first", "m:C", "a.drivers")]


def test_an_archive_on_the_path_is_declined(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("one-1.dist-info/entry_points.txt", "[a.drivers]\nx = m:C\n")
        archive.writestr("one-1.dist-info/METADATA", "Name: one\n")
    with path_of(tmp_path / "x.zip"):
        assert found() is None
    (tmp_path / "y.egg").mkdir()
    with path_of(tmp_path / "y.egg"):
        assert found() is None


def test_a_finder_with_distributions_of_its_own_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, *_: Any) -> None:
            return None

        def find_distributions(self, *_: Any) -> list[Any]:
            return []

    assert found() is not None
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert found() is None


@pytest.mark.parametrize("value", ["os:path.join", "os", "os.path:join", "os : path.join [extra]", "os:path.join[x]"])
def test_an_entry_point_is_loaded_as_by_importlib_metadata(value: str) -> None:
    real = importlib_metadata.EntryPoint("x", value, "g")
    mine = EntryPoint("x", value, "g", None)
    assert mine.load() is real.load()
    assert mine.module == real.module


@pytest.mark.parametrize("value", ["", "no-module:C", "os:", "os:no_such", "no_such_module:C", ":C", "os:path:join"])
def test_an_entry_point_that_cannot_be_loaded_fails_as_by_importlib_metadata(value: str) -> None:
    errors = []
    for point in (importlib_metadata.EntryPoint("x", value, "g"), EntryPoint("x", value, "g", None)):
        with pytest.raises((ValueError, AttributeError, ImportError)) as caught:
            point.load()
        errors.append(caught.type)
    assert errors[0] is errors[1]
