"""Soak test: a mixed load on all drivers at once, for a chosen time. It ends at the first loss.

`python -m tests.reliability.soak MINUTES [SEED]`. There is a store for each driver that works here. Several processes
(`storm.py`) use each store, and are killed at random and replaced. Once a minute all are killed, and each store is
examined: every promise is kept, every layer is exact, and nothing unreferenced is left. Then the same stores are used
    on.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import IO, Final

from layerstore_core import LayerStore, StoreConfig
from tests.driver_roots import DRIVERS, btrfs_file_system, remove_root, why_not
from tests.reliability import storm
from tests.reliability.aftermath import examine
from tests.reliability.figures import Figures
from tests.reliability.life import Expectation, facts_of
from tests.reliability.report import write

WORKERS: Final = 3
ROUND: Final = 60.0
#: More operations than a process ever does.
_ENDLESS: Final = 1 << 40


@dataclass
class Load:
    """The load on one store.

    Attributes:
        config: the store's settings.
        directory: the directory of the journals.
        errors: the file with the processes' error output.
        running: the processes, one for each journal.
        kills: the number of processes that were killed.
        losses: descriptions of broken promises, damage and stale state.
    """

    config: StoreConfig
    directory: Path
    errors: IO[bytes]
    running: list[Popen[bytes]] = field(default_factory=list)
    kills: int = 0
    losses: list[str] = field(default_factory=list)

    @property
    def journals(self) -> list[Path]:
        return [self.directory / f"journal{worker}" for worker in range(WORKERS)]

    def start(self, worker: int, seed: int) -> Popen[bytes]:
        assert self.config.root is not None
        assert self.config.driver is not None
        return storm.start(
            self.config.root, self.config.driver, self.journals[worker], worker, seed, _ENDLESS, self.errors.fileno()
        )

    def kill(self, worker: int) -> None:
        """Kill a process. If it has already ended with an error, record a loss."""
        process = self.running[worker]
        process.kill()
        if process.wait() > 0:
            self.errors.seek(0)
            self.losses.append(f"{self.config.driver}: a process gave up: {self.errors.read().decode()[-4000:]}")
        self.kills += 1

    def examine(self) -> None:
        """Compare the store with the promises. Begin new journals with the facts that hold now."""
        promises = [storm.read_journal(journal) for journal in self.journals]
        together = Expectation()
        for promised in promises:  # the names of each process differ
            together.certain.update(promised.certain)
            together.open.update(promised.open)
        lost, damaged = examine(self.config, together)
        self.losses += [f"{self.config.driver}: {words}" for words in lost + damaged]
        with LayerStore.open(self.config) as store:
            found = facts_of(store)
        for journal, promised in zip(self.journals, promises, strict=True):
            names = promised.certain.keys() | promised.open
            there = {name: found[name] for name in names if found.get(name) is not None}
            journal.write_text(json.dumps(["is", there]) + "\n")


def go_round(loads: list[Load], chance: random.Random, seconds: float) -> None:
    """Work, kill and replace processes for some seconds. Then kill all, and examine the stores."""
    end = time.monotonic() + seconds
    for load in loads:
        load.running = [load.start(worker, chance.randrange(1 << 30)) for worker in range(WORKERS)]
    while time.monotonic() < end and not any(load.losses for load in loads):
        time.sleep(chance.uniform(0.1, 0.7))
        load, worker = chance.choice(loads), chance.randrange(WORKERS)
        load.kill(worker)
        load.running[worker] = load.start(worker, chance.randrange(1 << 30))
    for load in loads:
        for worker in range(WORKERS):
            load.kill(worker)
    for load in loads:
        load.look()


def main(minutes: float, seed: int | None = None) -> int:
    """Run the soak test. Write the figures into `docs/reliability.md`. Return 1 if there was a loss, otherwise 0."""
    seed = seed if seed is not None else random.SystemRandom().randrange(1 << 30)
    chance = random.Random(seed)
    drivers = [name for name in DRIVERS if not why_not(name)]
    print(f"{', '.join(drivers)}, {WORKERS} processes each, for {minutes:g} minutes; the seed is {seed}", flush=True)
    end = time.monotonic() + minutes * 60
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="layerstore-soak-")))
        loads = []
        for driver in drivers:
            directory = stack.enter_context(btrfs_file_system()) if driver == "btrfs" else top / driver
            directory.mkdir(exist_ok=True)
            config = StoreConfig(root=directory / "store", driver=driver, durability="none")
            stack.callback(remove_root, directory / "store")
            journals = top / f"{driver}-journals"
            journals.mkdir()
            errors = stack.enter_context(open(journals / "errors", "w+b"))
            loads.append(Load(config, journals, errors))
        while (left := end - time.monotonic()) > 0 and not any(load.losses for load in loads):
            go_round(loads, chance, min(ROUND, left))
            done = [sum(map(storm.operations_in, load.journals)) for load in loads]
            print(f"{sum(done)} operations, {sum(load.kills for load in loads)} kills", flush=True)
        figures = [
            Figures(f"soak: {load.config.driver}", load.kills, len(load.losses), operations)
            for load, operations in zip(loads, done, strict=True)
        ]
    write("Soak", figures, f"{minutes:g} minutes, {WORKERS} processes for each driver", "make soak")
    for words in (words for load in loads for words in load.losses):
        print(words, file=sys.stderr)
    return 1 if any(load.losses for load in loads) else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
