"""Disks that fail: at each write of a store's life in turn, at each read of those who look at one, and full ones.

A call fails, or it has done what it says. On the same disk, sound again, is then all that had been promised.

Run as a program it goes through many faults, each in processes with mounts of their own, and none is begun anew but by
`fork`: `failing.py TASK DIRECTORY`, with the task as JSON.
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
from layerstore_core.base.digests import DiffID  # noqa: E402
from layerstore_core.base.durability import FlushPoint  # noqa: E402
from layerstore_core.images import Images  # noqa: E402
from layerstore_core.maintenance.check import check_store, repair  # noqa: E402
from layerstore_core.maintenance.gc import collect_garbage  # noqa: E402
from tests.reliability.aftermath import look  # noqa: E402
from tests.reliability.fuse_disk import FAILED, MARK, Failing, read_log  # noqa: E402
from tests.reliability.life import Expectation, Words, furnish, live  # noqa: E402
from tests.reliability.namespace import enter_own_mounts  # noqa: E402
from tests.reliability.power import (  # noqa: E402
    END,
    FILE_SYSTEMS,
    attach,
    copy,
    make_file_system,
    memory,
    mount_image,
    neighbour,
    say,
)

FOR_EVER: Final = 1 << 40
#: Numbers in a row that nothing had; one life has some writes more or less than another.
_ENOUGH: Final = 5


@dataclass(frozen=True)
class Task:
    """What to go through.

    Attributes:
        kind: "write": a life on a disk that refuses writes; "read": looking at a store on a disk that refuses reads;
            one of `_FILL`: a life on a disk that has so many of these left.
        file_system: of `power.FILE_SYSTEMS`.
        driver: its name.
        code: the `errno` of the disk.
        for_ever: whether the disk fails from there on, or once.
        first, step: the numbers of the write or read that is refused, or of what is left: `first`, `first + step`, …
            up to where nothing fails any more.
        numbers: these alone instead.
    """

    kind: str
    file_system: str
    driver: str
    code: int = errno.EIO
    for_ever: bool = False
    first: int = 1
    step: int = 1
    numbers: tuple[int, ...] = ()


@dataclass
class Shown:
    """What that has shown.

    Attributes:
        faults: how many disks did refuse something, or were full.
        raised: on how many of them a call failed.
        losses: promises that were not kept, wrong bytes, and what was left, in words.
    """

    faults: int = 0
    raised: int = 0
    losses: list[str] = field(default_factory=list)


def go_through(task: Task, *, at_once: int = 1) -> Shown:
    """Go through all faults of a task, with so many processes that share the numbers among them."""
    parts = [task]
    if not task.numbers:
        parts = [Task(**{**asdict(task), "first": task.first + part, "step": at_once}) for part in range(at_once)]
    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(_run, parts))
    return Shown(
        sum(one.faults for one in found),
        sum(one.raised for one in found),
        [words for one in found for words in one.losses],
    )


def who_hears_of_a_failed_write() -> dict[str, bool]:
    """Let a write fail in the background, and flush: as another, then as one who was there, and as one who comes late."""
    with tempfile.TemporaryDirectory(prefix="layerstore-failing-", dir=memory()) as directory:
        make_file_system(FILE_SYSTEMS["ext4"], Path(directory, "image"))
        found: dict[str, bool] = _in_child(_hear, Path(directory), Failing("write", range(1, FOR_EVER)))
        return found


def _run(task: Task) -> Shown:
    with tempfile.TemporaryDirectory(prefix="layerstore-failing-", dir=memory()) as directory:
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(asdict(task)), directory],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{task}: {done.stderr}"
        return Shown(**json.loads(done.stdout))


def main(task: Task, directory: Path) -> Shown:
    """All faults of a task, one after the other."""
    shown = Shown()
    original = directory / "original"
    promised = Expectation()
    make_file_system(FILE_SYSTEMS[task.file_system], original)
    if task.kind == "read":
        promised.certain = _in_child(_furnish, original, directory, task)
    beyond = 0
    numbers: Iterable[int] = task.numbers or count(task.first, task.step)
    for number in numbers:
        failing = Failing(task.kind, range(number, (FOR_EVER if task.for_ever else number) + 1), task.code)
        with tempfile.TemporaryDirectory(dir=directory) as name:
            one = Path(name)
            copy(original, one / "image")
            if task.kind in _FILL:
                refused, losses = _in_child(_live_in_little, one, number, task)
                raised = refused
            else:
                refused, raised, losses = _refuse(one, failing, task, promised.certain)
        if not refused:
            beyond += 1
            if beyond == _ENOUGH and not task.numbers:
                break
            continue
        beyond = 0
        shown.faults += 1
        shown.raised += raised
        shown.losses += [f"{task.kind} {number}: {words}" for words in losses]
    return shown


def _refuse(directory: Path, failing: Failing, task: Task, promised: dict[str, Any]) -> tuple[bool, bool, list[str]]:
    """Whether the disk has refused something, whether a call has raised, and what was lost."""
    raised, wrong = _in_child(_live if task.kind == "write" else _read, directory, failing, task, promised)
    said = Expectation(dict(promised))
    if not _hear_all(directory / "log", said):
        return False, raised, []
    lost, damaged = _in_child(_look, directory, task, said)
    return True, raised, wrong + lost + damaged


def _hear_all(log: Path, said: Expectation) -> bool:
    """Hear what has been said until the end, and tell whether the disk has refused something by then."""
    refused = False
    for entry in read_log(log):
        if entry.kind == MARK and entry.data == END:
            break
        refused |= entry.kind == FAILED
        if entry.kind == MARK and entry.data.startswith(b"["):
            said.hear(entry.data)
    return refused


def _in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do something in a process with mounts of its own; what it returns. When that is known, its disk is out of use."""
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
        pipe.read()  # ends with the last process that has the disk's end of it
    assert answer, f"{work.__name__}: no answer"
    return json.loads(answer)


def _config(mount: Path, task: Task) -> StoreConfig:
    return StoreConfig(root=mount / "store", driver=task.driver, durability="full")


def _live(directory: Path, failing: Failing, task: Task, _: dict[str, Any], *, alive: int) -> tuple[bool, list[str]]:
    mount, marks = attach(directory, FILE_SYSTEMS[task.file_system], failing=failing, alive=alive)
    store = LayerStore.open(_config(mount, task))
    failed = False
    with neighbour(mount):
        try:
            live(store, Words(lambda word: say(marks, word)))
        except OSError:
            failed = True
        say(marks, END)
    return failed, []


def _live_in_little(directory: Path, number: int, task: Task, *, alive: int) -> tuple[bool, list[str]]:
    """Live on a disk with so much left; what is there can then be read, and all is well when there is room again."""
    mount = directory / "mount"
    mount.mkdir()
    mount_image(FILE_SYSTEMS[task.file_system], directory / "image", mount)
    said, failed, losses = Expectation(), False, []
    with LayerStore.open(_config(mount, task)) as store:
        _FILL[task.kind](mount / "filler", number)
        try:
            live(store, Words(said.hear))
        except OSError as error:
            failed = True
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                losses.append(f"no word of a full disk: {error!r}: {traceback.format_exc()}")
        for fact, value in said.certain.items():
            if fact.startswith("layer ") and fact not in said.open and value is not None:
                try:
                    if _digest(store, fact.removeprefix("layer ")) != value:
                        losses.append(f"full, {fact} is another")
                except (OSError, LayerStoreError) as error:
                    losses.append(f"full, {fact}: {error!r}")
    shutil.rmtree(mount / "filler")
    lost, damaged = look(_config(mount, task), said)
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
            except OSError:  # btrfs counts with what it then does not give
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


#: How a disk is made full but for so much.
_FILL: Final = {
    "blocks": partial(_leave_blocks, 4096),
    # Btrfs hands out chunks of many.
    "quarters of a MiB": partial(_leave_blocks, 1 << 18),
    "inodes": _leave_inodes,
}


def _furnish(image: Path, directory: Path, task: Task, *, alive: int) -> dict[str, Any]:
    mount = directory / "mount"
    mount.mkdir()
    mount_image(FILE_SYSTEMS[task.file_system], image, mount)
    with LayerStore.open(_config(mount, task)) as store:
        promised = furnish(store)
    subprocess.run(["umount", mount], check=True)
    return promised


def _read(
    directory: Path, failing: Failing, task: Task, promised: dict[str, Any], *, alive: int
) -> tuple[bool, list[str]]:
    """Do all that reads; whatever is not an error has to be right. Nothing is deleted for want of reading."""
    mount, marks = attach(directory, FILE_SYSTEMS[task.file_system], failing=failing, alive=alive)
    say(marks, b"the disk fails from here on")
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


def _look(directory: Path, task: Task, said: Expectation, *, alive: int) -> tuple[list[str], list[str]]:
    """What there is on the disk, sound again."""
    mount_image(FILE_SYSTEMS[task.file_system], directory / "image", directory / "mount")
    try:
        found = look(_config(directory / "mount", task), said)
    except Exception as error:
        found = [], [f"{type(error).__name__}: {error}"]
    subprocess.run(["umount", directory / "mount"], check=True)
    return found


def _hear(directory: Path, failing: Failing, *, alive: int) -> dict[str, bool]:
    mount, marks = attach(directory, FILE_SYSTEMS["ext4"], failing=failing, alive=alive)
    heard = {}
    with FlushPoint(mount) as another, FlushPoint(mount) as point:
        (mount / "data").write_bytes(b"data" * 10_000)
        say(marks, b"the disk fails from here on")
        heard["another"] = _fails(another)
        heard["point"] = _fails(point)
    with FlushPoint(mount) as late:
        heard["late"] = _fails(late)
    return heard


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
