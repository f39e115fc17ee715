"""Killed processes, at random and at every step in turn: no promise is broken, and nothing stale is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.conformance.instruments.audit_events import Steps
from tests.driver_roots import remove_root
from tests.in_gate import in_gate
from tests.reliability import storm
from tests.reliability.aftermath import examine
from tests.reliability.figures import note
from tests.reliability.life import Expectation, PromiseLog, use_store
from tests.reliability.thorough import SEED, THOROUGH

pytestmark = pytest.mark.timeout(3600 if THOROUGH else 300)

WORKERS = 8 if THOROUGH else 4
OPERATIONS = 500 if THOROUGH else 20
KILLS = 400 if THOROUGH else 8


@pytest.mark.parametrize("driver", in_gate("overlay2"), indirect=True)
def test_random_kills(store_root, driver, tmp_path):
    """Processes are killed at random and replaced. Those that live at the end have done all their work."""
    chance = random.Random(SEED)
    journals = [tmp_path / f"journal{worker}" for worker in range(WORKERS)]
    errors = open(tmp_path / "errors", "w+b")  # noqa: SIM115
    store_root.parent.mkdir(exist_ok=True)

    def start(worker):
        seed = chance.randrange(1 << 30)
        return storm.start(store_root, driver, journals[worker], worker, seed, OPERATIONS, errors.fileno())

    running = [start(worker) for worker in range(WORKERS)]
    killed = 0
    try:
        while killed < KILLS or any(process.poll() is None for process in running):
            time.sleep(chance.uniform(0.1, 0.5))
            worker = chance.randrange(WORKERS)
            if killed < KILLS:  # a process that has done all its work is replaced too
                killed += running[worker].poll() is None
                running[worker].kill()
                if running[worker].wait() > 0:
                    break
                running[worker] = start(worker)
    finally:
        for process in running:
            process.kill()
            process.wait()
        errors.seek(0)
        output = errors.read().decode()
        errors.close()
    assert [process.returncode for process in running] == [0] * WORKERS, output

    promised = Expectation()
    for journal in journals:
        of_one = storm.read_journal(journal)
        promised.certain.update(of_one.certain)
        promised.open.update(of_one.open)
    lost, damaged = examine(StoreConfig(root=store_root, driver=driver, durability="none"), promised)
    operations = sum(map(storm.operations_in, journals))
    note(f"kill storm: {driver}", killed, len(lost) + len(damaged), operations)
    assert lost == []
    assert damaged == []


class TestAtEachStep:
    """The same operations again and again, killed before another step each time."""

    @staticmethod
    def use_store_until(config: StoreConfig, journal: Path, last: int | None) -> int:
        """Use a store in a child process. Return the number of its steps, 0 if it was killed."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                log = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                with LayerStore.open(config) as store:
                    steps = Steps(last)
                    use_store(store, PromiseLog(lambda line: os.write(log, line + b"\n")))
                os.write(writer, str(steps.count).encode())
                status = 0
            except BaseException as error:
                os.write(2, f"the child raised {error!r}\n".encode())
            finally:
                os._exit(status)
        os.close(writer)
        try:
            with os.fdopen(reader, "rb") as pipe:
                count = pipe.read()
        finally:
            status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return 0
        assert os.waitstatus_to_exitcode(status) == 0
        return int(count)

    def test_kills_at_each_step(self, store_root, driver, tmp_path):
        """In the short form, at 15 steps, which are other ones with each driver; in the thorough form, at all."""
        journal = tmp_path / "journal"
        config = StoreConfig(root=store_root, driver=driver, durability="none")
        store_root.parent.mkdir(exist_ok=True)
        total = self.use_store_until(config, journal, None)
        assert total > 300
        steps = range(1, total) if THOROUGH else sorted(random.Random(f"{SEED} {driver}").sample(range(1, total), 15))
        losses = 0
        for step in steps:
            remove_root(store_root)
            journal.unlink(missing_ok=True)
            # The order of threads varies, so another run may have a few steps more or less.
            self.use_store_until(config, journal, step)
            lost, damaged = examine(config, storm.read_journal(journal))
            losses += len(lost) + len(damaged)
            assert (lost, damaged) == ([], []), f"killed before step {step} of {total}"
        note(f"killed at each step: {driver}", len(steps), losses)


def test_steps_kill_the_process(tmp_path):
    """Without this, the other tests would prove nothing."""
    child = os.fork()
    if not child:
        Steps(3)
        for number in range(5):
            (tmp_path / str(number)).mkdir()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status)
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]
    shutil.rmtree(tmp_path)
