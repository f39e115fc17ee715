"""Locks that the kernel holds: between stores, threads and processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading

import pytest

from layerstore_core import LayerStore, LayerStoreError, LocksUnavailable, StoreConfig
from layerstore_core.locking.root_locks import RootLocks


@pytest.fixture
def locks(tmp_path):
    """Makes lock objects on one file, as each open store has one."""
    made = []

    def make():
        made.append(RootLocks(tmp_path / "state" / "locks"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_holds_are_counted_and_seen_by_others(locks):
    one, other = locks(), locks()
    assert not other.is_referenced("a")
    assert one.acquire("a")
    assert not one.acquire("a")
    assert other.is_referenced("a")
    assert one.is_referenced("a")
    assert not other.is_referenced("b")
    assert not one.release("a")
    assert other.is_referenced("a")
    assert one.release("a")
    assert not other.is_referenced("a")
    assert not one.release("a")


def test_any_number_may_hold(locks):
    one, other = locks(), locks()
    one.acquire("a")
    other.acquire("a")
    one.release("a")
    assert one.is_referenced("a")
    other.release("a")
    assert not one.is_referenced("a")


def test_sole_is_for_one_who_is_alone(locks):
    one, other, third = locks(), locks(), locks()
    with one.lock_references("a") as alone:
        assert alone
        with other.lock_references("a") as second:
            assert not second
        with other.lock_references("b") as elsewhere:
            assert elsewhere
    third.acquire("a")
    with one.lock_references("a") as alone:
        assert not alone
    one.acquire("b")
    with one.lock_references("b") as alone:  # one's own hold does not count, and is there afterwards
        assert alone
    assert other.is_referenced("b")


def test_a_hold_waits_for_the_end_of_sole(locks):
    one, other = locks(), locks()
    order = []
    began = threading.Event()

    def hold():
        began.set()
        other.acquire("a")
        order.append("held")

    with one.lock_references("a"):
        thread = threading.Thread(target=hold)
        thread.start()
        began.wait()
        thread.join(0.05)
        order.append("sole ends")
    thread.join()
    assert order == ["sole ends", "held"]


@pytest.mark.parametrize("stores", [1, 2])
def test_exclusive_keeps_threads_and_stores_out(locks, stores):
    opened = [locks() for _ in range(stores)]
    inside = []
    most = []

    def work(number):
        for _ in range(20):
            with opened[number % stores].exclusive("key"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


def test_an_error_inside_frees_it(locks):
    one, other = locks(), locks()
    with pytest.raises(KeyError), one.exclusive("a"):
        raise KeyError
    with pytest.raises(KeyError), one.lock_references("a"):
        raise KeyError
    with other.exclusive("a"), other.lock_references("a") as alone:
        assert alone


def test_what_a_dead_process_had_is_free(locks, tmp_path):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        mine = RootLocks(tmp_path / "state" / "locks")
        mine.acquire("a")
        with mine.exclusive("b"), mine.lock_references("c"):
            os.write(writing, b"x")
            signal.pause()
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    one = locks()
    assert one.is_referenced("a")
    with one.lock_references("c") as alone:
        assert not alone
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not one.is_referenced("a")
    with one.exclusive("b"), one.lock_references("c") as alone:
        assert alone


def test_closing_gives_all_back(locks):
    one, other = locks(), locks()
    one.acquire("a")
    one.close()
    one.close()
    assert not other.is_referenced("a")


def test_the_generation_counts_changes(locks):
    one, other = locks(), locks()
    first = one.generation()
    assert other.generation() == first
    with one.exclusive("records"):
        new = one.advance()
    assert new != first
    assert other.generation() == one.generation() == new


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_refused_at_opening(tmp_path, monkeypatch, code):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    open_files = os.listdir("/proc/self/fd")
    with pytest.raises(LocksUnavailable, match=r"no working locks \(.+\): .*local file system") as caught:
        LayerStore.open(StoreConfig(root=tmp_path / "store", driver="vfs"))
    assert str(tmp_path / "store") in str(caught.value)
    assert os.listdir("/proc/self/fd") == open_files


def test_another_error_stays_what_it_is(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(OSError, match="Input/output") as caught:
        RootLocks(tmp_path / "locks")
    assert caught.value.filename == str(tmp_path / "locks")


def test_a_child_that_inherits_a_store_keeps_nothing_held(locks):
    """A program forks while a store is open, and ends: its locks must not live on in the child."""
    one, other = locks(), locks()
    one.acquire("a")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    one.close()
    held = other.is_referenced("a")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not held


def test_a_store_is_of_no_use_in_a_forked_child(tmp_path):
    with LayerStore.open(StoreConfig(root=tmp_path / "store", driver="vfs", durability="none")) as store:
        rw = store.create_rw_layer("box")
        rw.mount()
        child = os.fork()
        if not child:
            code = 1
            try:
                store.layers()
            except LayerStoreError as error:
                code = 0 if "open it again in the child" in str(error) else 2
            store.close()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.driver.is_used(store.mount_id("box"))
        assert os.listdir(store.root / "layerstore" / "mounts" / "vfs") == [store.mount_id("box")]
