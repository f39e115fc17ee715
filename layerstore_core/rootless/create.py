"""Make a user namespace with mounts of its own, for an ordinary user.

A child process makes it, and ends when this process has opened it. So this process changes only when all has gone
well: what unshare(2) does to a process cannot be undone. The mapping needs the programs newuidmap and newgidmap, which
have the right to map the subordinate IDs. Without such IDs, or without the programs, the namespace has one user and one
group: the own ones, as root.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.threads import rest
from layerstore_core.errors import UserNamespaceError
from layerstore_core.log import logger
from layerstore_core.rootless import syscalls
from layerstore_core.rootless.subordinate import mapping, program, subordinate_ids

_STEPS: Final = (syscalls.NEW_USER, syscalls.NEW_MOUNTS)
_READY: Final = b"ready"
#: Settings of the kernel that forbid namespaces to ordinary users, with the value that forbids them.
_SWITCHES: Final = (
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns is 1, and no AppArmor profile allows it to this program",
    ),
)


@contextmanager
def new_namespace() -> Iterator[int]:
    """Make a namespace, and yield the ID of a process in it, which ends with the block.

    Raises:
        UserNamespaceError: the kernel refuses, or newuidmap or newgidmap fails.
    """
    said, say = os.pipe2(os.O_CLOEXEC)
    wait, go = os.pipe2(os.O_CLOEXEC)
    rest()  # a child that is forked while there are threads may find locks that are never released
    pid = os.fork()
    if pid == 0:
        _live_in_namespace(say, wait, (said, go))
    os.close(say)
    os.close(wait)
    try:
        answer = os.read(said, 64)
        if answer != _READY:
            raise _refused(answer.decode())
        _map_ids(pid)
        yield pid
    finally:
        os.close(go)  # the child ends
        os.close(said)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _live_in_namespace(say: int, wait: int, others: Sequence[int]) -> None:
    """Make the namespace as the child process, and end when the parent closes the other end of `wait`."""
    try:
        for fd in others:
            os.close(fd)
        for step in _STEPS:
            try:
                syscalls.leave_to_new(step)
            except OSError as error:
                os.write(say, b"%d %d" % (step, error.errno or 0))
                return
        os.write(say, _READY)
        os.read(wait, 1)
    finally:
        os._exit(0)


def _map_ids(pid: int) -> None:
    """Map user and group IDs into the namespace of a process."""
    uid, gid = os.geteuid(), os.getegid()
    ids = subordinate_ids(uid)
    if ids:
        programs = [program(name) for name in ("newuidmap", "newgidmap")]
        if all(programs):
            for path, own, ranges in ((programs[0], uid, ids.users), (programs[1], gid, ids.groups)):
                _run(str(path), pid, mapping(own, ranges))
            return
        logger.info("newuidmap and newgidmap (package uidmap) are not installed: the namespace has one user")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        except OSError as error:
            raise UserNamespaceError(
                f"user {uid} cannot be mapped into a user namespace: {error.strerror} (/proc/PID/{name}); a process "
                "that has changed its user has to start another program first"
            ) from error


def _run(path: str, pid: int, lines: list[tuple[int, int, int]]) -> None:
    import subprocess  # lazy: few commands make a namespace

    words = [str(number) for line in lines for number in line]
    try:
        done = subprocess.run(
            [path, str(pid), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise UserNamespaceError(f"{path} cannot be run: {error.strerror}") from error
    if done.returncode:
        name = os.path.basename(path)
        files = "/etc/subuid" if name == "newuidmap" else "/etc/subgid"
        raise UserNamespaceError(
            f"{path} fails: {done.stderr.strip() or f'exit code {done.returncode}'}; it must be installed as its "
            f"package has it (with the right to set IDs), and agree with the user's lines in {files}"
        )


def _refused(answer: str) -> UserNamespaceError:
    """Return the error for what the child has reported: a step, and the number of an error."""
    try:
        step, number = map(int, answer.split())
    except ValueError:
        return UserNamespaceError("no user namespace can be made: the process that should make it was killed")
    what = "user namespace" if step == syscalls.NEW_USER else "mounts in the user namespace"
    reason = os.strerror(number)
    for path, forbidding, words in _SWITCHES:
        with suppress(OSError), open(path, encoding="ascii") as file:
            if file.read().strip() == forbidding:
                reason = words
                break
    else:
        if number == errno.EPERM:
            reason += "; a container, a chroot or a security policy may forbid it"
        elif number in (errno.ENOSPC, errno.EUSERS):
            reason = "there are as many, or as deeply nested ones, as the kernel allows (user.max_user_namespaces)"
    return UserNamespaceError(f"the kernel lets user {os.geteuid()} make no {what}: {reason}")


def open_namespaces(pid: int) -> tuple[Descriptor, Descriptor]:
    """Open the user namespace and the mount namespace of a process.

    Raises:
        OSError: there is no such process, or it is another user's.
    """
    users, mounts = (
        Descriptor(os.open, f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt")
    )
    return users, mounts
