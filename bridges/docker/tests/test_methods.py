"""The methods of the protocol, as Docker calls them."""

from __future__ import annotations

import errno
import os

import pytest

from tests import tars
from tests.store.layers import BASE, MIDDLE, TOP, tar_of

from .served import serving


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
    assert client.call("Capabilities")["Capabilities"] == {
        "ReproducesExactDiffs": False,
        "MaxDepth": None,
        "ParallelApply": False,
        "Quota": False,
        "SharesInodes": False,
    }
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


@pytest.mark.parametrize(
    "name", ["Base", "ManyFiles", "a/../../b", "..", "x" * 4000, "id-" + "0" * 64, "\u00e9 \n"], ids=range(7)
)
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
        assert (answer["Class"], answer["Errno"]) == ("FileExistsError", errno.EEXIST)

    @pytest.mark.parametrize("method", ["Get", "Changes", "DiffSize", "GetMetadata"])
    def test_a_layer_that_does_not_exist(self, client, new_id, method):
        answer = client.ask(method, ID=new_id())
        assert answer["Err"]
        assert answer["Class"] == "FileNotFoundError"

    def test_a_parent_that_does_not_exist(self, client, new_id):
        assert client.ask("Create", ID=new_id(), Parent=new_id())["Class"] == "FileNotFoundError"

    def test_an_option_that_the_driver_does_not_know(self, client, new_id):
        answer = client.ask("CreateReadWrite", ID=(one := new_id()), StorageOpt={"size": "1G"})
        assert answer["Class"] == "ConfigError"
        assert client.call("Exists", ID=one) == {"Exists": False}

    def test_a_tar_that_leaves_the_layer(self, client, new_id):
        client.call("Create", ID=(one := new_id()))
        status, answer = client.apply(one, "", [tars.tar(tars.entry(b"../../evil", b"x"))])
        assert (status, answer["Class"]) == (200, "InvalidLayer")
        assert answer["Entry"] == "../../evil"

    def test_a_tar_that_is_cut_off(self, client, new_id):
        client.call("Create", ID=(one := new_id()))
        _, answer = client.apply(one, "", [BASE[:1000]])
        assert answer["Class"] == "InvalidLayer"
        assert answer["Offset"] > 0

    def test_a_diff_of_no_layer(self, client, new_id):
        status, text = client.send("/GraphDriver.Diff", b'{"ID": "%s"}' % new_id().encode())
        assert status == 500
        assert b'"Class": "FileNotFoundError"' in text

    def test_an_id_is_needed(self, client):
        status, text = client.send("/GraphDriver.Get", b"{}")
        assert status == 400
        assert b"ID is missing" in text


class TestAdditions:
    """The methods that Docker does not have."""

    def test_a_version_is_agreed_upon(self, client, served):
        answer = client.call("Layerstore.Version", Versions=[1, 2, 99])
        assert (answer["Version"], answer["Driver"]) == (1, "vfs")
        assert answer["Directory"] == str(served.root / "vfs")
        assert {"LayerIDs", "Flush"} <= set(answer["Methods"])
        assert "CheckTree" not in answer["Methods"]

    def test_a_version_that_is_not_known(self, client):
        status, text = client.send("/Layerstore.Version", b'{"Versions": [2]}')
        assert status == 400
        assert b"knows the versions 1" in text

    def test_methods_without_a_version_are_answered_too(self, client, layers):
        assert set(layers) <= set(client.call("Layerstore.LayerIDs")["IDs"])
        assert client.call("Layerstore.CheckLayer", ID=layers[0], Parent="") == {"Problems": []}
        assert client.call("Layerstore.RepairLayer", ID=layers[0], Parent="", Proved=True) == {"Done": []}
        assert client.call("Layerstore.CheckHome", Full=True) == {"Problems": []}
        assert client.call("Layerstore.CheckHome") == {"Problems": []}
        assert client.call("Layerstore.RepairHome") == {"Done": []}
        assert "Parent" in client.call("Layerstore.ParentOf", ID=layers[0], Parent="")
        assert client.call("Layerstore.Flush") == {}

    def test_a_check_of_the_home_is_full_unless_it_says_otherwise(self, place):
        """Clients from before there was the field rely on that."""
        shown = """
from layerstore_core.driver.bound import BoundDriver
BoundDriver.check_home = lambda self, *, full: [f"full: {full}"]
"""
        with serving(*place, before=shown) as served:
            client = served.client()
            for given, full in (({}, True), ({"Full": None}, True), ({"Full": True}, True), ({"Full": False}, False)):
                assert client.call("Layerstore.CheckHome", **given) == {"Problems": [f"full: {full}"]}

    def test_mounts_and_seal(self, client, layers, new_id):
        client.call("CreateReadWrite", ID=(one := new_id()), Parent=layers[-1])
        (mount,) = client.call("Layerstore.Mounts", ID=one, ReadOnly=False)["Mounts"]
        assert (mount["Type"], mount["Options"]) == ("bind", ["rbind", "rw"]) or mount["Options"] == ["rw", "rbind"]
        with open(f"{mount['Source']}/written", "w") as new:
            new.write("x")
        client.call("Get", ID=one)
        assert client.ask("Layerstore.Seal", ID=one)["Errno"] == errno.EBUSY
        client.call("Put", ID=one)
        assert client.call("Layerstore.Seal", ID=one) == {"Sealed": True}
        client.call("CreateReadWrite", ID=(child := new_id()), Parent=one)
        assert os.listdir(client.call("Get", ID=child)["Dir"]).count("written") == 1
        client.call("Put", ID=child, All=True)
        client.call("Remove", ID=child)
        client.call("Remove", ID=one)

    def test_all_users_end_at_once(self, client, layers):
        client.call("Cleanup")
        client.call("Get", ID=layers[0])
        client.call("Get", ID=layers[0])
        client.call("Put", ID=layers[0], All=True)
        assert dict(client.call("Status")["Status"])["Mounted Layers"] == "0"

    def test_init_of_a_further_connection_changes_nothing(self, client, layers, served):
        """Docker sends Init when it has started: then it has no users any more."""
        users = lambda: dict(client.call("Status")["Status"])["Mounted Layers"]  # noqa: E731
        client.call("Init", Home="/docker")
        client.call("Get", ID=layers[0])
        client.call("Get", ID=layers[0])
        other = served.client()
        other.call("Layerstore.Version", Versions=[1])
        other.call("Init", Home="/elsewhere")
        client.call("Put", ID=layers[0])
        assert users() == "1"
        client.call("Get", ID=layers[0])
        client.call("Init", Home="/docker")
        client.call("Put", ID=layers[0])
        assert users() == "0"


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
