"""Rebasing: own layers and settings on another base, or a refusal with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import ImageDoesNotExist, Images, InvalidImage, LayerDoesNotExist, LayerStore
from layerstore_core.images.make import rebase as rebasing
from layerstore_core.images.make import record
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.images.make.images_of import WHEN, document, load
from tests.store.layers import BASE, MIDDLE, TOP, chain, names_of, tar_of, tree

NEW_BASE = tar_of({"etc": None, "etc/hosts": b"new\n"})
NEW_SECOND = tar_of({"etc/more": b"more\n"})


def step(text: str, *, empty: bool = False) -> dict[str, Any]:
    return {"created": WHEN, "created_by": text, **({"empty_layer": True} if empty else {})}


OLD_STEPS = [step("base layer"), step("base env", empty=True)]
NEW_STEPS = [step("new layer"), step("new second"), step("new env", empty=True)]
OWN_STEPS = [step("own env", empty=True), step("own layer"), step("own second"), step("own cmd", empty=True)]


def rebased(images: Images, mine: Any, old: Any, new: Any) -> dict[str, Any]:
    """Return the object `config` of an image that was rebased, where the three images have these."""
    load(images, BASE, name="old", run=old)
    load(images, NEW_BASE, name="new", run=new)
    load(images, BASE, MIDDLE, name="app", run=mine)
    found: dict[str, Any] = document(images.rebase("app", "old", "new", "made", created=WHEN))["config"]
    return found


def test_own_layers_and_steps_are_on_the_new_base(store: LayerStore, images: Images) -> None:
    load(images, BASE, name="old", history=OLD_STEPS)
    new = load(images, NEW_BASE, NEW_SECOND, name="new", history=NEW_STEPS, variant="v3")
    load(images, BASE, MIDDLE, TOP, name="app", history=[*OLD_STEPS, *OWN_STEPS], author="me", vendor={"x": 1})
    made = images.rebase("app", "old", "new", "made:1", created=WHEN)
    assert made == images.get("made:1")
    assert [str(name) for name in made.chain_ids] == names_of(NEW_BASE, NEW_SECOND, MIDDLE, TOP)
    found = document(made)
    assert found["history"] == [*NEW_STEPS, *OWN_STEPS]
    assert (found["author"], found["created"], found["variant"], found["vendor"]) == ("me", WHEN, "v3", {"x": 1})
    assert store.context.image_db.parent(made.image_id) == new.image_id
    assert images.rebase("app", "old", "new", "again", created=WHEN).image_id == made.image_id
    assert check_store(store, full=True) == []
    assert collect_garbage(store) == []


def test_settings_of_the_old_base_follow_the_new_one(images: Images) -> None:
    old = {
        "Env": ["PATH=/old", "V=1", "GONE=1", "OWN=base"],
        "Entrypoint": ["/old"],
        "Cmd": ["old"],
        "User": "old",
        "WorkingDir": "/w",
        "Labels": {"base": "1", "removed": "1", "own": "1"},
        "ExposedPorts": {"80/tcp": {}},
        "Vendor": {"x": 1},
    }
    new = {
        "Env": ["PATH=/new", "V=2", "MORE=1", "OWN=new"],
        "Entrypoint": ["/new"],
        "Cmd": ["new"],
        "Labels": {"base": "2", "removed": "2", "own": "2", "more": "2"},
        "Volumes": {"/v": {}},
        "Vendor": {"x": 2},
    }
    mine = {
        **old,
        "Env": ["PATH=/old", "V=1", "GONE=1", "OWN=mine", "MINE=1"],
        "Cmd": ["mine"],
        "WorkingDir": "/mine",
        "Labels": {"base": "1", "own": "mine", "mine": "1"},
        "ExposedPorts": {"80/tcp": {}, "90/tcp": {}},
    }
    assert rebased(images, mine, old, new) == {
        "Env": ["PATH=/new", "V=2", "MORE=1", "OWN=mine", "MINE=1"],
        "Entrypoint": ["/new"],
        "Cmd": ["mine"],
        "WorkingDir": "/mine",
        "Labels": {"base": "2", "own": "mine", "more": "2", "mine": "1"},
        "ExposedPorts": {"90/tcp": {}},
        "Volumes": {"/v": {}},
        "Vendor": {"x": 2},
    }


NAMED = {"Env": ["A=1"], "Labels": {"a": "1"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}}


@pytest.mark.parametrize(
    ("mine", "old", "new", "expected"),
    [
        ({"Entrypoint": ["e"]}, {"Cmd": ["old"]}, {"Cmd": ["new"]}, {"Entrypoint": ["e"]}),
        ({"Entrypoint": ["e"]}, {}, {"Cmd": ["new"]}, {"Entrypoint": ["e"]}),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"Cmd": ["c"]}, {"Cmd": ["n"]}, {"Entrypoint": ["e"], "Cmd": ["c"]}),
        ({"Cmd": ["c"]}, {"Entrypoint": ["o"]}, {"Entrypoint": ["n"]}, {"Cmd": ["c"]}),
        ({"Cmd": None}, {}, {"Cmd": ["new"]}, {"Cmd": ["new"]}),
        ({"User": "me"}, {"User": "me"}, {}, {}),
        ({}, {"User": "me"}, {"User": "new"}, {}),
        (None, None, {"User": "new"}, {"User": "new"}),
        (NAMED, NAMED, {"User": "new"}, {"User": "new"}),
        ({**NAMED, "Labels": {"a": "1", "b": "2"}}, NAMED, {}, {"Labels": {"b": "2"}}),
        *((NAMED, NAMED, {"Labels": empty}, {"Labels": empty}) for empty in ({}, None)),
        ({"Labels": None, "Volumes": {}}, {}, {}, {}),
    ],
    ids=str,
)
def test_single_settings(images: Images, mine: Any, old: Any, new: Any, expected: Any) -> None:
    found = rebased(images, mine or {}, old or {}, new)
    assert found == expected


def test_layers_without_an_image_can_be_a_base(store: LayerStore, images: Images) -> None:
    bare = chain(store, NEW_BASE, NEW_SECOND)
    base = load(images, BASE, name="old")
    load(images, BASE, MIDDLE, name="app", run={"Cmd": ["x"]})
    assert base.chain_id is not None
    made = images.rebase("app", base.chain_id, bare[-1].chain_id, "made")
    assert [str(name) for name in made.chain_ids] == names_of(NEW_BASE, NEW_SECOND, MIDDLE)
    assert document(made)["config"] == {"Cmd": ["x"]}
    assert sum(not one.get("empty_layer") for one in document(made)["history"]) == 3


def test_an_image_without_own_layers_gets_those_of_the_base(images: Images) -> None:
    load(images, BASE, name="old", run={"User": "x"})
    new = load(images, NEW_BASE, name="new", run={"User": "y"})
    load(images, BASE, name="app", run={"User": "x", "Cmd": ["a"]})
    made = images.rebase("app", "old", "new", "made")
    assert made.diff_ids == new.diff_ids
    assert document(made)["config"] == {"User": "y", "Cmd": ["a"]}


def test_a_base_without_layers(images: Images) -> None:
    empty = load(images, name="old", history=[])
    load(images, NEW_BASE, name="new", history=NEW_STEPS[:1])
    load(images, MIDDLE, name="app", history=OWN_STEPS[1:2])
    made = images.rebase("app", empty, "new", "made")
    assert document(made)["history"] == [NEW_STEPS[0], OWN_STEPS[1]]
    back = images.rebase("made", "new", "old", "back")
    assert [str(name) for name in back.chain_ids] == names_of(MIDDLE)


@pytest.mark.parametrize("history", [None, [], [step("other")], [step("other"), *OWN_STEPS[1:3]]])
def test_a_history_that_does_not_match_is_completed(images: Images, history: Any) -> None:
    load(images, BASE, name="old", history=OLD_STEPS)
    load(images, NEW_BASE, name="new", history=NEW_STEPS[:1])
    load(images, BASE, MIDDLE, TOP, name="app", history=history)
    found = document(images.rebase("app", "old", "new", "made"))["history"]
    assert found[0] == NEW_STEPS[0]
    assert sum(not one.get("empty_layer") for one in found) == 3


def test_what_is_no_base_is_refused(store: LayerStore, images: Images) -> None:
    load(images, BASE, name="old")
    load(images, NEW_BASE, name="new")
    load(images, BASE, MIDDLE, name="app")
    load(images, NEW_BASE, name="arm", architecture="arm64")
    load(images, NEW_BASE, name="odd", architecture="a" * 10_000)
    load(images, NEW_BASE, MIDDLE, TOP, name="long")
    before = tree(store.root)
    for old, new, reason in (
        ("new", "old", "is no base of image .*: its layer 1 is sha256:"),
        ("long", "old", "is no base of image .*: it has 3 layers, and the image 2"),
        ("old", "arm", "is for architecture amd64, and its new base .* for arm64"),
        ("old", "odd", "is for architecture amd64, and its new base .* for a{80}: "),
    ):
        with pytest.raises(InvalidImage, match=reason):
            images.rebase("app", old, new, "made")
    with pytest.raises(ImageDoesNotExist):
        images.rebase("app", "none", "new", "made")
    assert tree(store.root) == before


def test_a_layer_that_is_gone_is_an_error(store: LayerStore, images: Images) -> None:
    base = load(images, BASE, name="old")
    load(images, BASE, MIDDLE, name="app")
    assert base.chain_id is not None
    with pytest.raises(LayerDoesNotExist):
        images.rebase("app", base.chain_id, type(base.chain_id).from_hex("1" * 64), "made")


def test_an_error_at_the_end_leaves_nothing(store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    load(images, BASE, name="old")
    load(images, NEW_BASE, name="new")
    load(images, BASE, MIDDLE, name="app")
    before = tree(store.root)

    def fail(*_: object, **__: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(record, "record_image", fail)
    with pytest.raises(OSError, match="no"):
        images.rebase("app", "old", "new", "made")
    assert tree(store.root) == before


VALUES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", "3"]))


@given(VALUES, VALUES, VALUES)
def test_a_merge_follows_the_new_base_or_the_image(
    mine: dict[str, str], old: dict[str, str], new: dict[str, str]
) -> None:
    found = rebasing._merged_values(mine, old, new)
    for key in "abc":
        changed = mine.get(key) != old.get(key)
        assert found.get(key) == (mine if changed else new).get(key)
    assert rebasing._merged_values(old, old, new) == new
    assert rebasing._merged_values(mine, old, old) == mine


def test_steps_that_fit_no_layer_count_as_steps_without_one(images: Images) -> None:
    """Other programs write such histories; readers count the steps to find which layer belongs to which."""
    more = [*NEW_STEPS[:2], step("of no layer"), NEW_STEPS[2]]
    load(images, BASE, name="old", history=[OLD_STEPS[0], step("base of no layer")])
    load(images, NEW_BASE, NEW_SECOND, name="new", history=more)
    own = [step("own layer"), step("own of no layer")]
    load(images, BASE, MIDDLE, name="app", history=[OLD_STEPS[0], step("base of no layer"), *own])
    found = document(images.rebase("app", "old", "new", "made", created=WHEN))["history"]
    assert [(one["created_by"], one.get("empty_layer", False)) for one in found] == [
        ("new layer", False),
        ("new second", False),
        ("of no layer", True),
        ("new env", True),
        ("own layer", False),
        ("own of no layer", True),
    ]
    made = images.rebase("made", "new", "old", "again", created=WHEN)
    assert [one["created_by"] for one in document(made)["history"]] == [
        "base layer", "base of no layer", "own layer", "own of no layer"
    ]  # fmt: skip
    assert sum(not one.get("empty_layer") for one in document(made)["history"]) == 2
