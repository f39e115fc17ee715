"""Failing hooks and system calls: `gc` knows all that is left, and what was there before is still there."""

from __future__ import annotations

import io
import os
from itertools import count, product
from pathlib import Path

import pytest

from layerstore_core import IntegrityError, LayerDoesNotExist
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests import tars
from tests.store.faults import FailingCall, FaultySystem, around
from tests.store.layers import BASE, MIDDLE, export, names_of, register, tree, warm

#: A layer whose payloads must be verified (one name is there twice), so that all ways through registering are taken.
AWKWARD = tars.tar(tars.entry(b"a", b"first"), tars.entry(b"a", b"second"), tars.directory(b"d"))


@pytest.fixture
def keeper(open_store):
    """Return a store with the handles to layers that must not be collected."""
    return open_store()


@pytest.fixture
def base(keeper):
    return register(keeper, BASE)


def assert_nothing_lost(store, root, before):
    """Check that the root is as it was, or that `gc` knows what is left and removes it."""
    if tree(root) != before:
        assert collect_garbage(store, dry_run=True), "gc does not know what is left"
        collect_garbage(store)
    assert tree(root) == before


class Fault(Exception):
    """An error that the code does not expect."""


@pytest.mark.parametrize(
    "error", [OSError(5, "no"), Fault("bug"), KeyboardInterrupt()], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("hook", ["create", "apply_diff"])
def test_a_hook_that_fails_while_registering_leaves_nothing(store, store_root, base, hook, when, error):
    warm(store)
    before = tree(store_root)
    with around(store, hook, **{when: FailingCall(error)}), pytest.raises(type(error)):
        register(store, AWKWARD, base.chain_id)
    assert tree(store_root) == before
    assert export(register(store, AWKWARD, base.chain_id)) == AWKWARD


@pytest.mark.parametrize("hook", ["get", "put", "diff_getter"])
def test_a_failing_hook_that_the_driver_may_call_while_registering(store, store_root, base, hook):
    warm(store)
    before = tree(store_root)
    for when in ("before", "after"):
        fault = FailingCall(OSError(5, "no"))
        with around(store, hook, **{when: fault}):
            if not needs(store, hook, lambda: store.release(register(store, AWKWARD, base.chain_id)), fault):
                continue
        assert_nothing_lost(store, store_root, before)


def needs(store, hook, use, fault):
    """Return whether `use` calls the hook at all; if it does, it must fail with the error of the hook."""
    try:
        use()
    except OSError:
        return True
    assert fault.calls == 0, f"{hook} failed, and its error was lost"
    return False


def test_gc_finds_a_layer_whose_removal_failed_too(store, store_root, base):
    warm(store)
    before = tree(store_root)
    for hook in ("create", "apply_diff"):
        with (
            around(store, hook, after=FailingCall(OSError(5, "no"))),
            around(store, "remove", before=FailingCall(OSError(16, "busy"), times=2)),
            pytest.raises(OSError, match="no"),
        ):
            register(store, AWKWARD, base.chain_id)
        assert tree(store_root) != before
        assert [found.kind for found in collect_garbage(store, dry_run=True)] == ["dead transaction"]
        assert [found.kind for found in collect_garbage(store)] == ["dead transaction"]
        assert tree(store_root) == before


@pytest.mark.parametrize(("hook", "skip"), [("create_read_write", 0), ("create_read_write", 1), ("get", 0), ("put", 0)])
def test_a_hook_that_fails_while_creating_a_writable_layer_leaves_nothing(store, store_root, base, hook, skip):
    """One store has each error in turn: after each it is as before."""
    warm(store)
    before = tree(store_root)
    for when, error in product(("before", "after"), (OSError(5, "no"), Fault("bug"), KeyboardInterrupt())):
        case = f"{error!r} {when} the hook"
        with around(store, hook, **{when: FailingCall(error, skip=skip)}), pytest.raises(type(error)):
            store.create_rw_layer("box", base.chain_id, init=lambda path: Path(path, "x").write_bytes(b"x"))
        assert tree(store_root) == before, case
        assert store.rw_layers() == [], case
        store.release_rw_layer(store.create_rw_layer("box", base.chain_id))
        assert tree(store_root) == before, case


def test_gc_finds_a_writable_layer_whose_removal_failed_too(store, store_root, base):
    warm(store)
    before = tree(store_root)
    with (
        around(store, "create_read_write", after=FailingCall(OSError(5, "no"), skip=1)),
        around(store, "remove", before=FailingCall(OSError(16, "busy"))),
        pytest.raises(OSError, match="no"),
    ):
        store.create_rw_layer("box", base.chain_id, init=lambda path: None)
    assert store.rw_layers() == []
    assert [found.kind for found in collect_garbage(store)] == ["dead transaction"]
    assert tree(store_root) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_that_fails_to_remove_a_layer_leaves_an_unfinished_deletion(store, store_root, base, when):
    """The store does not have the layer any more, and what is left is an unfinished deletion."""
    warm(store)
    before = tree(store_root)
    layer = register(store, MIDDLE, base.chain_id)
    with around(store, "remove", **{when: FailingCall(OSError(16, "busy"))}), pytest.raises(OSError, match="busy"):
        store.release(layer)
    with pytest.raises(LayerDoesNotExist):
        store.get(layer.chain_id)
    assert [found.kind for found in collect_garbage(store, dry_run=True)] == ["unfinished removal"]
    store.cleanup()
    assert tree(store_root) == before


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_of_a_writable_layer_that_fails_can_be_tried_again(store, store_root, base, when, skip):
    """The handle stays valid, as in Docker, so that the release can be tried again."""
    warm(store)
    before = tree(store_root)
    rw = store.create_rw_layer("box", base.chain_id, init=lambda path: None)
    fault = FailingCall(OSError(16, "busy"), skip=skip)
    with around(store, "remove", **{when: fault}), pytest.raises(OSError, match="busy"):
        store.release_rw_layer(rw)
    assert store.rw_layers() == ["box"]
    assert rw.parent.chain_id == base.chain_id
    store.release_rw_layer(rw)
    assert tree(store_root) == before


@pytest.mark.parametrize("skip", [0, 1])
def test_a_writable_layer_whose_removal_failed_halfway_cannot_be_used(open_store, store, store_root, base, skip):
    """The record stays, so that the removal can be tried again; using the layer is an error that says what is wrong."""
    warm(store)
    before = tree(store_root)
    rw = store.create_rw_layer("box", base.chain_id, init=lambda path: None)
    with (
        around(store, "remove", after=FailingCall(OSError(16, "busy"), skip=skip)),
        pytest.raises(OSError, match="busy"),
    ):
        store.release_rw_layer(rw)
    rw.close()
    other = open_store()
    again = other.get_rw_layer("box")
    for use in (
        again.mount,
        again.changes,
        again.size,
        again.tar_stream,
        again.metadata,
        lambda: again.apply_diff(io.BytesIO(MIDDLE)),
    ):
        with pytest.raises(IntegrityError, match=r"'box'.*`layerstore rw rm box`"):
            use()
    assert {finding.code for finding in check_store(other)} == {"missing-in-driver"}
    assert collect_garbage(other) == []
    other.release_rw_layer(again)
    assert (other.rw_layers(), check_store(other)) == ([], [])
    assert tree(store_root) == before


def test_a_rename_that_fails_leaves_the_layer(store, store_root, base, monkeypatch):
    """Docker goes on in this case, and deletes the driver's layer while its record is still there."""
    layer = register(store, MIDDLE, base.chain_id)
    before = tree(store_root)

    def refuse(*args, **kwargs):
        raise OSError(30, "read-only", *map(str, args))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(OSError, match="read-only") as caught:
            store.release(layer)
    assert f"while deleting layer {layer.chain_id}" in caught.value.__notes__
    assert tree(store_root) == before
    assert export(store.get(layer.chain_id)) == MIDDLE


def steps(store, work):
    """Return how many system calls `work` makes, in a store that has its directories."""
    with pytest.MonkeyPatch.context() as patch:
        system = FaultySystem(patch, None)
        work(store)
        return len(system.seen)


def fail_each_step(open_store, store_root, work, undo, check=lambda store: None):
    """Repeat some work, and let each of its system calls fail once.

    Args:
        open_store: opens the store.
        store_root: its root.
        work: called with the store.
        undo: called with the store after work that did not fail.
        check: called with the store after each failure.
    """
    store = open_store(durability="full")
    warm(store)
    before = tree(store_root)
    number = steps(store, work)
    undo(store)
    assert number >= 8
    assert tree(store_root) == before
    failed = 0
    for step in range(number):
        with pytest.MonkeyPatch.context() as patch:
            system = FaultySystem(patch, step)
            try:
                work(store)
            except OSError as error:
                failed += 1
                named = error.filename
            else:
                named = "nothing failed"
                undo(store)
        assert named, f"the error of {system.seen[step]} names no path"
        check(store)
        assert_nothing_lost(store, store_root, before)
    assert failed > number // 2


def test_each_write_of_registering_fails_in_turn(open_store, store_root, base):
    chain_id = names_of(BASE, AWKWARD)[1]

    def work(store):
        store.register(io.BytesIO(AWKWARD), base.chain_id, descriptor={"size": 1}).close()

    fail_each_step(open_store, store_root, work, lambda store: store.release(store.get(chain_id)))


def test_each_write_of_creating_a_writable_layer_fails_in_turn(open_store, store_root, base):
    def work(store):
        store.create_rw_layer("box", base.chain_id, init=lambda path: None).close()

    def undo(store):
        store.release_rw_layer(store.get_rw_layer("box"))

    fail_each_step(open_store, store_root, work, undo, lambda store: store.rw_layers() == [])


def test_each_write_of_deleting_a_layer_fails_in_turn(open_store, store_root, base):
    """The layer is there and complete, or it is deleted; `gc` removes what is left."""
    store = open_store(durability="full")
    warm(store)
    before = tree(store_root)
    for step in count():
        layer = register(store, MIDDLE, base.chain_id)
        with pytest.MonkeyPatch.context() as patch:
            system = FaultySystem(patch, step)
            try:
                store.release(layer)
            except OSError:
                pass
        if layer.chain_id in store.layers():
            assert export(store.layers()[layer.chain_id]) == MIDDLE
        assert_nothing_lost(store, store_root, before)
        if step >= len(system.seen):
            break
    assert step >= 6


def test_each_write_of_deleting_a_writable_layer_fails_in_turn(open_store, store_root, base):
    """If the release raises an error, the writable layer is there, and the handle can be released again."""
    store = open_store(durability="full")
    warm(store)
    before = tree(store_root)
    for step in count():
        rw = store.create_rw_layer("box", base.chain_id, init=lambda path: None)
        with pytest.MonkeyPatch.context() as patch:
            system = FaultySystem(patch, step)
            try:
                store.release_rw_layer(rw)
                raised = False
            except OSError:
                raised = True
        if raised:
            assert store.rw_layers() == ["box"], system.seen[step]
            with rw.mounted():
                pass
            store.release_rw_layer(rw)
        assert store.rw_layers() == []
        assert_nothing_lost(store, store_root, before)
        if step >= len(system.seen):
            break
    assert step >= 6


def test_a_pin_that_fails_pins_nothing(open_store, base):
    store = open_store(durability="full")
    layer = store.get(base.chain_id)
    for step in count():
        with pytest.MonkeyPatch.context() as patch:
            system = FaultySystem(patch, step)
            try:
                store.pin(layer)
            except OSError:
                pass
            else:
                break
        assert store.pins() == set()
    assert step >= len(system.seen) >= 3
