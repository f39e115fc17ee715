"""Power cuts: a store's life on a disk that remembers, and every state that the disk may be in when the power goes.

A file system (ext4, btrfs) on a loop device on `fuse_disk` has a store. All that reaches the disk is logged, with
the flushes in between and what the store has promised by then. A cut leaves what was written before the last flush,
and of what came later any part, in sectors and in any order. Each such disk is mounted (the file system replays
its journal), the store is opened, and must have all that it has promised.

What is in the kernel's memory only is lost in any cut, so that what was never synced is never there. A neighbour
who syncs another file of the same file system all the time sees to it that half of what is under way is there.

Run as a program it is one of two processes, each with mounts of its own that go with it:
`power.py STEP DIRECTORY FILE-SYSTEM DRIVER DURABILITY NUMBER NUMBER`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(TOP))

from layerstore_core import LayerStore, StoreConfig  # noqa: E402
from tests.reliability import fuse_disk  # noqa: E402
from tests.reliability.aftermath import look  # noqa: E402
from tests.reliability.fuse_disk import FLUSH, MARK, WRITE, Failing, Record, read_log  # noqa: E402
from tests.reliability.life import Expectation, Words, live  # noqa: E402
from tests.reliability.namespace import enter_own_mounts  # noqa: E402

#: What a disk writes whole or not at all. File systems count on it for their superblocks.
_SECTOR: Final = 4096
END: Final = b"end"


@dataclass(frozen=True)
class FileSystem:
    """How to make one and mount it."""

    make: list[str]
    options: str
    size: int


_EXT4: Final = [
    "mkfs.ext4",
    "-q",
    "-F",
    "-m",
    "0",
    "-E",
    "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
    "-J",
    "size=4",
]
FILE_SYSTEMS: Final = {
    "ext4": FileSystem(_EXT4, "loop", 48 << 20),
    "ext4-few-inodes": FileSystem([*_EXT4, "-N", "800"], "loop", 48 << 20),
    # Data may come after the names that stand for it.
    "ext4-writeback": FileSystem(_EXT4, "loop,data=writeback", 48 << 20),
    "btrfs": FileSystem(["mkfs.btrfs", "--quiet", "--metadata", "single", "--nodiscard"], "loop", 128 << 20),
}


@dataclass
class Outcome:
    """What cutting has shown.

    Attributes:
        cuts: how many states of the disk were looked at.
        flushes: how many flushes there were in the store's life.
        lost: promises that were not kept.
        damaged: what was found after garbage collection, or could not be opened.
    """

    cuts: int = 0
    flushes: int = 0
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def why_not() -> str:
    """Why power cannot be cut here; empty where it can."""
    if os.geteuid():
        return "mounting needs the rights of root"
    missing = [path for path in ("/dev/fuse", "/dev/loop-control") if not os.path.exists(path)]
    missing += [program for program in ("mkfs.ext4", "mkfs.btrfs") if shutil.which(program) is None]
    return f"{missing[0]} is missing" if missing else ""


def cut_everywhere(file_system: str, driver: str, *, durability: str, seed: int, rounds: int) -> Outcome:
    """Let a store live, then cut its power at each flush and in between.

    Args:
        seed: of what is left of the writes after the last flush.
        rounds: how many random states there are for each flush, beside none and all of these writes.

    Returns:
        What that has shown. No mount, loop device, process or file is left, whatever happens.
    """
    with tempfile.TemporaryDirectory(prefix="layerstore-power-", dir=memory()) as directory:
        arguments = (directory, file_system, driver, durability, str(seed), str(rounds))
        _run("record", *arguments)
        return Outcome(**json.loads(_run("cut", *arguments)))


def memory() -> str | None:
    """A directory in memory, if there is one. Where the images are: they are written again and again."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False, timeout=3000
    )
    assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"
    return done.stdout


def record(directory: Path, file_system: str, driver: str, durability: str) -> None:
    """Live on a disk that remembers; ends without unmounting anything."""
    mount, marks = recording_disk(directory, FILE_SYSTEMS[file_system])
    config = StoreConfig(root=mount / "store", driver=driver, durability=durability)
    store = LayerStore.open(config)
    with neighbour(mount):
        live(store, Words(lambda word: say(marks, word)))
        say(marks, END)


def say(marks: int, word: bytes) -> None:
    """Put a word into the log."""
    os.pwrite(marks, word, 0)


@contextmanager
def neighbour(mount: Path) -> Iterator[None]:
    """Somebody else on a file system, who syncs all the time."""
    done = threading.Event()
    threading.Thread(target=_sync_all_the_time, args=(mount / "neighbour", done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _sync_all_the_time(path: Path, done: threading.Event) -> None:
    with open(path, "wb", buffering=0) as file:
        while not done.wait(0.01):
            try:
                file.write(b"x" * 100)
                os.fsync(file.fileno())
            except OSError:  # the disk is one that fails
                continue


def make_file_system(system: FileSystem, image: Path) -> None:
    """Make a file system in a file."""
    with open(image, "wb") as file:
        file.truncate(system.size)
    subprocess.run([*system.make, image], check=True, capture_output=True)


def recording_disk(directory: Path, system: FileSystem) -> tuple[Path, int]:
    """Make a file system on a disk that remembers; where it is mounted, and where marks are written to."""
    make_file_system(system, directory / "image")
    copy(directory / "image", directory / "durable")
    return attach(directory, system)


def attach(directory: Path, system: FileSystem, *, failing: Failing | None = None, alive: int = -1) -> tuple[Path, int]:
    """Mount the file system in a directory's `image` over a disk that remembers in `log` what is done to it.

    Args:
        failing: what the disk refuses; `None`: nothing.
        alive: a descriptor that the disk holds open for as long as it is served; -1: none.

    Returns:
        Where it is mounted, and a descriptor for marks.
    """
    disk, mount = directory / "disk", directory / "mount"
    disk.mkdir(exist_ok=True)
    mount.mkdir(exist_ok=True)
    channel = fuse_disk.mount(disk)
    # In the namespace that this process has come from; it ends when this one has, and so its mounts.
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


def cut(directory: Path, file_system: str, driver: str, durability: str, seed: int, rounds: int) -> Outcome:
    """Look at every state."""
    chance = random.Random(seed)
    outcome = Outcome()
    promised = Expectation()
    checker = Checker(directory, FILE_SYSTEMS[file_system], driver, durability, outcome)
    with open(directory / "durable", "r+b") as durable:
        for interval in _intervals(directory / "log"):
            for kept, heard in _states(interval, chance, rounds):
                durable.flush()
                now = Expectation(dict(promised.certain), set(promised.open))
                for word in heard:
                    now.hear(word)
                checker.check(kept, now)
            for entry in interval:
                if entry.kind == WRITE:
                    durable.seek(entry.offset)
                    durable.write(entry.data)
                elif entry.kind == MARK:
                    promised.hear(entry.data)
            outcome.flushes += 1
    return outcome


def _intervals(log: Path) -> Iterator[list[Record]]:
    """What came between two flushes."""
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
    """What may be on the disk of writes that no flush has followed, and what had been said by then."""
    writes = [entry for entry in interval if entry.kind == WRITE]
    words = [entry.data for entry in interval if entry.kind == MARK]
    if not writes and not words:
        return
    if words:  # otherwise it is as it was at the flush, which has been looked at
        yield [], words
    if not writes:
        return
    yield writes, words
    for _ in range(rounds):
        end = chance.randint(1, len(interval))
        kept = [part for entry in interval[:end] if entry.kind == WRITE for part in _some_of(entry, chance)]
        yield kept, [entry.data for entry in interval[:end] if entry.kind == MARK]


def _some_of(entry: Record, chance: random.Random) -> Iterator[Record]:
    """Part of a write: all, nothing, or some of its sectors."""
    kind = chance.random()
    if kind < 0.35:
        yield entry
    elif kind < 0.6:
        for start in range(0, len(entry.data), _SECTOR):
            if chance.random() < 0.5:
                yield Record(WRITE, entry.offset + start, entry.data[start : start + _SECTOR])


class Checker:
    def __init__(self, directory: Path, system: FileSystem, driver: str, durability: str, outcome: Outcome) -> None:
        self._durable, self._image, self._mount = (directory / name for name in ("durable", "cut", "mount"))
        self._system = system
        self._config = StoreConfig(root=self._mount / "store", driver=driver, durability=durability)
        self._outcome = outcome

    def check(self, kept: list[Record], promised: Expectation) -> None:
        """Mount a disk as the cut has left it, open the store, and compare."""
        self._outcome.cuts += 1
        copy(self._durable, self._image)
        with open(self._image, "r+b") as image:
            for entry in kept:
                image.seek(entry.offset)
                image.write(entry.data)
        with self._mounted():
            if not promised.certain and not self._config.root.exists():
                return
            try:
                self._look(promised)
            except Exception as error:
                self._outcome.damaged.append(f"cut {self._outcome.cuts}: {type(error).__name__}: {error}")

    def _look(self, promised: Expectation) -> None:
        where = f"cut {self._outcome.cuts}"
        lost, damaged = look(self._config, promised)
        self._outcome.lost += [f"{where}: {words}" for words in lost]
        self._outcome.damaged += [f"{where}: {words}" for words in damaged]

    @contextmanager
    def _mounted(self) -> Iterator[None]:
        mount_image(self._system, self._image, self._mount)
        try:
            yield
        finally:
            subprocess.run(["umount", self._mount], check=True)


def mount_image(system: FileSystem, image: Path, where: Path) -> None:
    command = ["mount", "-o", system.options, str(image), str(where)]
    for _ in range(5):
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.2)  # another process may have been faster at the free loop device
    subprocess.run(command, check=True)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def main(step: str, directory: str, file_system: str, driver: str, durability: str, seed: str, rounds: str) -> None:
    """Do one of the two steps."""
    enter_own_mounts()
    if step == "record":
        record(Path(directory), file_system, driver, durability)
        # Whatever is not on the disk by now is not to get there.
        sys.stdout.flush()
        os._exit(0)
    found = cut(Path(directory), file_system, driver, durability, int(seed), int(rounds))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
