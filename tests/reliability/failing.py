"""Disks that fail at each write of a store in turn, or at each read, and full disks.

A call fails, or it has done what it promises. On the same disk, repaired, all promises must then hold.

Run as a program, it goes through many faults, each in processes with their own mounts. The processes are started by
`fork` alone, without a new interpreter: `failing.py TASK DIRECTORY`, with the task as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

TOP: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(TOP))

from layerstore_core import LayerStore, LayerStoreError, StoreConfig  # noqa: E402
from layerstore_core.base import inside  # noqa: E402
from layerstore_core.base.digests import DiffID  # noqa: E402
from layerstore_core.base.durability import FlushPoint  # noqa: E402
from layerstore_core.conformance.instruments.disks import copy_image, make_file_system, mount_image  # noqa: E402
from layerstore_core.images import Images  # noqa: E402
from layerstore_core.maintenance.check import check_store, repair  # noqa: E402
from layerstore_core.maintenance.gc import collect_garbage  # noqa: E402
from tests.reliability.aftermath import examine  # noqa: E402
from tests.reliability.fuse_disk import FAILED, MARK, Failing, read_log  # noqa: E402
from tests.reliability.life import Expectation, PromiseLog, fill_store, use_store  # noqa: E402
from tests.reliability.namespace import enter_own_mounts  # noqa: E402
from tests.reliability.power import (  # noqa: E402
    END,
    FILE_SYSTEMS,
    attach,
    background_syncs,
    memory,
    write_mark,
)

FOREVER: Final = 1 << 40
#: A run ends after so many numbers in a row without a fault. Runs differ by some writes.
_ENOUGH: Final = 5


@dataclass(frozen=True)
class Task:
    """A series of faults.

    Attributes:
        kind: "write": use a store on a disk that refuses writes. "read": read a store on a disk that refuses reads. A
            key of `_FILL`: use a store on a disk that has only so many of these left.
        file_system: a key of `power.FILE_SYSTEMS`.
        driver: the driver's name.
        code: the `errno` of the disk.
        forever: whether the disk fails from then on, or once.
        first: the first number. A number is that of the write or read that is refused, or of blocks or inodes left.
        step: the difference of two numbers: `first`, `first + step`, … up to the first numbers without a fault.
        numbers: if given, only these numbers.
    """

    kind: str
    file_system: str
    driver: str
    code: int = errno.EIO
    forever: bool = False
    first: int = 1
    step: int = 1
    numbers: tuple[int, ...] = ()


@dataclass
class Findings:
    """The results of a task.

    Attributes:
        faults: the number of disks that refused a call, or were full.
        raised: the number of disks on which a call of the store failed.
        losses: descriptions of broken promises, wrong bytes, and stale state.
    """

    faults: int = 0
    raised: int = 0
    losses: list[str] = field(default_factory=list)


def run_task(task: Task, *, at_once: int = 1) -> Findings:
    """Go through all faults of a task. `at_once` processes share the numbers."""
    parts = [task]
    if not task.numbers:
        parts = [Task(**{**asdict(task), "first": task.first + part, "step": at_once}) for part in range(at_once)]
    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(_run, parts))
    return Findings(
        sum(one.faults for one in found),
        sum(one.raised for one in found),
        [words for one in found for words in one.losses],
    )


def flush_points_that_see_a_failed_write() -> dict[str, bool]:
    """Let a write fail in the background, and flush. Return which flush points report the error.

    They are "another" and "point", both opened before the write, and "late", opened after a flush has reported the
    error.
    """
    with tempfile.TemporaryDirectory(prefix="layerstore-failing-", dir=memory()) as directory:
        make_file_system(FILE_SYSTEMS["ext4"], Path(directory, "image"))
        found: dict[str, bool] = _in_child(
            _flush_after_failed_write, Path(directory), Failing("write", range(1, FOREVER))
        )
        return found


def flushes_that_see_an_aborted_journal() -> dict[str, str]:
    """Let a write of the journal fail while another file is flushed. Return the error of each flush after it.

    They are "fsync", of a directory in which a name was changed before, and "flush", the same by `inside.flush`.
    """
    with tempfile.TemporaryDirectory(prefix="layerstore-failing-", dir=memory()) as directory:
        make_file_system(FILE_SYSTEMS["ext4"], Path(directory, "image"))
        # The first write is that of the other file's data, and the second one begins the transaction in the journal.
        found: dict[str, str] = _in_child(_flush_with_aborted_journal, Path(directory), Failing("write", range(2, 3)))
        return found


def _run(task: Task) -> Findings:
    with tempfile.TemporaryDirectory(prefix="layerstore-failing-", dir=memory()) as directory:
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(asdict(task)), directory],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{task}: {done.stderr}"
        return Findings(**json.loads(done.stdout))


def main(task: Task, directory: Path) -> Findings:
    """Go through all faults of a task, one after another."""
    findings = Findings()
    original = directory / "original"
    promised = Expectation()
    make_file_system(FILE_SYSTEMS[task.file_system], original)
    if task.kind == "read":
        promised.certain = _in_child(_fill_store, original, directory, task)
    beyond = 0
    numbers: Iterable[int] = task.numbers or count(task.first, task.step)
    for number in numbers:
        failing = Failing(task.kind, range(number, (FOREVER if task.forever else number) + 1), task.code)
        with tempfile.TemporaryDirectory(dir=directory) as name:
            one = Path(name)
            copy_image(original, one / "image")
            if task.kind in _FILL:
                refused, losses = _in_child(_use_full_disk, one, number, task)
                raised = refused
            else:
                refused, raised, losses = _refuse(one, failing, task, promised.certain)
        if not refused:
            beyond += 1
            if beyond == _ENOUGH and not task.numbers:
                break
            continue
        beyond = 0
        findings.faults += 1
        findings.raised += raised
        findings.losses += [f"{task.kind} {number}: {words}" for words in losses]
    return findings


def _refuse(directory: Path, failing: Failing, task: Task, promised: dict[str, Any]) -> tuple[bool, bool, list[str]]:
    """Let the disk refuse calls. Return whether it has, whether a call of the store has raised, and what was lost."""
    raised, wrong = _in_child(_use_failing_disk if task.kind == "write" else _read, directory, failing, task, promised)
    promises = Expectation(dict(promised))
    if not _read_promises(directory / "log", promises):
        return False, raised, []
    lost, damaged = _in_child(_examine, directory, task, promises)
    return True, raised, wrong + lost + damaged


def _read_promises(log: Path, promises: Expectation) -> bool:
    """Read the promises in a log up to its end mark. Return whether the disk has refused a call by then."""
    refused = False
    for entry in read_log(log):
        if entry.kind == MARK and entry.data == END:
            break
        refused |= entry.kind == FAILED
        if entry.kind == MARK and entry.data.startswith(b"["):
            promises.read(entry.data)
    return refused


def _in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do some work in a child process with its own mounts. Return the result when the child's disk is out of use."""
    result, alive = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            enter_own_mounts()
            os.close(alive[0])
            answer = json.dumps(work(*arguments, alive=alive[1])).encode()
            with os.fdopen(result[1], "wb") as pipe:
                pipe.write(answer)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(0)
    os.close(result[1])
    os.close(alive[1])
    with os.fdopen(result[0], "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    with os.fdopen(alive[0], "rb") as pipe:
        pipe.read()  # ends when the last process with the other end has ended: the disk's server
    assert answer, f"{work.__name__}: no answer"
    return json.loads(answer)


def _config(mount: Path, task: Task) -> StoreConfig:
    return StoreConfig(root=mount / "store", driver=task.driver, durability="full")


def _use_failing_disk(
    directory: Path, failing: Failing, task: Task, _: dict[str, Any], *, alive: int
) -> tuple[bool, list[str]]:
    mount, marks = attach(directory, FILE_SYSTEMS[task.file_system], failing=failing, alive=alive)
    store = LayerStore.open(_config(mount, task))
    failed = False
    with background_syncs(mount):
        try:
            use_store(store, PromiseLog(lambda line: write_mark(marks, line)))
        except OSError:
            failed = True
        write_mark(marks, END)
    return failed, []


def _use_full_disk(directory: Path, number: int, task: Task, *, alive: int) -> tuple[bool, list[str]]:
    """Use a store on an almost full disk. Then read its layers, free the disk, and examine the store."""
    mount = directory / "mount"
    mount.mkdir()
    mount_image(FILE_SYSTEMS[task.file_system], directory / "image", mount)
    promises, failed, losses = Expectation(), False, []
    with LayerStore.open(_config(mount, task)) as store:
        _FILL[task.kind](mount / "filler", number)
        try:
            use_store(store, PromiseLog(promises.read))
        except OSError as error:
            failed = True
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                losses.append(f"another error than that of a full disk: {error!r}: {traceback.format_exc()}")
        for fact, value in promises.certain.items():
            if fact.startswith("layer ") and fact not in promises.open and value is not None:
                try:
                    if _digest(store, fact.removeprefix("layer ")) != value:
                        losses.append(f"on the full disk, {fact} has other content")
                except (OSError, LayerStoreError) as error:
                    losses.append(f"on the full disk, {fact}: {error!r}")
    shutil.rmtree(mount / "filler")
    lost, damaged = examine(_config(mount, task), promises)
    subprocess.run(["umount", mount], check=True)
    return failed, losses + lost + damaged


def _leave_blocks(size: int, filler: Path, number: int) -> None:
    filler.mkdir()
    status = os.statvfs(filler)
    room = max(4096, status.f_bavail * status.f_frsize - number * size)
    with open(filler / "file", "wb") as file:
        done, more = 0, room
        while done < room and more >= 4096:
            part = min(more, room - done)
            try:
                os.posix_fallocate(file.fileno(), done, part)
                done += part
            except OSError:  # btrfs reports more free space than it then allocates
                more //= 2
        os.fsync(file.fileno())


def _leave_inodes(filler: Path, number: int) -> None:
    filler.mkdir()
    for one in count():
        try:
            (filler / str(one)).touch()
        except OSError:
            break
    for other in range(number):
        (filler / str(one - 1 - other)).unlink()


#: The functions that fill a disk up to so many blocks or inodes, by their kind.
_FILL: Final = {
    "blocks": partial(_leave_blocks, 4096),
    # Btrfs allocates chunks of many blocks.
    "quarters of a MiB": partial(_leave_blocks, 1 << 18),
    "inodes": _leave_inodes,
}


def _fill_store(image: Path, directory: Path, task: Task, *, alive: int) -> dict[str, Any]:
    mount = directory / "mount"
    mount.mkdir()
    mount_image(FILE_SYSTEMS[task.file_system], image, mount)
    with LayerStore.open(_config(mount, task)) as store:
        promised = fill_store(store)
    subprocess.run(["umount", mount], check=True)
    return promised


def _read(
    directory: Path, failing: Failing, task: Task, promised: dict[str, Any], *, alive: int
) -> tuple[bool, list[str]]:
    """Do everything that reads. Results without an error must be right, and unreadable files must not be deleted."""
    mount, marks = attach(directory, FILE_SYSTEMS[task.file_system], failing=failing, alive=alive)
    write_mark(marks, b"the disk fails from here on")
    wrong: list[str] = []
    failures: list[Exception] = []

    def attempt(what: str, do: Callable[[], object], expected: object = None) -> None:
        try:
            got = do()
        except (OSError, LayerStoreError) as error:
            failures.append(error)
            return
        if expected is not None and got != expected:
            wrong.append(f"{what} is {str(got)[:200]}, not {expected}")

    try:
        store = LayerStore.open(_config(mount, task))
    except (OSError, LayerStoreError):
        return True, wrong
    with suppress(OSError, LayerStoreError), store:
        missing = [f"{problem.path}: {problem.reason}" for problem in store.load_problems]
        for fact, value in promised.items():
            kind, name = fact.split(" ", 1)
            if kind == "layer":
                attempt(fact, lambda name=name: _digest(store, name), value)  # type: ignore[misc]
            elif kind == "rw":
                attempt(fact, lambda name=name: _content(store, name), value)  # type: ignore[misc]
            elif kind == "image":
                attempt(fact, lambda name=name: Images(store).get(name).image_id, value)  # type: ignore[misc]
        attempt("check", lambda: failures.extend(OSError(str(finding)) for finding in check_store(store, full=True)))
        attempt("gc", lambda: collect_garbage(store))
        attempt("repair", lambda: repair(store, check_store(store)))
        attempt("gc", lambda: collect_garbage(store))
        failures.extend(OSError(words) for words in missing)
    return bool(failures), wrong


def _digest(store: LayerStore, chain: str) -> str:
    with store.get(chain) as layer, layer.tar_stream() as stream:
        return DiffID.of(stream.read())


def _content(store: LayerStore, name: str) -> bool:
    with store.get_rw_layer(name) as rw, rw.mounted() as path:
        return Path(path, "init").read_bytes() == b"init"


def _examine(directory: Path, task: Task, promises: Expectation, *, alive: int) -> tuple[list[str], list[str]]:
    """Examine the store on the repaired disk."""
    mount_image(FILE_SYSTEMS[task.file_system], directory / "image", directory / "mount")
    try:
        found = examine(_config(directory / "mount", task), promises)
    except Exception as error:
        found = [], [f"{type(error).__name__}: {error}"]
    subprocess.run(["umount", directory / "mount"], check=True)
    return found


def _flush_after_failed_write(directory: Path, failing: Failing, *, alive: int) -> dict[str, bool]:
    mount, marks = attach(directory, FILE_SYSTEMS["ext4"], failing=failing, alive=alive)
    seen = {}
    with FlushPoint(mount) as another, FlushPoint(mount) as point:
        (mount / "data").write_bytes(b"data" * 10_000)
        write_mark(marks, b"the disk fails from here on")
        seen["another"] = _fails(another)
        seen["point"] = _fails(point)
    with FlushPoint(mount) as late:
        seen["late"] = _fails(late)
    return seen


def _flush_with_aborted_journal(directory: Path, failing: Failing, *, alive: int) -> dict[str, str]:
    mount, marks = attach(directory, FILE_SYSTEMS["ext4"], failing=failing, alive=alive)
    (mount / "before").mkdir()
    os.sync()
    write_mark(marks, b"the disk fails from here on")
    (mount / "before").rename(mount / "after")
    with open(mount / "other", "wb", buffering=0) as other:
        other.write(b"other")
        assert _error_of(lambda: os.fsync(other.fileno())), "the journal was written"
    return {"fsync": _error_of(lambda: _fsync(mount)), "flush": _error_of(lambda: inside.flush(mount))}


def _fsync(directory: Path) -> None:
    with inside.open_directory(directory) as fd:
        os.fsync(fd)


def _error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return str(error.strerror)
    return ""


def _fails(point: FlushPoint) -> bool:
    try:
        point.flush()
    except OSError:
        return True
    return False


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    given["numbers"] = tuple(given["numbers"])
    print(json.dumps(asdict(main(Task(**given), Path(sys.argv[2])))))
