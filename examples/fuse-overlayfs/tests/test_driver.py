"""What is this driver's own: which layers are mounted, the program's end and death, and where the driver works."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from layerstore_core import DriverNotSupported, LayerStore
from layerstore_core.errors import BadRecord
from layerstore_core.sdk import is_mount_point

DRIVER = "fuse-overlayfs"


def tar_of(**files: str) -> io.BytesIO:
    """Return a tar of regular files; `_wh_` at the start of a name is the mark of a deleted file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("_wh_", ".wh."))
            entry.size, entry.uid, entry.gid = len(content), os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(content.encode()))
    buffer.seek(0)
    return buffer


@pytest.fixture
def store(tmp_path) -> Iterator[LayerStore]:
    """Yield a store below a path with characters that separate options."""
    try:
        store = LayerStore.open(root=tmp_path / "a, b\\,c=d", driver=DRIVER)
    except DriverNotSupported as error:
        pytest.skip(str(error))
    with store:
        yield store


def programs_of(root: Path) -> list[int]:
    """Return the processes whose command line names a path below `root`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.fsencode(root) in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
        except OSError:
            pass
    return found


def test_layer_has_its_own_files_only_and_is_merged_when_used(store, tmp_path) -> None:
    base = store.register(tar_of(a="1", gone="2"))
    child = store.register(tar_of(b="3", _wh_gone=""), base.chain_id)
    own = [Path(layer.metadata()["UpperDir"]) for layer in (base, child)]
    assert [sorted(path.name for path in one.iterdir() if "gone" not in path.name) for one in own] == [["a"], ["b"]]
    with store.create_rw_layer("work", child.chain_id) as work, work.mounted() as path:
        assert is_mount_point(path)
        assert sorted(os.listdir(path)) == ["a", "b"]
        assert len(programs_of(tmp_path)) == 1
    assert programs_of(tmp_path) == []


def test_base_layer_needs_no_program(store, tmp_path) -> None:
    with store.create_rw_layer("work") as work, work.mounted() as path:
        Path(path, "new").write_text("1")
        assert not is_mount_point(path)
        assert programs_of(tmp_path) == []
        assert [str(change) for change in work.changes()] == ["A /new"]


def test_layer_of_a_killed_program_is_mounted_again(store, tmp_path) -> None:
    base = store.register(tar_of(a="1"))
    work = store.create_rw_layer("work", base.chain_id)
    Path(work.mount(keep=True), "new").write_text("2")
    (pid,) = programs_of(tmp_path)
    os.kill(pid, signal.SIGKILL)
    while pid in programs_of(tmp_path):
        time.sleep(0.01)
    assert sorted(os.listdir(work.mount())) == ["a", "new"]
    for _ in range(2):
        work.unmount()
    assert programs_of(tmp_path) == []
    work.close()


def test_commit_of_a_directory_that_was_made_again_deletes_what_it_had(store, tmp_path) -> None:
    """In the mount that is in use the program still finds such a file by its name."""
    base = store.register(tar_of(**{"d/old": "1", "d/older": "2"}))
    child = store.register(tar_of(b="3"), base.chain_id)
    with store.create_rw_layer("work", child.chain_id) as work, work.mounted() as path:
        for name in os.listdir(f"{path}/d"):
            os.unlink(f"{path}/d/{name}")
        os.rmdir(f"{path}/d")
        os.mkdir(f"{path}/d")
        Path(path, "d/new").write_text("4")
        assert [str(change) for change in work.changes()] == ["C /d", "A /d/new", "D /d/old", "D /d/older"]
        with work.tar_stream() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            names = [entry.name for entry in tar]
        assert sorted(names) == ["d", "d/.wh.old", "d/.wh.older", "d/new"]
        assert len(programs_of(tmp_path)) == 1
    assert programs_of(tmp_path) == []


def test_damaged_note_is_an_error_and_the_layer_can_be_removed(store, tmp_path) -> None:
    base = store.register(tar_of(a="1"))
    child = store.register(tar_of(b="2"), base.chain_id)
    layers = tmp_path / "a, b\\,c=d" / DRIVER / "layers"
    note = layers / child.cache_id / "parent"
    for content in (b"../../../etc", b"x" * 300, child.cache_id.encode(), b"\xff"):
        note.write_bytes(content)
        with pytest.raises(BadRecord) as caught:
            store.driver.get(child.cache_id)
        assert caught.value.path == note
    store.driver.remove(child.cache_id)
    assert os.listdir(layers) == [base.cache_id]


@pytest.mark.parametrize(
    ("place", "variables", "reason"),
    [
        ("a:b", {}, "cannot use directories with a colon in their path"),
        ("a", {"PATH": "/nowhere"}, "fuse-overlayfs is not installed; install the package fuse-overlayfs"),
    ],
)
def test_reason_why_the_driver_does_not_work(tmp_path, monkeypatch, place: str, variables, reason: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DriverNotSupported, match=reason):
        LayerStore.open(root=tmp_path / place, driver=DRIVER)
    assert not (tmp_path / place / DRIVER).exists()


def test_failure_of_the_program_is_the_reason(tmp_path, monkeypatch) -> None:
    program = tmp_path / "bin/fuse-overlayfs"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'unknown option: writeback' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    if not os.access("/dev/fuse", os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    with pytest.raises(DriverNotSupported, match=r"cannot mount in .*exit code 1.*unknown option: writeback"):
        LayerStore.open(root=tmp_path / "root", driver=DRIVER)
    assert sorted(os.listdir(tmp_path)) == ["bin"]


def test_choice_comes_before_vfs_and_after_what_the_kernel_does() -> None:
    (point,) = entry_points(group="layerstore.drivers", name=DRIVER)
    # Those of vfs, btrfs and overlay2, as the contract has them.
    assert -100 < point.load().priority < 90 < 100


def test_cleanup_ends_the_comparison_of_a_killed_process_and_no_other(store, tmp_path) -> None:
    """As an ordinary user the mount and its program outlive the process that compared."""
    base = store.register(tar_of(a="1"))
    child = store.register(tar_of(b="2"), base.chain_id)
    layer = Path(child.metadata()["UpperDir"]).parent
    running = store.driver.diff(child.cache_id, base.cache_id)
    script = (
        "import sys; from layerstore_core import LayerStore\n"
        f"store = LayerStore.open(root=sys.argv[1], driver={DRIVER!r})\n"
        "stream = store.driver.diff(*sys.argv[2:])\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, store.root, child.cache_id, base.cache_id]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    store.driver.cleanup()
    assert len(list(layer.glob("look-*"))) == 2  # of processes that run
    other.kill()
    other.communicate()
    store.driver.cleanup()
    assert len(list(layer.glob("look-*"))) == 1
    assert running.read(1)
    running.close()
    assert list(layer.glob("look-*")) == []
    assert programs_of(tmp_path) == []
