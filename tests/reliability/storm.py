"""A process of a kill storm: random operations on a store that other processes use too, until it is killed.

`storm.py ROOT DRIVER JOURNAL WORKER SEED OPERATIONS`. The process writes its promises into the journal, and a byte for
each finished operation into `JOURNAL.done`. Each worker has its own layers, writable layers and images, about which it
makes promises. The common chains are created and deleted by all. A worker can rely on one of them only while it has a
handle of it. All bytes that are read must be right at any time.
"""

from __future__ import annotations

import io
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Final

TOP: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(TOP))

from layerstore_core import ImageDoesNotExist, LayerDoesNotExist, LayerStore, StoreConfig, chain_id  # noqa: E402
from layerstore_core.base.digests import DiffID  # noqa: E402
from layerstore_core.images import Images  # noqa: E402
from layerstore_core.maintenance.check import check_store, repair  # noqa: E402
from layerstore_core.maintenance.gc import collect_garbage  # noqa: E402
from layerstore_core.store import export as exporting  # noqa: E402
from layerstore_core.tar import scanner  # noqa: E402
from layerstore_core.tree import share  # noqa: E402
from layerstore_core.unpack import runs  # noqa: E402
from tests.images.archives import ImageSpec, docker_archive  # noqa: E402
from tests.reliability.life import Expectation, PromiseLog  # noqa: E402
from tests.reliability.namespace import die_with_parent  # noqa: E402
from tests.store.layers import BASE, MIDDLE, chain, export, names_of, register, tar_of  # noqa: E402
from tests.store.layers import TOP as UPPER  # noqa: E402

#: The message of an assertion that fails: a living process has seen a broken promise.
BROKEN: Final = "broken"


class Worker:
    """The operations of one process.

    Args:
        store: the store.
        log: the log of promises.
        worker: the worker's number. Its own layers and images are named by it.
        chance: the random choice of operations.
        journal: the file with its promises, and those of its predecessors. Archives are written next to it.
    """

    def __init__(self, store: LayerStore, log: PromiseLog, worker: int, chance: random.Random, journal: Path) -> None:
        self._archive = journal.with_suffix(".tar")
        self._store = store
        self._log = log
        self._name = f"worker{worker}"
        self._chance = chance
        self._own = [tar_of({f"{self._name}-{n}": bytes([n]) * 3000}) for n in range(2)]
        many = {f"{self._name}-2/{n % 5}/{n}": b"%d" % n * 200 for n in range(60)}
        self._own.append(tar_of(many))
        self._image = ImageSpec([BASE, self._own[0]], names=[f"{self._name}:1"])
        promised = read_journal(journal)
        pinned = {fact.removeprefix("pin ") for fact in (*promised.certain, *promised.open) if fact.startswith("pin ")}
        fixed = {names_of(BASE, tar)[1] for tar in self._own}
        #: The layers that were committed from its writable layers and pinned.
        self._branches = {str(name) for name in store.pins()} & pinned - fixed

    def work(self, operations: int, done: Callable[[], object]) -> None:
        """Do so many operations, one after another. Call `done` after each."""
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._register_and_pin, 4),
            (self._unpin, 3),
            (self._use_common_chain, 6),
            (self._make_rw, 4),
            (self._delete_rw, 3),
            (self._commit, 2),
            (self._load, 2),
            (self._untag, 2),
            (self._export, 3),
            (self._branch, 2),
            (self._prune, 2),
            (self._tag, 1),
            (self._save, 1),
            (self._collect, 1),
            (self._check, 1),
            (self._repair, 1),
        ]
        for _ in range(operations):
            self._chance.choices([do for do, _ in kinds], [weight for _, weight in kinds])[0]()
            done()

    def _export(self) -> None:
        """Check that the pinned layers exist, and are exported as they were registered."""
        for tar in self._own:
            name = names_of(BASE, tar)[1]
            if name in self._store.pins():
                with self._store.get(name) as layer:
                    assert export(layer) == tar, BROKEN
        for name in self._branches:
            with self._store.get(name) as layer:
                assert DiffID.of(export(layer)) == layer.diff_id, BROKEN

    def _branch(self) -> None:
        """Write into a writable layer, register its changes as a layer, and pin that layer."""
        mine = [name for name in self._store.rw_layers() if name.startswith(f"{self._name}-")]
        if not mine or len(self._branches) > 20:
            return
        with self._store.get_rw_layer(self._chance.choice(mine)) as rw:
            with rw.mounted() as path:
                written = self._chance.randbytes(2000)
                Path(path, f"file{self._chance.randint(0, 9)}").write_bytes(written)
            with rw.tar_stream() as stream:
                tar = stream.read()
            assert written in tar, BROKEN
            assert rw.parent is not None
            parent = rw.parent.chain_id
            name = chain_id(DiffID.of(tar), parent)
            self._log.begin(f"layer {name}", f"pin {name}")
            with register(self._store, tar, parent) as layer:
                self._store.pin(layer)
        self._log.promise(**{f"layer {name}": DiffID.of(tar), f"pin {name}": True})
        self._branches.add(name)

    def _prune(self) -> None:
        if self._branches:
            name = self._chance.choice(sorted(self._branches))
            self._log.begin(f"layer {name}", f"pin {name}")
            self._store.unpin(name)
            self._store.release(self._store.get(name))
            self._log.promise(**{f"pin {name}": None})
            self._branches.remove(name)

    def _tag(self) -> None:
        self._log.begin(f"image {self._name}:2")
        try:
            Images(self._store).tag(self._image.names[0], f"{self._name}:2")
        except ImageDoesNotExist:
            return
        self._log.promise(**{f"image {self._name}:2": self._image.image_id})

    def _save(self) -> None:
        """Check that a saved image can be loaded again, and is the same image."""
        images = Images(self._store)
        name = self._chance.choice([self._image.names[0], f"{self._name}:2"])
        try:
            images.save([name], self._archive, form=self._chance.choice(["docker", "oci"]))
        except ImageDoesNotExist:
            return
        self._log.begin(f"image {name}")
        [image] = images.load(self._archive)
        assert image.image_id == self._image.image_id, BROKEN
        self._log.promise(**{f"image {name}": image.image_id})

    def _repair(self) -> None:
        """Repair the store. Nothing is damaged: all findings are operations in progress, which must not be undone."""
        repair(self._store, check_store(self._store))

    def _register_and_pin(self) -> None:
        tar = self._chance.choice(self._own)
        name = names_of(BASE, tar)[1]
        self._log.begin(f"layer {name}", f"pin {name}")
        base, layer = chain(self._store, BASE, tar)
        self._store.pin(layer)
        base.close()
        layer.close()
        self._log.promise(**{f"layer {name}": DiffID.of(tar), f"pin {name}": True})

    def _unpin(self) -> None:
        name = names_of(BASE, self._chance.choice(self._own))[1]
        self._log.begin(f"layer {name}", f"pin {name}")
        if name in self._store.pins():
            self._store.unpin(name)
        try:
            self._store.release(self._store.get(name))
        except LayerDoesNotExist:
            pass
        # The layer may stay for an image of the same content.
        self._log.promise(**{f"pin {name}": None})

    def _use_common_chain(self) -> None:
        layers = chain(self._store, *(BASE, MIDDLE, UPPER)[: self._chance.randint(1, 3)])
        assert [export(layer) for layer in layers] == [BASE, MIDDLE, UPPER][: len(layers)], BROKEN
        for layer in self._chance.sample(layers, len(layers)):
            if self._chance.random() < 0.5:
                layer.close()
            else:
                self._store.release(layer)

    def _make_rw(self) -> None:
        name = f"{self._name}-{self._chance.randint(0, 2)}"
        if name in self._store.rw_layers():
            with self._store.get_rw_layer(name) as rw, rw.mounted() as path:
                assert Path(path, "init").read_bytes() == b"init", BROKEN
                Path(path, "again").write_bytes(b"again")
            return
        with register(self._store, BASE) as base:
            self._log.begin(f"rw {name}")
            rw = self._store.create_rw_layer(name, base.chain_id, init=_init)
            self._log.promise(**{f"rw {name}": True})
            with rw.mounted() as path:
                Path(path, "new").write_bytes(b"new")
            rw.close()

    def _delete_rw(self) -> None:
        mine = [name for name in self._store.rw_layers() if name.startswith(f"{self._name}-")]
        if mine:
            name = self._chance.choice(mine)
            self._log.begin(f"rw {name}")
            self._store.release_rw_layer(self._store.get_rw_layer(name))
            self._log.promise(**{f"rw {name}": None})

    def _commit(self) -> None:
        for name in self._store.rw_layers():
            if name.startswith(f"{self._name}-"):
                with self._store.get_rw_layer(name) as rw, rw.tar_stream() as stream:
                    tar = stream.read()
                    assert rw.parent is not None
                    layer = register(self._store, tar, rw.parent.chain_id)
                assert export(layer) == tar, BROKEN
                self._store.release(layer)
                return

    def _load(self) -> None:
        top = names_of(*self._image.layers)[1]
        self._log.begin(f"image {self._image.names[0]}", f"layer {top}")
        Images(self._store).load(io.BytesIO(docker_archive(self._image)))
        self._log.promise(
            **{f"image {self._image.names[0]}": self._image.image_id, f"layer {top}": DiffID.of(self._own[0])}
        )

    def _untag(self) -> None:
        top = names_of(*self._image.layers)[1]
        name = self._chance.choice([self._image.names[0], f"{self._name}:2"])
        self._log.begin(f"image {name}", f"layer {top}")
        try:
            Images(self._store).remove(name)
        except ImageDoesNotExist:
            pass
        self._log.promise(**{f"image {name}": None})

    def _collect(self) -> None:
        collect_garbage(self._store)

    def _check(self) -> None:
        check_store(self._store)


def read_journal(journal: Path) -> Expectation:
    """Return the promises in a journal. A line that a kill has cut short promises nothing."""
    promised = Expectation()
    if journal.exists():
        for line in journal.read_bytes().split(b"\n")[:-1]:
            promised.read(line)
    return promised


def operations_in(journal: Path) -> int:
    """Return the number of finished operations."""
    done = journal.with_suffix(".done")
    return done.stat().st_size if done.exists() else 0


def start(root: Path, driver: str, journal: Path, worker: int, seed: int, operations: int, errors: int) -> Popen[bytes]:
    """Start a process of a storm. It dies with this process."""
    arguments = [root, driver, journal, worker, seed, operations]
    return Popen([sys.executable, __file__, *map(str, arguments)], stderr=errors)


def _init(path: str) -> None:
    Path(path, "init").write_bytes(b"init")


def _use_workers_early() -> None:
    """Let workers and threads take part in small layers like these, which would otherwise be finished before that."""
    scanner._RUN_ENTRIES, runs._MAX_DIRECTORIES = 3, 2  # type: ignore[misc]
    share._FIRST_NAMES, share._NAMES = 1, 5  # type: ignore[misc]
    exporting._WORKER_FROM = 1  # type: ignore[misc]


def main(root: str, driver: str, journal: str, worker: str, seed: str, operations: str) -> None:
    """Work until all operations are done, or the process is killed."""
    die_with_parent()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    log, done = (os.open(path, flags, 0o600) for path in (journal, Path(journal).with_suffix(".done")))
    promises = PromiseLog(lambda line: os.write(log, line + b"\n"))
    with LayerStore.open(StoreConfig(root=Path(root), driver=driver, durability="none")) as store:
        chance = random.Random(int(seed))
        if chance.random() < 0.5:
            _use_workers_early()
        one = Worker(store, promises, int(worker), chance, Path(journal))
        one.work(int(operations), lambda: os.write(done, b"."))


if __name__ == "__main__":
    main(*sys.argv[1:])
