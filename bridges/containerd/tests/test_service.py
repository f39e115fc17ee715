"""The calls of the service over a real store: what they change, and what clients are told."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path

import grpc
import pytest
from layerstore_containerd import messages

from layerstore_core import LayerStore

from .client import Client, Server, code, running


def write(mounts: list, name: str, text: str) -> None:
    """Write a file as a client does that has mounted the snapshot; with vfs the mount is a bind of one directory."""
    (mount,) = mounts
    assert mount.type == "bind"
    assert "rw" in mount.options
    Path(mount.source, name).write_text(text)


def read(mounts: list, name: str) -> str:
    (mount,) = mounts
    return Path(mount.source, name).read_text()


def tar(name: str, content: bytes = b"x") -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    stream.seek(0)
    return stream


def test_children_see_what_was_committed_and_change_none_of_it(client: Client) -> None:
    write(client.prepare("ns/1/a b"), "file", "one")
    client.commit("ns/2/sha256:base", "ns/1/a b")
    child = client.prepare("ns/3/child", "ns/2/sha256:base")
    assert read(child, "file") == "one"
    write(child, "file", "two")
    assert read(client.view("ns/4/view", "ns/2/sha256:base"), "file") == "one"
    client.commit("ns/5/child", "ns/3/child")
    assert read(client.view("ns/6/view", "ns/5/child"), "file") == "two"
    assert client.names() == ["ns/2/sha256:base", "ns/5/child", "ns/4/view", "ns/6/view"]


def test_view_is_mounted_read_only(client: Client) -> None:
    client.prepare("a")
    client.commit("base", "a")
    (mount,) = client.view("v", "base")
    assert "ro" in mount.options
    assert "rw" not in mount.options


def test_mounts_are_the_same_each_time(client: Client) -> None:
    first = client.prepare("a")
    assert client.mounts("a") == first == client.mounts("a")


def test_stat_tells_parent_kind_labels_and_times(client: Client) -> None:
    before = time.time()
    client.prepare("a", labels={"of": "prepare"})
    client.commit("base", "a", {"of": "commit", "ü/b": ""})
    client.prepare("child", "base", {"l": "v" * 10_000})
    base, child = client.stat("base"), client.stat("child")
    assert (base.name, base.parent, base.kind) == ("base", "", messages.KIND_COMMITTED)
    assert dict(base.labels) == {"of": "commit", "ü/b": ""}
    assert (child.name, child.parent, child.kind) == ("child", "base", messages.KIND_ACTIVE)
    assert dict(child.labels) == {"l": "v" * 10_000}
    assert before - 1 <= child.created_at.seconds + child.created_at.nanos / 1e9 <= time.time() + 1
    assert child.updated_at == child.created_at
    client.view("view", "base")
    assert client.stat("view").kind == messages.KIND_VIEW


def test_update_changes_the_labels_that_its_mask_names(client: Client) -> None:
    client.prepare("a", labels={"one": "1", "two.dots": "2", "three": "3"})
    info = client.update("a", {"one": "I", "two.dots": "II"}, ["labels.two.dots", "labels.three"])
    assert dict(info.labels) == dict(client.stat("a").labels) == {"one": "1", "two.dots": "II"}
    assert dict(client.update("a", {"x": "y"}, ["labels"]).labels) == {"x": "y"}
    assert dict(client.update("a", {"z": ""}).labels) == {"z": ""}
    assert client.stat("a").updated_at.nanos != client.stat("a").created_at.nanos
    assert dict(client.update("a", {}).labels) == {}


def test_usage_is_that_of_own_files(client: Client) -> None:
    write(client.prepare("a"), "file", "12345")
    client.commit("base", "a")
    write(client.prepare("b", "base"), "other", "123")
    base, active = client("Usage", key="base"), client("Usage", key="b")
    assert base.size >= 5
    assert base.inodes >= 1
    assert 3 <= active.size < 5 + 4096 * 2
    assert active.inodes >= 1


def test_list_is_filtered(client: Client) -> None:
    client.prepare("a", labels={"l": "1"})
    client.commit("base", "a", {"l": "2"})
    client.prepare("b", "base", {"l": "2"})
    client.view("v", "base")
    assert client.names() == ["base", "b", "v"]
    assert client.names("kind==committed") == ["base"]
    assert client.names("labels.l==2,parent==base", "kind==view") == ["b", "v"]
    assert client.names("name~=^b") == ["base", "b"]
    assert client.names("name==none") == []


def test_snapshot_is_removed_after_its_children(client: Client) -> None:
    client.prepare("a")
    client.commit("base", "a")
    (mount,) = client.prepare("b", "base")
    client.remove("b")
    client.remove("base")
    client("Cleanup")
    assert client.names() == []
    assert not os.path.exists(mount.source)


def test_layer_of_the_store_is_found_by_its_chain_id(directory: Path) -> None:
    root = directory / "root"
    with LayerStore.open(root=root, driver="vfs") as store:
        base = store.register(tar("base"))
        app = store.register(tar("app", b"content"), parent=base.chain_id)
    with running(root, directory / "s.sock") as server, server.client() as client:
        label = "containerd.io/snapshot.ref"
        parent = ""
        for layer in (base.chain_id, app.chain_id):
            with pytest.raises(grpc.RpcError) as answer:
                client.prepare(f"ns/1/extract {layer}", parent, {label: str(layer), "more": "kept"})
            assert code(answer.value) == "ALREADY_EXISTS"
            # What containerd asks next: with the value bare, and the parent quoted.
            (info,) = client.list(f'labels."{label}"=={layer},parent=="{parent}"')
            assert info.kind == messages.KIND_COMMITTED
            assert info.parent == parent
            assert dict(info.labels) == {label: str(layer), "more": "kept"}
            parent = info.name
        assert read(client.view("v", parent), "app") == "content"
        # One that the store does not have is made as any other.
        assert client.prepare("x", "", {label: "sha256:" + "0" * 64})


def test_snapshots_survive_a_restart_with_the_same_mounts(directory: Path) -> None:
    root, address = directory / "root", directory / "s.sock"
    with running(root, address) as server, server.client() as client:
        write(client.prepare("a"), "file", "one")
        client.commit("base", "a", {"l": "v"})
        mounts = client.prepare("b", "base")
        view = client.view("v", "base")
        infos = client.list()
        assert server.stop() == 0
    with running(root, address) as server, server.client() as client:
        assert client.list() == infos
        assert client.mounts("b") == mounts
        assert client.mounts("v") == view
        assert read(client.mounts("b"), "file") == "one"


def test_calls_of_one_connection_do_not_wait_for_each_other(shared_server: Server, client: Client) -> None:
    calls = [
        client.channel.unary_unary(messages.CALLS["Prepare"].path).future(
            messages.CALLS["Prepare"].request(key=f"k{number}").SerializeToString()
        )
        for number in range(100)
    ]
    for call in calls:
        call.result(60)
    assert len(client.names()) == 100


def test_error_of_the_system_is_logged_in_one_line(directory: Path) -> None:
    """Where in the code it happened is for bugs: a full disk would fill the log otherwise."""
    with running(directory / "root", directory / "s.sock", LAYERSTORE_DURABILITY="none") as server:
        with server.client() as client:
            client.prepare("one")
            (directory / "root/vfs/dir").rename(directory / "lost")
            (directory / "root/vfs/dir").write_bytes(b"")
            with pytest.raises(grpc.RpcError, match="not a directory"):
                client.prepare("two")
        assert server.stop() == 0
        log = server.log.read_text()
        assert "Prepare failed: " in log
        assert [line for line in log.splitlines() if not line.startswith("ERROR: ")] == []
