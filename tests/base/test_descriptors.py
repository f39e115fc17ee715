"""Descriptors always have an owner, and are closed exactly once."""

from __future__ import annotations

import _thread
import operator
import os
import signal
from collections.abc import Callable, Iterator
from itertools import starmap
from pathlib import Path

import pytest

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.images.formats import container
from layerstore_core.records import transaction
from layerstore_core.records.transaction import WriteSet
from layerstore_core.tree import remove


class Interrupt(BaseException):
    """The exception that the signal handler raises."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def handler(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.signal(signal.SIGALRM, before)


def open_numbers() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Os:
    """A stand-in for `os`: right after one `close`, a file is opened, as by another thread, and a signal arrives.

    Args:
        nth: the number of that call of `close`, counted from 1.
    """

    def __init__(self, nth: int) -> None:
        self.left = nth
        self.victim = -1

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def close(self, fd: int) -> None:
        assert fd != self.victim, "closed twice"
        os.close(fd)
        self.left -= 1
        if not self.left:
            self.victim = os.open("/dev/null", os.O_RDONLY)
            signal.raise_signal(signal.SIGALRM)

    def check(self) -> None:
        os.fstat(self.victim)  # it must be open
        os.close(self.victim)


def test_a_signal_while_a_descriptor_is_opened_leaks_nothing(tmp_path: Path) -> None:
    before = open_numbers()
    calls = [(_thread.interrupt_main, signal.SIGALRM), (os.open, tmp_path, os.O_RDONLY)]
    both = filter(None, starmap(operator.call, calls))  # the signal comes, and then the file is opened, all in C
    with pytest.raises(Interrupt):
        Descriptor(next, both)
    assert open_numbers() == before


def test_a_descriptor_is_closed_when_its_object_is_deleted(tmp_path: Path) -> None:
    before = open_numbers()
    opened = Descriptor(os.open, tmp_path, os.O_RDONLY)
    assert open_numbers() != before
    del opened
    assert open_numbers() == before


def test_a_descriptor_is_closed_only_once(tmp_path: Path) -> None:
    opened = Descriptor(os.open, tmp_path, os.O_RDONLY)
    number = opened.number
    opened.close()
    with Descriptor(os.open, tmp_path, os.O_RDONLY) as other:
        assert other == number
        opened.close()
        os.fstat(other)
    assert opened.detach() == opened.number == -1


def write_set(tmp_path: Path) -> Callable[[], None]:
    return WriteSet(tmp_path, durable=False).cancel


def tree(tmp_path: Path) -> Callable[[], None]:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "tree/a/b/file").touch()  # an empty directory is removed without being opened
    return lambda: remove.remove_tree(str(tmp_path / "tree"))


def layout(tmp_path: Path) -> Callable[[], object]:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()

    def read() -> None:
        with container.DirectoryContainer(tmp_path) as files:
            files.open("a/b/file").close()

    return read


@pytest.mark.parametrize(
    ("module", "prepare", "nth"),
    [(container, layout, 1), (transaction, write_set, 1), (remove, tree, 1), (remove, tree, 2), (remove, tree, 3)],
)
def test_a_signal_right_after_a_close_leaks_nothing_and_closes_nothing_twice(
    module: object,
    prepare: Callable[[Path], Callable[[], object]],
    nth: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_numbers()
    call = prepare(tmp_path)
    fake = Os(nth)
    monkeypatch.setattr(module, "os", fake)
    with pytest.raises(Interrupt):
        call()
    fake.check()
    assert open_numbers() == before
