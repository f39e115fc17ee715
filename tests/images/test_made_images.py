"""Images made here from one that Buildah has built: Buildah runs them, umoci unpacks them, Skopeo shows them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import ConfigOptions, Image, Images, LayerStore
from tests.images.test_clients import client

BUSYBOX = shutil.which("busybox")
pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed (Debian's package busybox-static)")
SHOW = ["/bin/sh", "-c", 'echo "$A $B"; pwd; busybox cat /greeting']


class Buildah:
    """Buildah with a storage of its own."""

    def __init__(self, directory: Path) -> None:
        self._own = ("--storage-driver", "vfs", "--root", directory / "buildah", "--runroot", directory / "run")

    def __call__(self, *args: str | Path) -> str:
        return client("buildah", *self._own, *args).strip()

    def build(self, target: str, *layers: Path, **env: str) -> None:
        """Build an image from nothing: each directory becomes a layer."""
        base = "scratch"
        for layer in layers:
            container = self("from", base)
            self("copy", "--quiet", container, layer, "/")
            base = self("commit", "--quiet", "--rm", container)
        container = self("from", base)
        words = [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        self("config", *words, "--workingdir", "/work", "--label", f"base={target}", container)
        image = self("commit", "--quiet", "--rm", container)
        self("push", image, target)


def test_peers_take_what_each_command_makes(images: Images, store: LayerStore, tmp_path: Path) -> None:
    buildah = Buildah(tmp_path)
    for name in ("programs", "etc", "etc-new"):
        (tmp_path / name).mkdir()
    for name in ("sh", "busybox"):
        (tmp_path / "programs" / "bin").mkdir(exist_ok=True)
        assert BUSYBOX is not None
        shutil.copy(BUSYBOX, tmp_path / "programs" / "bin" / name)
    (tmp_path / "etc" / "release").write_text("old\n")
    (tmp_path / "etc-new" / "release").write_text("new\n")
    buildah.build(f"oci:{tmp_path}/old:1", tmp_path / "programs", tmp_path / "etc", A="old", B="old")
    buildah.build(f"oci:{tmp_path}/new:1", tmp_path / "programs", tmp_path / "etc-new", A="new", B="new")
    (old,) = images.load(tmp_path / "old", name="old:1")
    (new,) = images.load(tmp_path / "new", name="new:1")
    (tmp_path / "greeting").write_text("hello\n")

    options = ConfigOptions(env={"B": "mine"}, cmd=SHOW, annotations={"org.example": "mine"})
    made: dict[str, Image] = {}
    with images.create_rw_layer("work", "old:1") as rw:
        with rw.mounted() as root:
            shutil.copy(tmp_path / "greeting", Path(root, "greeting"))
            Path(root, "work").mkdir()
        made["commit"] = images.commit(rw, "commit:1", config=options)
    made["append"] = images.append("old:1", [(tmp_path / "greeting", "/")], name="append:1", config=options)
    made["config"] = images.configure("commit:1", "config:1", ConfigOptions(env={"B": None}))
    made["rebase"] = images.rebase("commit:1", "old:1", "new:1", "rebase:1")
    assert made["commit"].diff_ids[:-1] == old.diff_ids
    assert made["rebase"].diff_ids[:-1] == new.diff_ids
    expected = {"commit": "old mine", "append": "old mine", "config": "old ", "rebase": "new mine"}
    for name, image in made.items():
        layout = tmp_path / f"layout-{name}"
        images.save([f"{name}:1"], layout, form="oci")
        config: dict[str, Any] = json.loads(client("skopeo", "inspect", "--config", "--raw", f"oci:{layout}:1"))
        assert config == image.config.document
        assert images.annotations(f"{name}:1")["org.example"] == "mine"
        manifest = json.loads(client("skopeo", "inspect", "--raw", f"oci:{layout}:1"))
        assert manifest["annotations"] == images.annotations(f"{name}:1")
        container = buildah("from", f"oci:{layout}:1")
        shown = buildah("run", "--isolation", "chroot", "--network", "host", container, "--", *SHOW)
        assert shown.splitlines() == [expected[name], "/work", "hello"]
        if name in ("append", "rebase"):
            client("umoci", "unpack", "--image", f"{layout}:1", tmp_path / name)
            root = tmp_path / name / "rootfs"
            assert (root / "greeting").read_text() == "hello\n"
            assert (root / "release").read_text() == ("new\n" if name == "rebase" else "old\n")


def test_an_image_of_umoci_is_continued(images: Images, store: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("base\n")
    layout = tmp_path / "layout"
    client("umoci", "init", "--layout", layout)
    client("umoci", "new", "--image", f"{layout}:1")
    client("umoci", "insert", "--image", f"{layout}:1", tmp_path / "tree", "/tree")
    client("umoci", "config", "--image", f"{layout}:1", "--config.env", "A=1", "--config.cmd", "sh", "--author", "them")
    images.load(layout, name="base:1")
    with images.create_rw_layer("work", "base:1") as rw:
        with rw.mounted() as root:
            Path(root, "tree/file").write_text("changed\n")
        made = images.commit(rw, "made:1", config=ConfigOptions(env={"B": "2"}, author="me"), mtime=0)
    images.save(["made:1"], tmp_path / "made", form="oci")
    client("umoci", "unpack", "--image", f"{tmp_path}/made:1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/tree/file").read_text() == "changed\n"
    spec = json.loads((tmp_path / "bundle/config.json").read_text())
    assert {"A=1", "B=2"} < set(spec["process"]["env"])
    assert spec["process"]["args"] == ["sh"]
    steps = json.loads(client("umoci", "stat", "--json", "--image", f"{tmp_path}/made:1"))["history"]
    assert len(steps) == len(images.history(made))
    assert steps[-2]["created_by"] == "layerstore commit"
