"""An image is imported, run, changed, committed, exported and removed by ctr and runc: over each driver."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from bridges.containerd.tests.real import images
from bridges.containerd.tests.real.bridge import Bridge, CtrFailed


def test_image_and_its_containers_from_import_to_removal(bridge: Bridge, tmp_path: Path) -> None:
    containerd, image = bridge.containerd, images.image()
    archive = images.archive(tmp_path / "image.tar", image)
    containerd.import_(archive)
    chain = images.chain(image)
    assert bridge.check_lists() == {
        one: (parent, "Committed") for one, parent in zip(chain, ["", *chain[:-1]], strict=True)
    }

    script = """
        test "$(cat /etc/motd)" = "layer 2"
        test "$(ls /old)" = new-2
        test "$(stat -c '%u %g %a' /only-1)" = "1000 1000 640"
    """
    containerd.run(images.NAME, "short", script)
    assert containerd.keys("Active") == set()

    containerd.start_container(images.NAME, "long")
    containerd.exec("long", "echo changed >/etc/motd; rm -r /old; mkdir /old; echo new >/old/own; rm /only-1; sync")
    containerd.exec("long", 'test "$(cat /etc/motd)" = changed')
    assert bridge.check_lists()["long"] == (chain[-1], "Active")
    bridge.server.store("check")

    diff = containerd.ctr_bytes("snapshots", "--snapshotter", containerd.snapshotter, "diff", "long")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(diff))) as tar:
        names = {name for name in tar.getnames() if not name.endswith("/") and tar.getmember(name).isfile()}
    assert names >= {"etc/motd", "old/own", ".wh.only-1"}
    assert not names & {"bin/busybox", "only-2"}

    # Else the collector may be quicker than the next call.
    containerd.ctr("snapshots", "--snapshotter", containerd.snapshotter, "label", "long", "containerd.io/gc.root=test")
    containerd.ctr("tasks", "rm", "--force", "long")
    containerd.ctr("containers", "rm", "--keep-snapshot", "long")
    containerd.ctr("snapshots", "--snapshotter", containerd.snapshotter, "commit", "made by hand", "long")
    with bridge.mounted("again", parent="made by hand") as tree:
        assert (tree / "etc/motd").read_text() == "changed\n"
        assert sorted(path.name for path in (tree / "old").iterdir()) == ["own"]
        assert not (tree / "only-1").exists()
        assert (tree / "only-2").stat().st_uid == 1000
        (tree / "written").write_text("kept\n")
    with bridge.mounted("again") as tree:
        assert (tree / "written").read_text() == "kept\n"
    with bridge.mounted("only to read", kind="view", parent="made by hand") as tree:
        assert (tree / "etc/motd").read_text() == "changed\n"
        with pytest.raises(OSError, match="Read-only"):
            (tree / "written").write_text("not kept\n")
    assert bridge.check_lists()["made by hand"] == (chain[-1], "Committed")
    with pytest.raises(CtrFailed, match="child"):
        containerd.ctr("snapshots", "--snapshotter", containerd.snapshotter, "rm", "made by hand")

    containerd.ctr("images", "export", tmp_path / "exported.tar", images.NAME)
    with tarfile.open(tmp_path / "exported.tar") as tar:
        (manifest,) = json.load(tar.extractfile("index.json"))["manifests"]
        layers = json.load(tar.extractfile("blobs/" + manifest["digest"].replace(":", "/")))["layers"]
        assert [tar.extractfile("blobs/" + one["digest"].replace(":", "/")).read() for one in layers] == image.packed

    bridge.check_empty()
