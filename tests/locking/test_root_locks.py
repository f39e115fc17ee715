"""The kernel locks of a root, between stores, threads and processes."""

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
    """Return a function that makes lock objects on one file, like those of several open stores."""
    made = []

    def make():
        made.append(RootLocks(tmp_path / "state" / "locks"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_references_are_counted_and_visible_to_other_stores(locks):
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


def test_several_stores_may_have_references_to_one_key(locks):
    one, other = locks(), locks()
    one.acquire("a")
    other.acquire("a")
    one.release("a")
    assert one.is_referenced("a")
    other.release("a")
    assert not one.is_referenced("a")


def test_references_can_be_locked_only_if_no_other_store_has_one(locks):
    one, other, third = locks(), locks(), locks()
    with one.lock_references("a") as locked:
        assert locked
        with other.lock_references("a") as second:
            assert not second
        with other.lock_references("b") as elsewhere:
            assert elsewhere
    third.acquire("a")
    with one.lock_references("a") as locked:
        assert not locked
    one.acquire("b")
    with one.lock_references("b") as locked:  # a reference of the same store does not count, and stays
        assert locked
    assert other.is_referenced("b")


def test_acquiring_a_reference_waits_while_references_are_locked(locks):
    one, other = locks(), locks()
    order = []
    began = threading.Event()

    def acquire():
        began.set()
        other.acquire("a")
        order.append("acquired")

    with one.lock_references("a"):
        thread = threading.Thread(target=acquire)
        thread.start()
        began.wait()
        thread.join(0.05)
        order.append("block ends")
    thread.join()
    assert order == ["block ends", "acquired"]


@pytest.mark.parametrize("stores", [1, 2])
def test_only_one_thread_of_all_stores_is_in_an_exclusive_block(locks, stores):
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


def test_an_error_in_a_block_releases_its_lock(locks):
    one, other = locks(), locks()
    with pytest.raises(KeyError), one.exclusive("a"):
        raise KeyError
    with pytest.raises(KeyError), one.lock_references("a"):
        raise KeyError
    with other.exclusive("a"), other.lock_references("a") as locked:
        assert locked


def test_the_locks_of_a_killed_process_are_released(locks, tmp_path):
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
    with one.lock_references("c") as locked:
        assert not locked
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not one.is_referenced("a")
    with one.exclusive("b"), one.lock_references("c") as locked:
        assert locked


def test_closing_releases_all_references(locks):
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


def test_another_error_of_locking_is_not_wrapped(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(OSError, match="Input/output") as caught:
        RootLocks(tmp_path / "locks")
    assert caught.value.filename == str(tmp_path / "locks")


def test_a_forked_child_keeps_no_lock_of_its_parent(locks):
    """A program forks while a store is open, and closes it. The child must not keep its locks."""
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
    referenced = other.is_referenced("a")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not referenced


def test_a_store_refuses_to_work_in_a_forked_child(tmp_path):
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
