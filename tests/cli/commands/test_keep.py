"""The options of `load`, `save`, `images` and `inspect` for platforms, referrers, and compression."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.images.archives import oci_manifest, write_files
from tests.images.keep.layouts import artifact, image_for, multi_platform, named, write_index
from tests.store.layers import BASE, TOP

AMD, ARM = image_for("amd64", (BASE,)), image_for("arm64", (TOP,))


@pytest.fixture(autouse=True)
def _on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    files, _ = multi_platform(AMD, ARM)
    return write_files(tmp_path / "layout", files)


def test_all_platforms_are_loaded_listed_and_saved(run: Run, layout: Path, tmp_path: Path) -> None:
    loaded = run("load", layout, "--all-platforms", "--json").json
    assert [image["names"] for image in loaded["images"]] == [["app:1"], ["app:1"]]
    assert {one["subject"][:7] for one in loaded["referrers"]} == {"sha256:"}
    assert loaded["skipped"] == []
    assert run("load", layout, "--all-platforms").lines == ["app:1"]
    listed = run("images", "--json").json["images"]
    assert sorted(image["platform"] for image in listed) == ["linux/amd64", "linux/arm64"]
    only = run("images", "--platform", "arm64", "--json").json["images"]
    assert [image["id"] for image in only] == [ARM.image_id]
    saved = run("save", "app:1", "-o", tmp_path / "all", "--format", "oci", "--all-platforms", "--json").json
    assert [one["as_loaded"] for one in saved["manifests"]] == [True, True]
    one = run("save", "app:1", "-o", tmp_path / "one", "--format", "dir", "--platform", "linux/arm64", "--json").json
    assert [image["id"] for image in one["images"]] == [ARM.image_id]
    assert (
        "there are: linux/amd64, linux/arm64"
        in run("save", "app:1", "-o", tmp_path / "no", "--platform", "s390x", code=1).stderr
    )
    assert not (tmp_path / "no").exists()


def test_a_platform_can_be_mounted_and_be_a_parent(run: Run, layout: Path) -> None:
    run("load", layout, "--all-platforms")
    chains = {image["platform"]: image["chain_id"] for image in run("images", "--json").json["images"]}
    assert len(set(chains.values())) == 2
    for number, (platform, chain) in enumerate(chains.items()):
        created = run("rw", "create", f"a{number}", "--image", "app:1", "--platform", platform, "--json")
        assert created.json["parent"] == chain
        created = run("rw", "create", f"b{number}", "--parent", "app:1", "--platform", platform, "--json")
        assert created.json["parent"] == chain
    assert (
        "linux/amd64, linux/arm64" in run("rw", "create", "c", "--image", "app:1", "--platform", "s390x", code=1).stderr
    )
    assert "--platform needs --image" in run("rw", "create", "c", "--platform", "s390x", code=2).stderr
    assert "--platform needs an IMAGE" in run("mount", "--platform", "s390x", code=2).stderr


@pytest.mark.needs_root
def test_the_image_for_a_platform_is_mounted(run: Run, layout: Path) -> None:
    run("load", layout, "--all-platforms")
    for image in run("images", "--json").json["images"]:
        mounted = run("mount", "app:1", "--platform", image["platform"], "--json").json
        assert mounted["chain_id"] == image["chain_id"]
        run("umount", mounted["path"])


def test_the_line_for_people_says_what_was_skipped_but_not_what_was_kept(run: Run, layout: Path) -> None:
    said = run("load", layout)
    assert said.lines == ["app:1"]
    assert said.stderr.count("skipped") == 2  # the other platform and its attestation


def test_inspect_shows_referrers(run: Run, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    manifest = oci_manifest(files, AMD)
    sbom = artifact(files, manifest, b"packages")
    write_files(tmp_path / "layout", write_index(files, [named(manifest, "docker.io/library/app:1"), sbom]))
    run("load", tmp_path / "layout")
    document = run("inspect", "app:1", "--json").json
    assert document["referrers"] == [{"digest": sbom["digest"], "subject": manifest["digest"], "type": "text/sbom"}]
    assert "Referrers:   1" in run("inspect", "app:1").text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--compression", "lzma"], "'lzma' is not a compression"),
        (["--compression", "zstd:99"], "the level of zstd is from 1 to 22"),
        (["--all-platforms"], "one image for a name"),
        (["--referrers"], "no place for referrers"),
        (["--format", "dir", "--referrers"], "no place for referrers"),
        (["--platform", "a/b/c/d"], "is not a platform"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    run: Run, layout: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    run("load", layout)
    assert words in run("save", "app:1", "-o", tmp_path / "out", *options, code=2).stderr
    assert not (tmp_path / "out").exists()
