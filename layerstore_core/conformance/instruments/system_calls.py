"""The system calls of a child process that change files, one by one: to kill the process at one, or to let it fail.

The child asks the kernel (seccomp(2), user notifications) to stop it at each of these calls until its parent has
answered. That works with threads, with code in C, and with the programs that the child starts. Linux 5.5 has it, for
x86-64 and ARM64. No other user's rights are needed, but without root's a driver cannot start set-user-ID programs.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from layerstore_core.base.threads.tasks import Threads
from layerstore_core.conformance.processes import GRACE, TIME_LIMIT, Child, Ended, Report

#: The calls that change files, by machine: the name, and the number. A call of 0 does not exist there.
_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "write": 1, "ioctl": 16, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75,
        "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86,
        "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "mknod": 133,
        "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197,
        "lremovexattr": 198, "fremovexattr": 199, "open": 2, "openat": 257, "mkdirat": 258, "mknodat": 259,
        "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268,
        "utimensat": 280, "fallocate": 285, "syncfs": 306, "renameat2": 316, "copy_file_range": 326,
        "move_mount": 429, "fchmodat2": 452,
    },
    "aarch64": {
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
        "ioctl": 29, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38,
        "umount2": 39, "mount": 40, "truncate": 45, "ftruncate": 46, "fallocate": 47, "fchmod": 52, "fchmodat": 53,
        "fchownat": 54, "fchown": 55, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68, "sendfile": 71,
        "fsync": 82, "fdatasync": 83, "utimensat": 88, "syncfs": 267, "renameat2": 276, "copy_file_range": 285,
        "move_mount": 429, "fchmodat2": 452,
    },
}  # fmt: skip
_AUDIT_NUMBERS: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
#: The calls that need room on the disk, and so fail on a full one.
_TAKES_ROOM: Final = frozenset(
    [
        "write",
        "pwrite64",
        "writev",
        "sendfile",
        "mkdir",
        "creat",
        "link",
        "symlink",
        "mknod",
        "setxattr",
        "lsetxattr",
        "fsetxattr",
        "open",
        "openat",
        "mkdirat",
        "mknodat",
        "linkat",
        "symlinkat",
        "fallocate",
        "copy_file_range",
    ]
)
#: Of these calls, the first argument is the descriptor that is written to: only those of files count, not those of
#: pipes and character devices.
_BY_DESCRIPTOR: Final = frozenset(
    ["write", "pwrite64", "writev", "sendfile", "ioctl", "ftruncate", "fallocate", "fsync", "fdatasync"]
)
#: The argument with the flags of open(2).
_FLAGS: Final = {"open": 1, "openat": 2}
#: The ioctls that change files: FICLONE, FICLONERANGE, and those of btrfs that make or delete subvolumes.
_IOCTLS: Final = frozenset(
    {0x40049409, 0x4020940D, 0x5000940E, 0x50009401, 0x5000940F, 0x50009417, 0x50009418, 0x5000943F, 0x4008941A}
)
_CLONES: Final = frozenset({0x40049409, 0x4020940D, 0x5000940E, 0x50009401, 0x50009417, 0x50009418})

_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_NO_NEW_PRIVS: Final = 38
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE: Final = 1
_NOTIFICATION: Final = struct.Struct("<QIIiIQ6Q")
_ANSWER: Final = struct.Struct("<QqiI")
_INSTRUCTION: Final = struct.Struct("<HBBI")
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06


class Run(NamedTuple):
    """What a child has done.

    Attributes:
        ended: how it has ended.
        steps: the number of its calls that change files, up to its end.
        last: the name of the last of them. Empty if there was none.
    """

    ended: Ended
    steps: int
    last: str


@dataclass(frozen=True, slots=True)
class _Call:
    unique: int
    pid: int
    name: str
    arguments: tuple[int, ...]


def why_not() -> str:
    """Return why system calls cannot be stopped at here. Empty if they can."""
    if platform.machine() not in _NUMBERS:
        return f"the kit does not know the system calls of {platform.machine()}"
    try:
        run = stop_at(lambda _, begin: begin(), 0, 0)
    except OSError as error:
        return f"the kernel does not let a process stop another at its system calls: {error.strerror}"
    if run.ended.error:
        reason = run.ended.error.strip().splitlines()[-1]
        return f"the kernel does not let a process stop another at its system calls: {reason}"
    return ""


def stop_at(work: Callable[[Report, Callable[[], None]], object], at: int, code: int) -> Run:
    """Do some work in a child process, and stop it at one of its calls that change files.

    Args:
        work: the work, as for `Child`. It is called with a second function, after whose call the child's calls count.
        at: the number of the call, from 1. 0: none.
        code: the `errno` with which this and all later calls fail that need room on the disk. 0: the process, and all
            that it has started in its process group, are killed before this call. What it has started outside goes
            on.

    Raises:
        AssertionError: the child does not end.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def begin() -> None:
            os.setpgid(0, 0)
            listener = _listen()
            theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
            os.close(listener)
            theirs.close()

        def use(report: Report) -> None:
            ours.close()
            work(report, begin)

        child = Child(use)
        theirs.close()
        received, control, *_ = ours.recvmsg(1, socket.CMSG_SPACE(array.array("i").itemsize))
        if not received:  # it has ended before `begin`
            return Run(child.wait(), 0, "")
        listener = array.array("i", control[0][2][: array.array("i").itemsize])[0]
        try:
            steps, last = _answer(listener, child.pid, at, code)
        finally:
            # A program that serves a mount outlives the child. A call without an answer would stop it for ever.
            threads = Threads("calls of a server", 1)
            threads.submit(lambda: _let_go(listener))
            threads.finish()
        return Run(child.wait(), steps, last)


def _answer(listener: int, pid: int, at: int, code: int) -> tuple[int, str]:
    """Answer each notification until the child has ended.

    Returns:
        The number of calls up to the one at which the child was stopped, and the name of the last of them.

    Raises:
        AssertionError: the child does not end.
    """
    steps, last, killed = 0, "", False
    watched = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(watched, select.POLLIN)
        deadline = time.monotonic() + TIME_LIMIT + GRACE
        while True:
            ready = dict(poll.poll(max(0, deadline - time.monotonic()) * 1000))
            if not ready:
                raise AssertionError(f"a process did not end within {TIME_LIMIT} seconds: it waits for something")
            if not ready.get(listener, 0) & select.POLLIN:
                if watched in ready or ready.get(listener, 0) & select.POLLHUP:
                    return steps, last
                continue
            if (call := _next_call(listener)) is None:
                continue
            if killed:
                if not _is_in_group(call.pid, pid):
                    _send(listener, call, 0)
                continue
            counts = _changes_a_file(call)
            steps += counts
            last = call.name if counts else last
            here = bool(counts and 0 < at <= steps)
            if here and not code:
                os.killpg(pid, signal.SIGKILL)
                killed = True
                # Those who die do nothing more. Others go on: a process that dies may wait for the program that serves
                # its files (FUSE).
                if _is_in_group(call.pid, pid):
                    continue
            _send(listener, call, code if here and _takes_room(call) else 0)
    finally:
        os.close(watched)


def _let_go(listener: int) -> None:
    """Let all calls succeed that processes make which outlive the child, until they have ended. Close the listener."""
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        deadline = time.monotonic() + TIME_LIMIT
        while ready := poll.poll(max(0, deadline - time.monotonic()) * 1000):
            if not ready[0][1] & select.POLLIN:
                return
            if (call := _next_call(listener)) is not None:
                _send(listener, call, 0)
    finally:
        os.close(listener)


def _next_call(listener: int) -> _Call | None:
    """Return the call of the next notification. `None` if its process has died meanwhile."""
    block = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, block)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    unique, sender, _, number, _, _, *arguments = _NOTIFICATION.unpack(block)
    return _Call(unique, sender, _names().get(number, ""), tuple(arguments))


def _send(listener: int, call: _Call, code: int) -> None:
    """Let a call fail with an `errno`, or go on if that is 0."""
    answer = _ANSWER.pack(call.unique, 0, -code, 0 if code else _CONTINUE)
    try:
        fcntl.ioctl(listener, _SEND, bytearray(answer))
    except OSError as error:
        if error.errno != errno.ENOENT:  # the process has died meanwhile
            raise


@cache
def _names() -> dict[int, str]:
    return {number: name for name, number in _NUMBERS[platform.machine()].items()}


def _is_in_group(pid: int, group: int) -> bool:
    """Return whether a process is in a process group, or has ended."""
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return True


def _changes_a_file(call: _Call) -> bool:
    if call.name == "ioctl" and call.arguments[1] & 0xFFFFFFFF not in _IOCTLS:
        return False
    if call.name not in _BY_DESCRIPTOR:
        return True
    place = f"/proc/{call.pid}/fd/{call.arguments[0] & 0xFFFFFFFF}"
    try:
        target = os.readlink(place)
        # What a program writes to /dev/fuse is its answer to the kernel. Other files may be on a mount of this program,
        # which has stopped here, and would not say of what kind they are.
        return target.startswith("/") and not (target.startswith("/dev/") and stat.S_ISCHR(os.stat(place).st_mode))
    except OSError:
        return False


def _takes_room(call: _Call) -> bool:
    if call.name == "ioctl":
        return call.arguments[1] & 0xFFFFFFFF in _CLONES
    if call.name in _FLAGS:
        return bool(call.arguments[_FLAGS[call.name]] & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY))
    return call.name in _TAKES_ROOM


def _listen() -> int:
    """Have this process, and all that it starts, stop at each call that changes files. Return the listener."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program()
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
    if os.geteuid() != 0:
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener: int = libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _NEW_LISTENER, described)
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return listener


def _program() -> bytes:
    """Return the filter, in the kernel's classic BPF."""
    machine = platform.machine()
    lines = [
        _INSTRUCTION.pack(_LOAD, 0, 0, 4),  # the architecture
        _INSTRUCTION.pack(_EQUAL, 1, 0, _AUDIT_NUMBERS[machine]),
        _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW),
        _INSTRUCTION.pack(_LOAD, 0, 0, 0),  # the call's number
    ]
    writing = os.O_CREAT | os.O_TRUNC | os.O_TMPFILE & ~os.O_DIRECTORY
    for name, number in _NUMBERS[machine].items():
        if name in _FLAGS:
            lines += [
                _INSTRUCTION.pack(_EQUAL, 0, 4, number),
                _INSTRUCTION.pack(_LOAD, 0, 0, 16 + 8 * _FLAGS[name]),
                _INSTRUCTION.pack(_ANY_BIT, 0, 1, writing),
                _INSTRUCTION.pack(_RETURN, 0, 0, _NOTIFY),
                _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW),
            ]
        else:
            lines += [_INSTRUCTION.pack(_EQUAL, 0, 1, number), _INSTRUCTION.pack(_RETURN, 0, 0, _NOTIFY)]
    return b"".join([*lines, _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)])
