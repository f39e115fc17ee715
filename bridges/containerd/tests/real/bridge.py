"""containerd over the bridge: an engine and a server, and what must be true of both."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bridges.containerd.tests.real import engine, images
from bridges.containerd.tests.real.engine import Containerd, CtrFailed
from bridges.containerd.tests.real.listing import as_containerd_lists, listed
from bridges.containerd.tests.real.server import Server
from layerstore_core import LayerStore, check_store, collect_garbage, prune
from tests.driver_roots import mounts_below, remove_root

NAME = "layerstore"
_PATIENCE = 30


def why_not(*programs: str) -> str:
    """Return why no containers can be run over the bridge here. Empty if they can."""
    return engine.why_not(*programs) or images.why_not()


class Bridge:
    """A containerd, and the server that its snapshots come from."""

    def __init__(self, containerd: Containerd, server: Server) -> None:
        self.containerd = containerd
        self.server = server

    def check_lists(self) -> dict[str, tuple[str, str]]:
        """Check that containerd and the server know the same snapshots. Return them: parents and kinds by names.

        containerd removes what it has forgotten when its collector runs, so that has to be over.
        """
        self.containerd.collect()
        theirs, ours = self.containerd.snapshots(), as_containerd_lists(self.server.address)
        only_ours, only_theirs = ours.items() - theirs.items(), theirs.items() - ours.items()
        assert ours == theirs, f"only of the server: {only_ours}, only of containerd: {only_theirs}"
        return ours

    def check_store(self) -> None:
        """Check that the store is sound: its records, the trees of its layers, and the snapshots."""
        with self.open_store() as store:
            assert check_store(store, full=True) == []

    def open_store(self) -> LayerStore:
        """Open the store in this process, beside the server or without it."""
        return LayerStore.open(root=self.server.root, driver=self.server.driver)

    def check_empty(self, *, of_store: bool = False) -> None:
        """Remove everything from containerd. Check that then nothing is left of it: no snapshot, layer, mount, process.

        Args:
            of_store: the store's own images and layers are removed as well.
        """
        self.containerd.clear()
        self.containerd.remove_all_images()
        for key, (_, kind) in self.containerd.snapshots().items():
            if kind != "Committed":
                self.containerd.ctr("snapshots", "--snapshotter", self.containerd.snapshotter, "rm", key)
        # What a test has committed by hand has a label that keeps it. It cannot be removed by its name: containerd 1.6
        # goes on to count children that its collector has removed.
        for key in self.containerd.snapshots():
            words = ("snapshots", "--snapshotter", self.containerd.snapshotter, "label", key, "containerd.io/gc.root=")
            with suppress(CtrFailed):  # the collector was quicker
                self.containerd.ctr(*words)
        left = self.check_lists()
        assert not left, left
        processes, mounts = self.containerd.processes(), self.containerd.mounts()
        assert not processes, processes
        assert not mounts, mounts
        self.server.stop()
        with self.open_store() as store:
            assert check_store(store, full=True) == []
            if of_store:
                prune(store, named=True)
            collect_garbage(store)
            assert len(self.trees()) == len(store.layers())
        assert mounts_below(self.server.root) == []
        assert self.server.errors() == []

    def restart_server(self) -> None:
        """Start the server again after it was killed, and wait until containerd has noticed.

        containerd tries a socket again after up to 3 s, and refuses calls meanwhile. With systemd's socket it never
        sees that the server is gone.
        """
        self.server.start()
        deadline = time.monotonic() + _PATIENCE
        while (refused := self._refused()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not refused

    def _refused(self) -> str:
        try:
            self.containerd.snapshots()
        except CtrFailed as error:
            return str(error)
        return ""

    def trees(self) -> set[str]:
        """Return the driver's IDs of all layers that it has, as its directories say."""
        below = {"vfs": "vfs/dir", "overlay2": "overlay2", "btrfs": "btrfs/subvolumes"}[self.server.driver]
        directory = self.server.root / below
        return {path.name for path in directory.iterdir()} - {"l"} if directory.exists() else set()

    def wait_for(self, committed: int) -> None:
        """Wait until the server has this many committed snapshots, in the middle of what makes them."""
        deadline = time.monotonic() + _PATIENCE
        while sum(one.kind == "Committed" for one in listed(self.server.address)) < committed:
            assert time.monotonic() < deadline, "no more snapshots are made"
            time.sleep(0.002)

    @contextmanager
    def mounted(self, key: str, *, kind: str = "prepare", parent: str = "") -> Iterator[Path]:
        """Mount a snapshot, which is made for that if it has a parent, by the line that ctr prints for a shell."""
        words = ("snapshots", "--snapshotter", self.containerd.snapshotter)
        with tempfile.TemporaryDirectory(dir=self.containerd.directory) as target:
            if parent:
                line = self.containerd.ctr(*words, kind, "--target", target, key, parent)
            else:
                line = self.containerd.ctr(*words, "mounts", target, key)
            subprocess.run(["sh", "-ec", line], check=True)
            try:
                yield Path(target)
            finally:
                subprocess.run(["umount", target], check=True)


@contextmanager
def bridge(driver: str, root: Path, *, cri: bool = False) -> Iterator[Bridge]:
    """Run a containerd over a server of `root` for the length of a `with` block. Afterwards all of it is gone."""
    directory = Path(tempfile.mkdtemp(prefix="layerstore-srv-"))  # a socket's path may have at most 107 bytes
    server = Server(root, driver, directory)
    try:
        server.start()
        with engine.containerd(NAME, {NAME: server.address}, cri=cri) as containerd:
            yield Bridge(containerd, server)
    finally:
        server.kill()
        remove_root(root)
        shutil.rmtree(directory)
