"""Read-only mounts of layers: what they show, what they keep, and what is left when a process is killed."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerstore_core import ChainID, Images, LayerStore, LayerStoreError, collect_garbage, disk_usage, prune
from layerstore_core.maintenance.check import check_store
from layerstore_core.store.mounts import read_only
from layerstore_core.store.mounts.attach import mount_points
from layerstore_core.store.mounts.read_only import mounts_of
from tests.images.archives import ImageSpec, docker_archive, tar_files
from tests.store.layers import BASE, MIDDLE, chain

pytestmark = pytest.mark.needs_root
#: For tests in which the driver does not matter.
only_vfs = pytest.mark.parametrize("driver", ["vfs"], indirect=True)

IMAGE = ImageSpec([tar_files({"base": b"b"}), tar_files({"top": b"t"})], ["app:1"])


@pytest.fixture(autouse=True)
def no_mounts_left(tmp_path: Path) -> Iterator[None]:
    yield
    left = [point for point in mount_points().values() if point.startswith(f"{tmp_path}/")]
    for point in reversed(left):
        subprocess.run(["umount", "--lazy", point], check=False)
    assert [point for point in left if "/merged" not in point] == []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "at"
    path.mkdir()
    return path


def top_of(store: LayerStore) -> ChainID:
    found = Images(store).load(io.BytesIO(docker_archive(IMAGE)))[0].chain_id
    assert found is not None
    return found


def notes(store: LayerStore) -> list[Path]:
    directory = store.root / "layerstore" / "trees" / store.driver_name
    return sorted(directory.rglob("*")) if directory.exists() else []


def test_a_mount_shows_the_tree_and_cannot_be_written(store: LayerStore, directory: Path) -> None:
    chain_id = top_of(store)
    with store.get(chain_id) as layer:
        for path in (layer.mount(), layer.mount(directory)):
            assert sorted(os.listdir(path)) == ["base", "top"]
            for change in (
                lambda path=path: Path(path, "new").touch(),
                lambda path=path: os.unlink(Path(path, "top")),
                lambda path=path: os.chmod(path, 0o777),
                lambda path=path: Path(path, "base").write_bytes(b""),
            ):
                with pytest.raises(OSError, match="Read-only file system"):
                    change()
            flags = os.statvfs(path).f_flag
            assert flags & os.ST_NOSUID and flags & os.ST_NODEV
        assert layer.mount() == layer.mounts()[0] or layer.mount() in layer.mounts()
        assert len(layer.mounts()) == 2
        assert layer.unmount(directory) == [str(directory)]
        assert os.listdir(directory) == []
        assert len(layer.unmount()) == 1
    assert notes(store) == []
    assert check_store(store, full=True) == []


def test_a_mount_keeps_its_layers(store: LayerStore) -> None:
    chain_id = top_of(store)
    with store.get(chain_id) as layer:
        path = layer.mount()
    assert disk_usage(store).images[0].in_use
    assert not prune(store, named=True)
    assert Images(store).remove("app:1").layers == []
    assert collect_garbage(store) == []
    assert store.holders(chain_id) == [f"the mount at {path}"]
    assert Path(path, "top").read_bytes() == b"t"
    with store.get(chain_id) as layer:
        layer.unmount()
    assert [item.kind for item in collect_garbage(store)] == ["layer", "layer"]


def test_a_child_can_be_made_and_used_while_its_parent_is_mounted(store: LayerStore) -> None:
    _, middle = chain(store, BASE, MIDDLE)
    path = middle.mount()
    before = sorted(os.listdir(path))
    with store.create_rw_layer("box", middle.chain_id) as rw, rw.mounted() as writable:
        Path(writable, "new").write_bytes(b"new")
        assert sorted(os.listdir(path)) == before
        with rw.tar_stream() as stream:
            child = store.register(stream, middle.chain_id)
    with child.mounted() as of_child:
        assert sorted(os.listdir(of_child)) == sorted([*before, "new"])
    middle.unmount()
    assert check_store(store, full=True) == []


def test_a_mount_for_a_block_ends_with_it(store: LayerStore, directory: Path) -> None:
    with store.get(top_of(store)) as layer:
        with layer.mounted() as first, layer.mounted(directory) as second:
            assert os.listdir(first) == os.listdir(second) != []
            assert layer.unmount() == []  # these are not to be ended by others
            assert collect_garbage(store) == []
        assert (layer.mounts(), os.listdir(directory), notes(store)) == ([], [], [])


@only_vfs
@pytest.mark.parametrize("where", ["missing", "file", "root", "in root", "around root", "", "taken"])
def test_a_mount_point_that_cannot_be_used_is_refused(store: LayerStore, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    paths = {"": "", "root": store.root, "in root": store.root / "layerstore", "around root": store.root.parent}
    with store.get(top_of(store)) as layer:
        layer.mount(tmp_path / "taken")
        with pytest.raises((LayerStoreError, OSError)) as caught:
            layer.mount(paths.get(where, tmp_path / where))
        expected = {
            "missing": "No such file or directory",
            "file": "Not a directory",
            "": "the name of the mount point is empty",
            "taken": "is mounted there already",
        }
        assert expected.get(where, "cannot be a mount point") in str(caught.value)
        assert layer.unmount() == [str(tmp_path / "taken")]


@only_vfs
def test_a_mount_in_use_stays_until_it_is_not(store: LayerStore) -> None:
    with store.get(top_of(store)) as layer:
        path = layer.mount()
        with open(Path(path, "top"), "rb"), pytest.raises(OSError, match="busy") as caught:
            layer.unmount()
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, path)
        assert layer.mounts() == [path] and Path(path, "top").exists()
        assert layer.unmount() == [path]


@only_vfs
@pytest.mark.parametrize("step", ["read_only_clone", "attach", "mount_id"])
def test_a_mount_that_fails_leaves_nothing(
    store: LayerStore, directory: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(read_only, step, fail)
    with store.get(top_of(store)) as layer:
        for point in (None, directory):
            with pytest.raises(PermissionError) as caught:
                layer.mount(point)
            assert "layerstore unshare" in caught.value.__notes__[0]
    assert notes(store) == []
    assert not store.driver.is_mounted(layer._node.record.cache_id)


@only_vfs
def test_notes_of_mounts_that_were_ended_by_hand_or_are_damaged_are_removed(store: LayerStore, directory: Path) -> None:
    chain_id = top_of(store)
    with store.get(chain_id) as layer:
        layer.mount(directory)
    subprocess.run(["umount", directory], check=True)
    damaged = store.root / "layerstore/trees/vfs" / chain_id.hex / f"{'a' * 16}.json"
    for content in (b"{", b"[" * 5000, b"{}", b'{"target": "relative", "kept": true}', b"\xff"):
        damaged.parent.mkdir(exist_ok=True)
        damaged.write_bytes(content)
        assert any("the mount at ?" in holder for holder in store.holders(chain_id))
        kinds = [item.kind for item in collect_garbage(store, dry_run=True)]
        assert kinds.count("stale mount") == len(mounts_of(store.context).all())
        assert [item.kind for item in collect_garbage(store)] == kinds
        assert notes(store) == []
    assert list(store.layers()) != []


@only_vfs
def test_a_note_that_names_another_mount_ends_nothing_else(
    store: LayerStore, tmpfs: Callable[[str], Path], directory: Path
) -> None:
    """A root may be another user's, who wants root to unmount something."""
    chain_id, other = top_of(store), tmpfs("size=1m")
    with store.get(chain_id) as layer:
        layer.mount(directory)
        (mount,) = mounts_of(store.context).of(chain_id)
        ids = {point: number for number, point in mount_points().items()}
        mounts_of(store.context).write(mount._replace(target=str(other), mount_id=ids[str(other)]))
        layer.unmount()
    assert str(other) in mount_points().values()
    assert notes(store) == []
    subprocess.run(["umount", directory], check=True)


KILLED = """
import os, signal, sys
from layerstore_core import LayerStore
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.store.mounts import read_only
from layerstore_core.store.mounts.records import TreeMounts
root, driver, chain, step, turn, directory = sys.argv[1:]
def die_at(owner, name):
    real, calls = getattr(owner, name), []
    def wrapped(*args, **named):
        calls.append(0)
        if len(calls) == int(turn[1:]) and turn[0] == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **named)
        if len(calls) == int(turn[1:]):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)
with LayerStore.open(root=root, driver=driver) as store, store.get(chain) as layer:
    owners = {"get": BoundDriver, "end_kept_mount": BoundDriver, "write": TreeMounts, "remove": TreeMounts}
    if step in ("detach", "end_kept_mount", "remove"):
        layer.mount(directory or None)
        die_at(owners.get(step, read_only), step)
        layer.unmount()
    else:
        die_at(owners.get(step, read_only), step)
        layer.mount(directory or None)
raise SystemExit("it was not killed")
"""


@pytest.mark.parametrize(
    ("driver", "step", "turn"),
    [
        ("overlay2", "write", "b1"),
        ("overlay2", "write", "a1"),
        ("overlay2", "get", "a1"),
        ("overlay2", "write", "a2"),
        ("overlay2", "attach", "b1"),
        ("overlay2", "detach", "b1"),
        ("overlay2", "detach", "a1"),
        ("overlay2", "end_kept_mount", "a1"),
        ("overlay2", "remove", "a1"),
        ("vfs", "attach", "b1"),
        ("vfs", "detach", "a1"),
    ],
    indirect=["driver"],
)
def test_what_a_killed_process_leaves_is_ended(
    store: LayerStore, driver: str, step: str, turn: str, tmp_path: Path, directory: Path
) -> None:
    chain_id = top_of(store)
    point = directory if driver == "vfs" else ""
    command = [sys.executable, "-c", KILLED, store.root, driver, chain_id, step, turn, point]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if (step, turn) == ("detach", "b1"):  # it is still mounted, as it was to be
        assert collect_garbage(store) == []
        with store.get(chain_id) as layer:
            layer.unmount()
    else:
        collect_garbage(store)
    assert notes(store) == []
    assert not [path for path in mount_points().values() if path.startswith(f"{tmp_path}/")]
    assert os.listdir(directory) == []
    Images(store).remove("app:1")
    assert store.layers() == {}


USING = """
import sys
from layerstore_core import LayerStore
with LayerStore.open(root=sys.argv[1], driver="vfs") as store, store.get(sys.argv[2]) as layer:
    USE
    print(layer.mounts()[0], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def another_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(use: str, store: LayerStore, chain_id: str, *before: str) -> subprocess.Popen[str]:
        program = USING.replace("USE", use)
        process = subprocess.Popen(
            [*before, sys.executable, "-c", program, store.root, chain_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@only_vfs
def test_the_mount_of_a_process_that_is_killed_in_its_block_is_ended(store: LayerStore, another_process) -> None:
    chain_id = top_of(store)
    process = another_process("use = layer.mounted(); use.__enter__()", store, chain_id)
    assert collect_garbage(store) == []
    process.kill()
    process.wait()
    assert [item.kind for item in collect_garbage(store)] == ["stale mount"]
    assert notes(store) == []


@only_vfs
def test_a_mount_in_another_namespace_is_left_until_that_is_gone(store: LayerStore, another_process) -> None:
    chain_id = top_of(store)
    process = another_process("layer.mount()", store, chain_id, "unshare", "--mount")
    assert collect_garbage(store) == []
    with store.get(chain_id) as layer, pytest.raises(LayerStoreError, match="another mount namespace"):
        layer.unmount()
    process.kill()
    process.wait()
    sees_all_processes = os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC
    found = collect_garbage(store)
    deadline = time.monotonic() + 60
    # The kernel may give the namespace's number to a new one, of any process on the machine: then the mount stays.
    while sees_all_processes and not found and time.monotonic() < deadline:
        time.sleep(0.1)
        found = collect_garbage(store)
    assert [item.kind for item in found] == (["stale mount"] if sees_all_processes else [])
    with store.get(chain_id) as layer:
        assert len(layer.unmount(force=True)) == (not sees_all_processes)
    assert notes(store) == []


@only_vfs
def test_a_mount_in_another_namespace_can_be_forgotten(store: LayerStore, another_process) -> None:
    chain_id = top_of(store)
    process = another_process("layer.mount()", store, chain_id, "unshare", "--mount")
    with store.get(chain_id) as layer:
        assert len(layer.unmount(force=True)) == 1
    assert notes(store) == []
    process.kill()
