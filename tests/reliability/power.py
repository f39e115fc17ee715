"""Power cuts: use a store on a disk that records everything, then try every state that a power cut may leave.

A store is on a file system (ext4, btrfs), which is on a loop device on `fuse_disk`. All that reaches the disk is
logged, with the flushes in between and what the store has promised by then. A cut leaves all that was written before
the last flush, and any part of what was written later, in sectors and in any order. Each such disk is mounted (the file
system replays its journal), the store is opened, and must keep all its promises.

A cut loses all that is only in the kernel's memory, so data that were never synced are never there. A background thread
syncs another file of the same file system repeatedly. So a part of the pending data is on the disk. How often it comes
to that depends on the machine's speed. So the metadata are also written after each call of the driver that changes
layers, and the power is cut there in any case: a layer's tree is then on the disk while its record is being made.

Run as a program, it is one of two processes, each with its own mounts, which end with the process:
`power.py STEP DIRECTORY FILE-SYSTEM DRIVER DURABILITY NUMBER NUMBER NUMBER`.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(TOP))

from layerstore_core import LayerStore, StoreConfig  # noqa: E402
from layerstore_core.conformance.instruments.disks import (  # noqa: E402
    BTRFS,
    EXT4,
    FileSystem,
    copy_image,
    make_file_system,
    mount_image,
)
from tests.reliability import fuse_disk  # noqa: E402
from tests.reliability.aftermath import examine  # noqa: E402
from tests.reliability.fuse_disk import FLUSH, MARK, WRITE, Failing, Record, read_log  # noqa: E402
from tests.reliability.life import Expectation, PromiseLog, use_store  # noqa: E402
from tests.reliability.namespace import enter_own_mounts  # noqa: E402

#: A disk writes so many bytes completely or not at all. File systems rely on that for their superblocks.
_SECTOR: Final = 4096
END: Final = b"end"
#: From linux/btrfs.h: _IOR(0x94, 24, __u64) and _IOW(0x94, 22, __u64).
_BTRFS_START_SYNC: Final = 0x80089418
_BTRFS_WAIT_SYNC: Final = 0x40089416
#: The mark after a call of the driver.
_STEP: Final = b"step"
_CHANGING: Final = ("create", "create_read_write", "apply_diff", "remove")


FILE_SYSTEMS: Final = {
    "ext4": EXT4,
    "ext4-few-inodes": FileSystem([*EXT4.make, "-N", "800"], EXT4.options, EXT4.size),
    # Data may reach the disk after the names of their files.
    "ext4-writeback": FileSystem(EXT4.make, "loop,data=writeback", EXT4.size),
    "btrfs": BTRFS,
}


@dataclass
class Outcome:
    """The results of power cuts.

    Attributes:
        cuts: the number of states of the disk that were examined.
        flushes: the number of flushes while the store was used.
        lost: descriptions of promises that were not kept.
        damaged: descriptions of damage after garbage collection, and of stores that could not be opened.
    """

    cuts: int = 0
    flushes: int = 0
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def why_not() -> str:
    """Return why power cuts cannot be tried here. Empty if they can."""
    if os.geteuid():
        return "mounting needs the rights of root"
    missing = [path for path in ("/dev/fuse", "/dev/loop-control") if not os.path.exists(path)]
    missing += [program for program in ("mkfs.ext4", "mkfs.btrfs") if shutil.which(program) is None]
    return f"{missing[0]} is missing" if missing else ""


def cut_everywhere(
    file_system: str, driver: str, *, durability: str, seed: int, rounds: int, every: int = 1
) -> Outcome:
    """Use a store, then cut its power at each flush and in between.

    Args:
        file_system: a key of `FILE_SYSTEMS`.
        driver: the driver's name.
        durability: the store's setting.
        seed: the seed for the choice of writes after the last flush that a cut keeps.
        rounds: the number of random states for each flush, in addition to none and all of these writes.
        every: of the flushes at which nothing is promised that was not promised before, and which are not the one after
            a call of the driver, this one in so many is tried.

    Returns:
        The results. No mount, loop device, process or file is left, whatever happens.
    """
    with tempfile.TemporaryDirectory(prefix="layerstore-power-", dir=memory()) as directory:
        arguments = (directory, file_system, driver, durability, str(seed), str(rounds), str(every))
        _run("record", *arguments)
        return Outcome(**json.loads(_run("cut", *arguments)))


def memory() -> str | None:
    """Return a directory in memory, if there is one. It is for the images, which are written again and again."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False, timeout=3000
    )
    assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"
    return done.stdout


def record(directory: Path, file_system: str, driver: str, durability: str) -> None:
    """Use a store on a disk that records everything. End without unmounting anything."""
    mount, marks = make_recording_disk(directory, FILE_SYSTEMS[file_system])
    config = StoreConfig(root=mount / "store", driver=driver, durability=durability)
    store = LayerStore.open(config)
    with background_syncs(mount), open(mount / "steps", "wb", buffering=0) as steps:

        def sync_step(outcome: object, hook_name: str, *_: object) -> None:
            if hook_name in _CHANGING:
                steps.write(b"x")
                commit_metadata(steps.fileno(), file_system)
                write_mark(marks, _STEP)

        store.driver.plugins.add_hookcall_monitoring(lambda *_: None, sync_step)
        use_store(store, PromiseLog(lambda line: write_mark(marks, line)))
        write_mark(marks, END)


def write_mark(marks: int, data: bytes) -> None:
    """Put a mark into the disk's log."""
    os.pwrite(marks, data, 0)


def commit_metadata(descriptor: int, file_system: str) -> None:
    """Write a file system's metadata to the disk, as its own thread does every few seconds, but no other file's data.

    For ext4, fsync(2) of any file does that. For btrfs, whose fsync(2) concerns one file, there are two ioctls.
    """
    if file_system != "btrfs":
        os.fsync(descriptor)
        return
    transaction = fcntl.ioctl(descriptor, _BTRFS_START_SYNC, bytes(8))
    fcntl.ioctl(descriptor, _BTRFS_WAIT_SYNC, transaction)


@contextmanager
def background_syncs(mount: Path) -> Iterator[None]:
    """Sync another file of a file system repeatedly, in a thread, for the length of a `with` block."""
    done = threading.Event()
    threading.Thread(target=_sync_repeatedly, args=(mount / "background", done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _sync_repeatedly(path: Path, done: threading.Event) -> None:
    with open(path, "wb", buffering=0) as file:
        while not done.wait(0.01):
            try:
                file.write(b"x" * 100)
                os.fsync(file.fileno())
            except OSError:  # on a disk that fails
                continue


def make_recording_disk(directory: Path, system: FileSystem) -> tuple[Path, int]:
    """Create a file system on a recording disk. Return its mount point, and a descriptor for marks."""
    make_file_system(system, directory / "image")
    copy_image(directory / "image", directory / "durable")
    return attach(directory, system)


def attach(directory: Path, system: FileSystem, *, failing: Failing | None = None, alive: int = -1) -> tuple[Path, int]:
    """Mount the file system in a directory's `image` over a disk that records in `log` what is done to it.

    Args:
        directory: the directory of the image and the log.
        system: the file system.
        failing: the calls that the disk refuses. `None`: none.
        alive: a descriptor that the disk's server keeps open until it ends. -1: none.

    Returns:
        The mount point, and a descriptor for marks.
    """
    disk, mount = directory / "disk", directory / "mount"
    disk.mkdir(exist_ok=True)
    mount.mkdir(exist_ok=True)
    channel = fuse_disk.mount(disk)
    # The server runs in the parent's namespace. It ends after this process, whose mounts need it to the end.
    outside = Path("/proc", str(os.getppid()), "ns", "mnt")
    served = [directory / "image", directory / "log", str(channel)]
    if failing is not None:
        numbers = failing.numbers
        served += [failing.kind, str(numbers.start), str(numbers.stop - 1), str(failing.code)]
    subprocess.Popen(
        ["nsenter", f"--mount={outside}", sys.executable, fuse_disk.__file__, *served],
        pass_fds=[fd for fd in (channel, alive) if fd >= 0],
    )
    os.close(channel)
    mount_image(system, disk / "disk", mount)
    return mount, os.open(disk / "mark", os.O_WRONLY)


def cut(directory: Path, file_system: str, driver: str, durability: str, seed: int, rounds: int, every: int) -> Outcome:
    """Examine every state of the disk."""
    chance = random.Random(seed)
    outcome = Outcome()
    promised = Expectation()
    checker = CutChecker(directory, FILE_SYSTEMS[file_system], driver, durability, outcome)
    # The disk with all writes of an interval is the same as the one with none of the next: it is examined once, for
    # what is promised at the end of both.
    here, news = [promised], True
    with open(directory / "durable", "r+b") as durable:
        for interval in _intervals(directory / "log"):
            durable.flush()
            lines = _lines(interval)
            news = news or any(entry.data == _STEP for entry in interval if entry.kind == MARK)
            writes = [entry for entry in interval if entry.kind == WRITE]
            if lines:
                here.append(_after(promised, lines))
                news = True
            if writes:
                if news or outcome.flushes % every == 0:
                    checker.check([], here)
                for kept, read in _states(interval, chance, rounds):
                    checker.check(kept, [_after(promised, read)])
                here = [_after(promised, lines)]
                news = bool(lines)
            for entry in writes:
                durable.seek(entry.offset)
                durable.write(entry.data)
            promised = _after(promised, lines)
            outcome.flushes += 1
        durable.flush()
        checker.check([], here)
    return outcome


def _after(promised: Expectation, lines: list[bytes]) -> Expectation:
    """Return what is promised after some more lines."""
    now = Expectation(dict(promised.certain), set(promised.open))
    for line in lines:
        now.read(line)
    return now


def _lines(interval: list[Record]) -> list[bytes]:
    """Return what the process has logged."""
    return [entry.data for entry in interval if entry.kind == MARK and entry.data != _STEP]


def _intervals(log: Path) -> Iterator[list[Record]]:
    """Yield the records between two flushes."""
    interval: list[Record] = []
    for entry in read_log(log):
        if entry.kind == FLUSH:
            yield interval
            interval = []
        elif entry.data == END and entry.kind == MARK:
            break
        else:
            interval.append(entry)
    yield interval


def _states(interval: list[Record], chance: random.Random, rounds: int) -> Iterator[tuple[list[Record], list[bytes]]]:
    """Yield random states after the last flush: the writes that were kept, and the log's lines by then."""
    for _ in range(rounds):
        end = chance.randint(1, len(interval))
        kept = [part for entry in interval[:end] if entry.kind == WRITE for part in _some_of(entry, chance)]
        yield kept, _lines(interval[:end])


def _some_of(entry: Record, chance: random.Random) -> Iterator[Record]:
    """Yield a part of a write: all, nothing, or some of its sectors."""
    kind = chance.random()
    if kind < 0.35:
        yield entry
    elif kind < 0.6:
        for start in range(0, len(entry.data), _SECTOR):
            if chance.random() < 0.5:
                yield Record(WRITE, entry.offset + start, entry.data[start : start + _SECTOR])


class CutChecker:
    """Examines the disk after each cut, and collects the results in `outcome`."""

    def __init__(self, directory: Path, system: FileSystem, driver: str, durability: str, outcome: Outcome) -> None:
        self._durable, self._image, self._mount = (directory / name for name in ("durable", "cut", "mount"))
        self._system = system
        self._config = StoreConfig(root=self._mount / "store", driver=driver, durability=durability)
        self._outcome = outcome

    def check(self, kept: list[Record], promised: list[Expectation]) -> None:
        """Mount a disk in the state after a cut, open the store, and compare it with what was promised by then."""
        self._outcome.cuts += 1
        copy_image(self._durable, self._image)
        with open(self._image, "r+b") as image:
            for entry in kept:
                image.seek(entry.offset)
                image.write(entry.data)
        with self._mounted():
            if not self._config.root.exists() and not any(one.certain for one in promised):
                return
            try:
                self._examine(promised)
            except Exception as error:
                self._outcome.damaged.append(f"cut {self._outcome.cuts}: {type(error).__name__}: {error}")

    def _examine(self, promised: list[Expectation]) -> None:
        where = f"cut {self._outcome.cuts}"
        lost, damaged = examine(self._config, *promised)
        self._outcome.lost += [f"{where}: {words}" for words in lost]
        self._outcome.damaged += [f"{where}: {words}" for words in damaged]

    @contextmanager
    def _mounted(self) -> Iterator[None]:
        mount_image(self._system, self._image, self._mount)
        try:
            yield
        finally:
            subprocess.run(["umount", self._mount], check=True)


def main(
    step: str, directory: str, file_system: str, driver: str, durability: str, seed: str, rounds: str, every: str
) -> None:
    """Do one of the two steps."""
    enter_own_mounts()
    if step == "record":
        record(Path(directory), file_system, driver, durability)
        # Data that are not on the disk by now must not get there any more.
        sys.stdout.flush()
        os._exit(0)
    found = cut(Path(directory), file_system, driver, durability, int(seed), int(rounds), int(every))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
