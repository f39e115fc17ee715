"""What these tests use does the same with containerd's own snapshotters: a failure elsewhere is one of the bridge."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.containerd.tests.real import engine, images


@pytest.mark.parametrize("snapshotter", engine.OWN_SNAPSHOTTERS)
def test_image_and_its_containers(snapshotter: str, tmp_path: Path) -> None:
    image = images.image()
    with engine.containerd(snapshotter) as containerd:
        containerd.import_(images.archive(tmp_path / "image.tar", image))
        chain = images.chain(image)
        assert containerd.snapshots() == {
            one: (parent, "Committed") for one, parent in zip(chain, ["", *chain[:-1]], strict=True)
        }
        containerd.start_container(images.NAME, "long")
        containerd.exec("long", 'test "$(cat /etc/motd)" = "layer 2"')
        assert [line.partition(": ")[2].split()[0] for line in containerd.processes()] != []
        assert len(containerd.mounts()) == 1
        containerd.kill()
        containerd.start()
        assert containerd.keys("Active") == {"long"}
        containerd.remove_container("long")
        containerd.remove_all_images()
        assert containerd.snapshots() == {}
        assert containerd.processes() == []
        assert containerd.mounts() == []
