"""Use a driver as an ordinary user would in a user namespace: in a child process that makes a new one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn

from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import directory, file, whiteout
from layerstore_core.rootless import syscalls

if TYPE_CHECKING:
    from pathlib import Path

_DONE: Final = b"done:"
_REFUSED: Final = b"refused:"


class NamespaceRefused(Exception):
    """The kernel makes no user namespace here."""


def problem_in_namespace(bench: DriverRig) -> str:
    """Make, mount, change and remove layers on a new root in a new user namespace, which has only this user as root.

    Returns:
        What failed; empty if nothing did.

    Raises:
        NamespaceRefused: no namespace can be made.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _work(writing, bench)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            answer = pipe.read()
    finally:
        os.waitpid(pid, 0)
    if answer.startswith(_REFUSED):
        raise NamespaceRefused(os.fsdecode(answer.removeprefix(_REFUSED)))
    return os.fsdecode(answer.removeprefix(_DONE)) if answer.startswith(_DONE) else "the process has died"


def _work(fd: int, bench: DriverRig) -> NoReturn:
    try:
        try:
            _enter()
        except OSError as error:
            answer = _REFUSED + os.fsencode(str(error))
        else:
            try:
                _use(bench, bench.root.with_name(bench.root.name + "-namespace"))
                answer = _DONE
            except BaseException as error:  # a driver may raise anything, and this process has to end here
                answer = _DONE + os.fsencode(f"{type(error).__name__}: {error}")
        os.write(fd, answer[:4096])
    finally:
        os._exit(0)


def _enter() -> None:
    uid, gid = os.geteuid(), os.getegid()
    syscalls.leave_to_new(syscalls.NEW_USER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as map_file:
            map_file.write(text)
    syscalls.leave_to_new(syscalls.NEW_MOUNTS)


def _use(bench: DriverRig, root: Path) -> None:
    """Use the driver in the ways that need a mount or a mark of a deleted file."""
    with DriverRig(bench.name, bench.factory, bench.options, root) as rig:
        base = rig.layer([directory(b"d"), file(b"d/kept", b"1"), file(b"gone", b"2")])
        child = rig.layer([whiteout(b"gone"), file(b"new", b"3")], base)
        writable = rig.writable(child)
        with rig.driver.mounted(writable) as path:
            names = sorted(os.listdir(path))
            os.unlink(os.path.join(path, "new"))
        if names != ["d", "new"]:
            raise AssertionError(f"a mounted layer shows {names}")
        changes = [str(change) for change in rig.driver.changes(writable, child)]
        if changes != ["D /new"]:
            raise AssertionError(f"after /new was deleted, the changes are {changes}")
