"""Commands that change several objects report the changes made, also if they fail half way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core.driver.bound import BoundDriver
from layerstore_core.maintenance.repair import Repair
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.store.store import LayerStore
from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

A = ImageSpec((tar_of({"a": b"1"}), tar_of({"a": b"2"})), ("a:1",))
B = ImageSpec((tar_of({"b": b"1"}),), ("b:1",))

FailAt = Callable[[int], None]


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> FailAt:
    """Return a function that makes the driver's removals fail, from the one of the given number on."""

    def fail_at_(number: int) -> None:
        real, calls = BoundDriver.remove, iter(range(1, 1000))

        def remove(self: BoundDriver, layer_id: str) -> None:
            if next(calls) >= number:
                raise OSError(errno.EIO, os.strerror(errno.EIO), layer_id)
            real(self, layer_id)

        monkeypatch.setattr(BoundDriver, "remove", remove)

    return fail_at_


@pytest.fixture
def chains(run: Run) -> list[str]:
    """The layers of `A`, the topmost first, and then the layer of `B`; both images are loaded."""
    run("load", "-", stdin=docker_archive(A, B))
    layers = {layer["chain_id"]: layer["parent"] for layer in run("ls", "--json").json["layers"]}
    top = next(chain for chain, parent in layers.items() if parent is not None)
    return [top, layers[top], *(chain for chain in layers if chain not in (top, layers[top]))]


def test_rmi_reports_what_it_removed_before_an_unknown_name(run: Run, chains: list[str]) -> None:
    outcome = run("rmi", "a:1", "nosuch", "b:1", code=1)
    assert outcome.lines == ["name a:1", f"image {A.image_id}", f"layer {chains[0]}", f"layer {chains[1]}"]
    assert "there is no image 'nosuch:latest'" in outcome.stderr
    assert run("images", "--json").json["images"][0]["names"] == ["b:1"]


def test_rmi_that_fails_half_way_answers_with_the_usual_json_keys(run: Run, chains: list[str]) -> None:
    outcome = run("--json", "rmi", "b:1", "nosuch", code=1)
    assert outcome.error["type"] == "ImageDoesNotExist"
    assert list(outcome.json) == ["untagged", "deleted", "removed"]
    assert (outcome.json["untagged"], outcome.json["deleted"]) == (["b:1"], [B.image_id])
    assert [layer["chain_id"] for layer in outcome.json["removed"]] == [chains[2]]


@pytest.mark.usefixtures("chains")
def test_rmi_that_removes_nothing_prints_only_an_error(run: Run) -> None:
    outcome = run("--json", "rmi", "nosuch", "a:1", code=1)
    assert outcome.error["type"] == "ImageDoesNotExist"
    assert outcome.stdout == b""


def test_rmi_reports_what_it_removed_before_the_driver_failed(run: Run, chains: list[str], fail_at: FailAt) -> None:
    fail_at(2)
    outcome = run("rmi", "a:1", code=1)
    assert outcome.lines == ["name a:1", f"image {A.image_id}", f"layer {chains[0]}"]
    assert "Input/output error" in outcome.stderr


@pytest.mark.usefixtures("chains")
def test_rmi_of_two_names_of_one_image(run: Run) -> None:
    run("tag", "a:1", "a:2")
    assert run("rmi", "a:1", A.image_id[:20]).lines[:3] == ["name a:1", "name a:2", f"image {A.image_id}"]
    assert "there is no image" in run("rmi", "b:1", "b:1", code=1).stderr


def test_rm_reports_the_removed_part_of_a_chain(run: Run, base: Path, upper: Path, root: Path, fail_at: FailAt) -> None:
    low = run("register", base).text.strip()
    high = run("register", upper, "--parent", low).text.strip()
    with LayerStore.open(root=root, driver="vfs") as store:
        store.unpin(low)
    fail_at(2)
    outcome = run("--json", "rm", high, code=1)
    assert outcome.error["type"] == "OSError"
    assert [layer["chain_id"] for layer in outcome.json["removed"]] == [high]


def test_rm_that_fails_keeps_the_pin(run: Run, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from layerstore_core.records.layerdb import LayerDB

    def begin_deletion(self: LayerDB, chain: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.path))

    chain = run("register", base).text.strip()
    with monkeypatch.context() as broken:
        broken.setattr(LayerDB, "begin_deletion", begin_deletion)
        assert run("rm", chain, code=1).stdout == b""
    assert run("show", chain, "--json").json["pinned"] is True


def test_rw_rm_reports_that_the_writable_layer_is_removed(run: Run, base: Path, root: Path, fail_at: FailAt) -> None:
    chain = run("register", base).text.strip()
    run("rw", "create", "work", "--parent", chain)
    with LayerStore.open(root=root, driver="vfs") as store:
        store.unpin(chain)
    fail_at(2)
    outcome = run("--json", "rw", "rm", "work", code=1)
    assert outcome.json == {"name": "work", "removed": []}
    assert "the writable layer 'work' itself is removed" in outcome.error["message"]
    assert run("rw", "ls").text == ""


def test_rw_rm_that_removes_nothing_prints_nothing(run: Run, fail_at: FailAt) -> None:
    run("rw", "create", "work")
    fail_at(1)
    assert run("--json", "rw", "rm", "work", code=1).stdout == b""
    assert len(run("rw", "ls", "--json").json["rw_layers"]) == 1


def test_gc_reports_what_it_removed_before_the_driver_failed(
    run: Run, base: Path, upper: Path, root: Path, fail_at: FailAt
) -> None:
    with LayerStore.open(root=root, driver="vfs") as store:
        low = store.register(base)
        loose = [str(store.register(upper, low).chain_id), str(low.chain_id)]
    fail_at(2)
    outcome = run("gc", "--json", code=1)
    assert [item["name"] for item in outcome.json["removed"]] == loose[:1]
    assert outcome.json["freed"] == outcome.json["removed"][0]["bytes"]
    assert outcome.error["type"] == "OSError"


def test_check_reports_repairs_done_before_an_interrupt(
    run: Run, base: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = run("register", base).text.strip()
    for digit in "ab":
        (root / "layerstore/pins/vfs" / (digit * 64)).touch()
    real, calls = Repair._repair_one, iter(range(10))

    def mend_one(self: Repair, finding, still_there) -> str:
        if next(calls):
            raise KeyboardInterrupt
        return real(self, finding, still_there)

    monkeypatch.setattr(Repair, "_repair_one", mend_one)
    outcome = run("--json", "check", "--repair", code=130)
    assert outcome.error["type"] == "Interrupted"
    assert [item["subject"] for item in outcome.json["repaired"]] == [f"sha256:{'a' * 64}"]
    assert [item["subject"] for item in outcome.json["findings"]] == [f"sha256:{'b' * 64}"]
    assert run("show", chain, "--json").json["pinned"] is True


def test_a_tag_that_fails_adds_no_name(run: Run, chains: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: ImageDB, image: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(ImageDB, "set_last_updated", fails)
        run("tag", "a:1", "a:2", code=1)
        run("load", "-", "--name", "third:3", stdin=docker_archive(B), code=1)
    assert [image["names"] for image in run("images", "--json").json["images"]] == [["a:1"], ["b:1"]]
    assert len(run("ls", "--json").json["layers"]) == len(chains)
