"""A program `layerstore` for scripts of tests that call it hundreds of times: processes with everything imported.

The program asks a server, which has imported the package, for a process: a fork that gets the program's arguments,
environment, directory and open files. It takes 0.03 s of processor time; starting and importing takes 0.11 s. The
installed program runs instead where a fork would not be the same: for another user, in other namespaces, with another
path for Python. With LAYERSTORE_TEST_QUICK=0, it always runs.

This module is also the server. It ends when its standard input ends.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import io
import marshal
import os
import pkgutil
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

INSTALLED: Final = Path(sys.executable).parent / "layerstore"
#: As many open files as a message can have.
MOST_FILES: Final = 253
#: Packages that most commands do not import.
NOT_IMPORTED: Final = ("layerstore_core.conformance", "layerstore_core.fsspec_files", "layerstore_core.__main__")
#: What a process would not have in common with the server's fork. The server is asked for its own values.
SURROUNDINGS: Final = """[
    os.getresuid(), os.getresgid(), os.getgroups(),
    *(os.readlink(f"/proc/self/ns/{name}") for name in ("user", "mnt", "net", "pid")),
    [os.environ.get(name) for name in ("PYTHONHOME", "PYTHONPATH")],
]"""
#: It imports as little as it can, and no packages.
PROGRAM: Final = """#!{python} -IS
import os, sys
def surroundings():
    return {surroundings}
if surroundings() != {expected}:
    os.execv({installed!r}, [{installed!r}, *sys.argv[1:]])
import _socket, marshal
files = []
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        if os.get_inheritable(number):
            files.append(number)
    except OSError:
        pass
os.umask(umask := os.umask(0))
request = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environb), files, umask))
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
server.connect({address!r})
numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in files)
server.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
code = int(server.recv(16) or b"255")
os._exit(code if code >= 0 else 128 - code)
"""


@contextmanager
def quick_program(directory: Path) -> Iterator[Path]:
    """Write the program `layerstore` into a directory, and start its server. Yield the directory for `PATH`."""
    program = directory / "layerstore"
    if os.environ.get("LAYERSTORE_TEST_QUICK") == "0":
        program.symlink_to(INSTALLED)
        yield directory
        return
    address = str(directory / "server")
    expected = eval(SURROUNDINGS)
    text = PROGRAM.format(
        python=sys.executable, surroundings=SURROUNDINGS, expected=expected, installed=str(INSTALLED), address=address
    )
    program.write_text(text)
    program.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield directory
        server.stdin.close()


def _import_everything() -> None:
    import layerstore_core
    from layerstore_core.base.plugins import DRIVERS, installed_entry_points
    from layerstore_core.cli.commands import COMMANDS

    list(COMMANDS.values())
    for module in pkgutil.walk_packages(layerstore_core.__path__, "layerstore_core."):
        if not module.name.startswith(NOT_IMPORTED):
            importlib.import_module(module.name)
    for point in installed_entry_points(DRIVERS):
        if point.module.startswith("layerstore_"):
            point.load()


def _serve(address: str) -> None:
    """Serve requests, and return in a process that is to run one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(100)
    print("ready", flush=True)
    forks: set[int] = set()
    while True:
        readable, _, _ = select.select([listener, 0], [], [])
        if 0 in readable:
            os._exit(0)
        connection, _ = listener.accept()
        if fork := os.fork():
            forks.add(fork)
        else:
            listener.close()
            _answer(connection)
            return
        connection.close()
        forks -= {fork for fork in forks if os.waitpid(fork, os.WNOHANG)[0]}


def _answer(connection: socket.socket) -> None:
    """Fork a process, which returns, and tell the program how it ended."""
    request, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(4 * MOST_FILES))
    ((_, _, numbers),) = ancillary
    files = [int.from_bytes(numbers[at : at + 4], sys.byteorder) for at in range(0, len(numbers), 4)]
    if process := os.fork():
        for file in files:
            os.close(file)
        _, status = os.waitpid(process, 0)
        connection.send(b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    connection.close()
    arguments, directory, environment, targets, umask = marshal.loads(request)
    above = [fcntl.fcntl(file, fcntl.F_DUPFD, max(targets) + 1) for file in files]
    for file in files:
        os.close(file)
    for file, target in zip(above, targets, strict=True):
        os.dup2(file, target)
        os.close(file)
    os.chdir(directory)
    os.umask(umask)
    os.environb.clear()
    os.environb.update(environment)
    sys.argv[1:] = arguments
    for name, mode in (("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb")):
        old = getattr(sys, name)
        binary = open(old.fileno(), mode, closefd=False)  # noqa: SIM115 - it stays open
        text = io.TextIOWrapper(binary, old.encoding, old.errors, line_buffering=name == "stderr")  # type: ignore[type-var]
        setattr(sys, name, text)


if __name__ == "__main__":
    _import_everything()
    gc.freeze()
    _serve(sys.argv[1])
    from layerstore_core.cli import main

    try:
        main()
    except SystemExit as end:
        # Without the interpreter's own end, which goes through all that the server has imported.
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.main_thread():
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
