"""Mounts that a program of others serves, such as those of FUSE.

The kernel keeps such a mount, and passes each call to the program. The program lives as long as the mount: longer than
the process that has started it, since a layer may stay mounted when a command ends. If it dies, every call fails with
ENOTCONN until the mount is gone. If it hangs, every call waits, and cannot be interrupted: so this process makes no
call that the program would have to answer, but lets a child make it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.descriptors import Descriptor
from layerstore_core.errors import BadRecord, MountFailed

#: How many bytes of what the program writes are kept. More is refused, so that it fills no disk and no memory.
_LONGEST_OUTPUT: Final = 1 << 16
#: How many characters of that are in a message.
_LONGEST_MESSAGE: Final = 2000
#: A note is never longer, in bytes.
_LONGEST_NOTE: Final = 64
#: How long the program may take to end when its mount is gone, and again after a signal, in seconds.
_PATIENCE: Final = 5.0
#: Longest pause between two looks at a mount or a process, in seconds.
_PAUSE: Final = 0.05
#: The most mounts that are removed from one mount point: one over the other.
_MOST_MOUNTS: Final = 64
_UMOUNT_NOFOLLOW: Final = 8
_MNT_DETACH: Final = 2

#: The programs that this process has started, by process ID, until they have ended.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class ServedMount:
    """A mount at one place that a program serves.

    Make a new one whenever it is needed: nothing of it is in memory. Call its methods only while no other thread or
    process can change the mount, as in the hooks `get`, `put` and `remove` of the layer.

    Args:
        target: the mount point, an absolute path. The directory exists.
        command: the program and its arguments, such as `["fuse-overlayfs", "-f", "-o", options, str(target)]`. It
            should stay in the foreground (`-f`), so that it can be ended if it does not end by itself. A program that
            goes to the background is taken too, if its mount is there when its first process ends.
        note: a file for the program's process ID, next to the mount point, not below it.
        timeout: how many seconds the mount may take until it answers.
    """

    target: Path
    command: Sequence[str]
    note: Path
    timeout: float = field(default=30.0, kw_only=True)

    def mount(self) -> None:
        """Mount, and return when the mount answers. Do nothing if it is there already, and answers.

        A mount whose program has died, or does not answer in time, is unmounted before.

        Raises:
            MountFailed: the program cannot be started, has ended, or was not ready in time. The message has what it has
                written. No mount and no process is left.
            OSError: an earlier mount could not be unmounted, or the note not written.
        """
        _reap()
        if is_mount_point(self.target):
            if not self._problem(time.monotonic() + self.timeout):
                return
            self.unmount()
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        with Descriptor(os.memfd_create, "layerstore-program", flags) as log:
            process = self._start(log)
            try:
                inside.write(self.note, b"%d\n" % process.pid, 0o600)
                self._wait_until_ready(process, log)
            except BaseException:
                self._end(process.pid, 0)
                self.unmount()
                raise

    def unmount(self) -> None:
        """Unmount all that is mounted at this place, and wait until the program has ended. Without a mount do nothing.

        A mount that is in use is detached: whoever has an open file in it gets ENOTCONN when the program ends. A
        program that does not end within some seconds gets SIGTERM, and then SIGKILL. It is known by its command line:
        another process that has its number now is left alone.

        Raises:
            OSError: it cannot be unmounted (EPERM: this process may not, and there is no `fusermount3`).
        """
        for _ in range(_MOST_MOUNTS):
            if not is_mount_point(self.target):
                break
            _unmount(self.target)
        else:
            raise OSError(errno.EBUSY, "it is still mounted", str(self.target))
        pid = self._noted()
        if pid:
            self._end(pid, _PATIENCE)
        inside.unlink(self.note, missing_ok=True)
        _reap()

    def _start(self, log: int) -> subprocess.Popen[bytes]:
        import fcntl

        os.ftruncate(log, _LONGEST_OUTPUT)
        fcntl.fcntl(log, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        try:
            process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        except OSError as error:
            raise MountFailed(f"{self.command[0]} cannot be started: {error.strerror}; install it") from error
        _children[process.pid] = process
        return process

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log: int) -> None:
        deadline = time.monotonic() + self.timeout
        pause = 0.001
        while not is_mount_point(self.target):
            code = process.poll()
            if code is not None and (code or not is_mount_point(self.target)):
                raise MountFailed(f"{self.command[0]} has ended{_reason(code)} without mounting{_written(log)}")
            if time.monotonic() > deadline:
                raise MountFailed(
                    f"{self.command[0]} has not mounted {self.target} within {self.timeout:g} seconds{_written(log)}"
                )
            time.sleep(pause)
            pause = min(pause * 2, _PAUSE)
        if problem := self._problem(deadline):
            raise MountFailed(f"the mount of {self.command[0]} at {self.target} {problem}{_written(log)}")

    def _problem(self, deadline: float) -> str:
        """Return why the mount does not answer; empty if it does. The question may wait for ever: a child asks it."""
        child = subprocess.Popen(
            ["stat", "-f", "--", str(self.target)],  # statfs(2) is always passed on: its answer is in no cache
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        _children[child.pid] = child
        try:
            code = child.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            child.kill()  # it ends when the program, or its mount, does
            return f"does not answer within {self.timeout:g} seconds"
        finally:
            _reap()
        return "has no living program" if code else ""

    def _noted(self) -> int:
        """Return the program's process ID, if the note has one."""
        try:
            text = inside.read(self.note, _LONGEST_NOTE).strip()
        except (FileNotFoundError, BadRecord):
            return 0
        return int(text) if text.isdigit() and len(text) < 10 else 0

    def _end(self, pid: int, patience: float) -> None:
        """Wait until the program has ended, and end it if that takes too long."""
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError), Descriptor(os.pidfd_open, pid) as process:
                if not self._is_program(pid):
                    break
                if number:
                    signal.pidfd_send_signal(process, number)
                    patience = _PATIENCE
                if number == signal.SIGKILL:
                    with contextlib.suppress(PermissionError):
                        os.killpg(pid, number)  # its children, in the session that `_start` has made for it
                if select.select([process], [], [], patience)[0]:
                    break
        _reap()

    def _is_program(self, pid: int) -> bool:
        """Return whether a process is the program: its arguments are those of the command."""
        if pid in _children:
            return True
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        except OSError:
            return False
        wanted = [os.fsencode(word) for word in self.command[1:]]
        return bool(wanted) and words[-len(wanted) :] == wanted


def is_mount_point(path: str | os.PathLike[str]) -> bool:
    """Return whether something is mounted at a path, by the kernel's list (proc_pid_mountinfo(5)).

    Nothing is asked of the file system there, which may have died, or wait for ever.

    Args:
        path: the path. Links on the way to its last name are followed.
    """
    above, name = os.path.split(os.path.abspath(path))
    wanted = os.fsencode(os.path.join(os.path.realpath(above), name))
    for character in b"\\ \t\n":
        wanted = wanted.replace(bytes((character,)), b"\\%03o" % character)
    with open("/proc/self/mountinfo", "rb") as lines:
        return any(line.split(b" ", 5)[4] == wanted for line in lines)


def _unmount(target: Path) -> None:
    """Unmount what is mounted last at a path; detach it if it is in use."""
    for flags, option in ((0, "-u"), (_MNT_DETACH, "-uz")):
        try:
            _umount2(target, flags)
        except PermissionError as error:
            if _fusermount(target, option):
                return
            if flags:
                error.add_note("unmounting it without the rights of root needs fusermount3 (package fuse3)")
                raise
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # it was unmounted meanwhile
            if error.errno != errno.EBUSY or flags:
                raise
        else:
            return


def _umount2(target: Path, flags: int) -> None:
    import ctypes  # lazy: few drivers use this

    libc = ctypes.CDLL(None, use_errno=True)
    with inside.parent(target) as (above, name):
        path = b"/proc/self/fd/%d/%b" % (above, os.fsencode(name))
        if libc.umount2(ctypes.c_char_p(path), ctypes.c_int(flags | _UMOUNT_NOFOLLOW)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(target))


def _fusermount(target: Path, option: str) -> bool:
    """Unmount as an ordinary user, by the program that FUSE has for that; return whether it was done."""
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        return False
    done = subprocess.run(
        [program, option, "--", str(target)], check=False, capture_output=True, stdin=subprocess.DEVNULL, cwd="/"
    )
    return done.returncode == 0


def _reap() -> None:
    """Let the kernel forget the programs that have ended."""
    for pid, process in list(_children.items()):
        if process.poll() is not None:
            _children.pop(pid, None)


def _reason(code: int) -> str:
    return f" by signal {-code}" if code < 0 else f" with exit code {code}" if code else ""


def _written(log: int) -> str:
    """Return what the program has written, for a message."""
    text = os.pread(log, _LONGEST_OUTPUT, 0).rstrip(b"\0").decode("utf-8", "replace").strip()
    return f"; it says: {text[-_LONGEST_MESSAGE:]}" if text else ""
