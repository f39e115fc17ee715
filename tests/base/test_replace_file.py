"""Output files: they appear whole or not at all, and a process that is killed leaves nothing."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerstore_core.base.replace_file import replacing
from tests.store.test_killed import killed


def refuse_unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have open(2) answer as on a file system without `O_TMPFILE`."""
    real = os.open

    def open_(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return real(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", open_)


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have linkat(2) answer as without /proc."""

    def link(source: str, *_: Any, **__: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("refuse", [None, refuse_unnamed, refuse_links])
@pytest.mark.parametrize("before", [None, b"before"])
def test_a_file_is_replaced_as_a_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refuse: Callable[[pytest.MonkeyPatch], None] | None,
    before: bytes | None,
) -> None:
    if refuse is not None:
        refuse(monkeypatch)
    target = tmp_path / "out"
    if before is not None:
        target.write_bytes(before)
    with replacing(str(target)) as file:
        for number in range(3):
            file.write(b"%d" % number * 1_000_000)
        assert (target.read_bytes() if target.exists() else None) == before
        if refuse is not refuse_unnamed:
            assert os.listdir(tmp_path) == ([] if before is None else ["out"])
    assert target.read_bytes() == b"0" * 1_000_000 + b"1" * 1_000_000 + b"2" * 1_000_000
    assert os.listdir(tmp_path) == ["out"]
    assert target.stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("refuse", [None, refuse_unnamed, refuse_links])
def test_an_error_leaves_the_file_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: Callable[[pytest.MonkeyPatch], None] | None
) -> None:
    if refuse is not None:
        refuse(monkeypatch)
    (tmp_path / "out").write_bytes(b"before")

    def write() -> None:
        with replacing(str(tmp_path / "out")) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"before"


def test_a_name_that_is_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    with replacing(str(tmp_path / "out")) as file:
        file.write(b"ours")
        (tmp_path / "out").write_bytes(b"theirs")
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"ours"


def test_the_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    with replacing(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert os.readlink(tmp_path / "link") == "out"
    assert (tmp_path / "out").read_bytes() == b"new"


@pytest.mark.parametrize("before", [None, b"before"])
@pytest.mark.parametrize("when", ["while it is written", "before it has its name"])
def test_a_killed_process_leaves_nothing(tmp_path: Path, before: bytes | None, when: str) -> None:
    target = tmp_path / "out"
    if before is not None:
        target.write_bytes(before)

    def work() -> None:
        def die(*_: Any, **__: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        with replacing(str(target)) as file:
            file.write(b"half")
            if when == "while it is written":
                die()
            os.link = die

    assert killed(work)
    assert os.listdir(tmp_path) == ([] if before is None else ["out"])
    assert (target.read_bytes() if target.exists() else None) == before


def test_errors_have_the_name_that_was_given(tmp_path: Path) -> None:
    for name in (tmp_path / "none" / "out", tmp_path):
        with pytest.raises(OSError) as caught, replacing(str(name)) as file:  # noqa: PT011
            file.write(b"x")
        assert caught.value.filename == str(name)
    assert os.listdir(tmp_path) == []
