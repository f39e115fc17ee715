"""The methods of the protocol, as Docker calls them."""

from __future__ import annotations

import os

import pytest

from tests import tars
from tests.store.layers import BASE, MIDDLE, TOP, tar_of


def pieces(tar, size=1000):
    return [tar[at : at + size] for at in range(0, len(tar), size)]


@pytest.fixture
def layers(client, new_id):
    """Three layers, each on the one before."""
    ids, parent = [], ""
    for tar in (BASE, MIDDLE, TOP):
        ids.append(new_id())
        client.call("Create", ID=ids[-1], Parent=parent)
        status, answer = client.apply(ids[-1], parent, pieces(tar))
        assert (status, answer.get("Err")) == (200, None)
        parent = ids[-1]
    yield ids
    for one in reversed(ids):
        client.call("Remove", ID=one)


def test_start(client):
    assert client.call("Plugin.Activate") == {"Implements": ["GraphDriver"]}
    client.call("Init", Home="/var/lib/docker/layerstore", Opts=None)
    assert client.call("Capabilities") == {"Capabilities": {"ReproducesExactDiffs": False}}
    status = dict(client.call("Status")["Status"])
    assert status["Driver"] == "vfs"
    assert status["Home"].endswith("/root/vfs")


def test_a_layer_lives(client, layers):
    top = layers[-1]
    assert client.call("Exists", ID=top) == {"Exists": True}
    path = client.call("Get", ID=top)["Dir"]
    assert sorted(os.listdir(f"{path}/opt")) == ["other"]
    client.call("Put", ID=top)
    assert client.call("GetMetadata", ID=top)["Metadata"]


def test_a_removed_layer_is_gone(client, new_id):
    client.call("Create", ID=(one := new_id()))
    client.call("Remove", ID=one)
    assert client.call("Exists", ID=one) == {"Exists": False}
    client.call("Remove", ID=one)  # again


def test_a_writable_layer(client, layers, new_id):
    init, rw = (one := new_id()) + "-init", one
    client.call("CreateReadWrite", ID=init, Parent=layers[-1], MountLabel="", StorageOpt=None)
    client.call("CreateReadWrite", ID=rw, Parent=init)
    path = client.call("Get", ID=rw)["Dir"]
    with open(f"{path}/new", "wb") as new:
        new.write(b"12345")
    os.unlink(f"{path}/etc/hosts")
    assert client.call("Changes", ID=rw, Parent=init)["Changes"] == [
        {"Path": "/etc", "Kind": 0},
        {"Path": "/etc/hosts", "Kind": 2},
        {"Path": "/new", "Kind": 1},
    ]
    assert client.call("DiffSize", ID=rw, Parent=init) == {"Size": 5}
    client.call("Put", ID=rw)
    client.call("Remove", ID=rw)
    client.call("Remove", ID=init)


def test_a_name_that_is_no_text(client, new_id):
    client.call("CreateReadWrite", ID=(one := new_id()))
    path = client.call("Get", ID=one)["Dir"]
    with open(os.fsencode(path) + b"/\xff", "wb"):
        pass
    assert client.call("Changes", ID=one)["Changes"] == [{"Path": "/\udcff", "Kind": 1}]


def test_a_diff_makes_the_same_layer(client, layers, new_id):
    _, middle, top = layers
    client.call("Create", ID=(copy := new_id()), Parent=middle)
    _, answer = client.apply(copy, middle, pieces(client.diff(top, middle)))
    assert "Err" not in answer
    assert client.call("Changes", ID=copy, Parent=top)["Changes"] in (None, [])
    client.call("Remove", ID=copy)


def test_the_size_of_an_applied_tar(client, new_id):
    client.call("Create", ID=(one := new_id()))
    assert client.apply(one, "", [tar_of({"a": b"x" * 1000, "b": b"y" * 500})]) == (200, {"Size": 1500})


def test_a_tar_with_its_length(client, new_id):
    client.call("Create", ID=(one := new_id()))
    status, _ = client.send(f"/GraphDriver.ApplyDiff?id={one}&parent=", BASE)
    assert status == 200
    assert client.call("Get", ID=one)["Dir"]


def test_a_tar_with_bytes_after_its_end(client, new_id):
    client.call("Create", ID=(one := new_id()))
    assert client.apply(one, "", [BASE, bytes(1 << 20)])[0] == 200
    client.call("Exists", ID=one)  # the connection is still in order


def test_mounts_are_counted(client, layers):
    """vfs mounts nothing, but the server counts for it, too."""
    top = layers[-1]
    client.call("Cleanup")
    status = lambda: dict(client.call("Status")["Status"])["Mounted Layers"]  # noqa: E731
    client.call("Get", ID=top)
    client.call("Get", ID=top)
    assert status() == "1"
    client.call("Put", ID=top)
    assert status() == "1"
    client.call("Put", ID=top)
    assert status() == "0"
    client.call("Put", ID=top)  # never mounted
    client.call("Get", ID=top)
    client.call("Cleanup")
    assert status() == "0"


@pytest.mark.parametrize("name", ["Base", "ManyFiles", "a/../../b", "..", "x" * 4000, "id-" + "0" * 64, "\u00e9 \n"])
def test_ids_of_any_form(client, name):
    client.call("Create", ID=name)
    assert client.call("Exists", ID=name) == {"Exists": True}
    client.call("Remove", ID=name)
    assert client.call("Exists", ID=name) == {"Exists": False}


class TestErrors:
    """What a program is told, besides the text."""

    def test_a_layer_that_exists(self, client, layers):
        answer = client.ask("Create", ID=layers[0])
        assert answer["Err"]
        assert (answer["Class"], answer["Details"]["Errno"]) == ("exists", "EEXIST")

    @pytest.mark.parametrize("method", ["Get", "Changes", "DiffSize", "GetMetadata"])
    def test_a_layer_that_does_not_exist(self, client, new_id, method):
        answer = client.ask(method, ID=new_id())
        assert answer["Err"]
        assert answer["Class"] == "not-found"

    def test_a_parent_that_does_not_exist(self, client, new_id):
        assert client.ask("Create", ID=new_id(), Parent=new_id())["Class"] == "not-found"

    def test_an_option_that_the_driver_does_not_know(self, client, new_id):
        answer = client.ask("CreateReadWrite", ID=(one := new_id()), StorageOpt={"size": "1G"})
        assert answer["Class"] == "config"
        assert client.call("Exists", ID=one) == {"Exists": False}

    def test_a_tar_that_leaves_the_layer(self, client, new_id):
        client.call("Create", ID=(one := new_id()))
        status, answer = client.apply(one, "", [tars.tar(tars.entry(b"../../evil", b"x"))])
        assert (status, answer["Class"]) == (200, "invalid-layer")
        assert answer["Details"]["Entry"] == "../../evil"

    def test_a_tar_that_is_cut_off(self, client, new_id):
        client.call("Create", ID=(one := new_id()))
        _, answer = client.apply(one, "", [BASE[:1000]])
        assert answer["Class"] == "invalid-layer"
        assert answer["Details"]["Offset"] > 0

    def test_a_diff_of_no_layer(self, client, new_id):
        status, text = client.send("/GraphDriver.Diff", b'{"ID": "%s"}' % new_id().encode())
        assert status == 500
        assert b'"Class": "not-found"' in text

    def test_an_id_is_needed(self, client):
        status, text = client.send("/GraphDriver.Get", b"{}")
        assert status == 400
        assert b"ID is missing" in text


def test_many_clients_at_once(served, new_id):
    from concurrent.futures import ThreadPoolExecutor

    shared = new_id()
    served.client().call("Create", ID=shared)

    def work(number):
        client = served.client()
        one = new_id()
        for _ in range(5):
            client.call("CreateReadWrite", ID=one, Parent=shared)
            path = client.call("Get", ID=shared)["Dir"]
            assert os.path.isdir(path)
            client.call("Put", ID=shared)
            client.call("Remove", ID=one)
        client.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert dict(served.client().call("Status")["Status"])["Mounted Layers"] == "0"
