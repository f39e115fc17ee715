"""Clients of containerd, commands of the store and kills, all at once, for as long as you like.

    python -m bridges.containerd.tests.real.storm MINUTES [--driver NAME] [--seed NUMBER] [--kill-containerd]

Clients pull images with ctr and with ctr-remote, run them, compare all files with their sums in the container, write
into containers that stay, read that again, and remove containers and images. Meanwhile commands of the store register
layers on layers of these images, pull the same images, remove both, and collect garbage; and the server is killed every
few seconds, with --kill-containerd containerd now and then. A call may fail if the server or containerd was away in its
time. Every other failure is a loss: so is a wrong sum, a file that a container has lost, a finding of `layerstore check
--full`, a difference between the lists of both sides. At the end everything is removed: then there may be no mount, no
process and no layer left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bridges.containerd.tests.real import images
from bridges.containerd.tests.real.bridge import Bridge, bridge
from bridges.containerd.tests.real.engine import CtrFailed
from bridges.containerd.tests.real.server import StoreFailed
from tests import tars
from tests.driver_roots import DRIVERS, btrfs_file_system, mounts_below
from tests.registry.servers import docker_registry
from tests.registry.skopeo import copy_in

CLIENTS = 4
IMAGES = 9
#: containerd dials a socket again after up to 3 s.
_DIAL = 4.0
#: What a command of the store may say: another one was quicker, or a snapshot or an image needs the layer.
_REFUSED = re.compile(
    r"snapshot|in use|does not exist|no layer|no image|needed|child|is used|there is no|unknown|another process",
    re.IGNORECASE,
)


class Storm:
    """All that goes on, and what came of it."""

    def __init__(self, running: Bridge, host: str, directory: Path, seed: int, *, kill_containerd: bool) -> None:
        self.bridge = running
        self.kill_containerd = kill_containerd
        self.host = host
        self.directory = directory
        self.seed = seed
        self.done: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.losses: list[str] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        #: Times in which the server or containerd was away: from, and to, or `None` as long as it is.
        self._away: list[tuple[float, float | None]] = []

    # What happens

    def commands(self, number: int) -> None:
        """Register layers on those of images, pull images, remove both, and collect garbage."""
        chance = random.Random(f"{self.seed} store {number}")
        registered: list[str] = []
        path = self.directory / f"layer-{number}.tar"
        while not self.ending.is_set():
            what = chance.choice(("register", "register", "rm", "pull", "rmi", "gc", "check", "ls"))
            name = f"{self.host}/storm-{chance.randrange(IMAGES)}:store"
            if what == "register":
                data = {b"f%d" % n: chance.randbytes(chance.randrange(30_000)) for n in range(chance.randrange(1, 60))}
                path.write_bytes(tars.tar(*(tars.entry(key, value) for key, value in data.items())))
                layers = self._store("ls", "ls", "--quiet") if chance.random() < 0.7 else ""
                parent = ("--parent", chance.choice(layers.split())) if layers and layers.split() else ()
                if chain := self._store("register", "register", path, *parent):
                    registered.append(chain.strip())
            elif what == "rm" and registered:
                self._store("rm", "rm", registered.pop(chance.randrange(len(registered))))
            elif what == "pull":
                self._store("store pull", "pull", "--quiet", name)
            elif what == "rmi":
                self._store("rmi", "rmi", name)
            elif what in ("gc", "ls"):
                self._store(what, what)
            elif what == "check":
                self._store("check", "check")

    def _store(self, what: str, *words: str | Path) -> str:
        """Run a command of the store. It may be refused, and it never has to wait for the server."""
        began = time.monotonic()
        try:
            out = self.bridge.server.store(*words)
        except StoreFailed as error:
            refused = what not in ("check", "gc", "ls") and _REFUSED.search(str(error))
            # What a killed server was doing is a finding until the next one has finished it.
            refused = refused or ("unfinished-snapshot" in str(error) and self._was_away(began))
            self._count(self.excused if refused else self.done, f"{what} refused" if refused else f"{what} failed")
            if not refused:
                self._lost(what, str(error))
            return ""
        self._count(self.done, what)
        return out

    def kills(self) -> None:
        """Kill the server every few seconds, and containerd now and then; start them again."""
        chance = random.Random(f"{self.seed} kills")
        while not self.ending.wait(chance.uniform(4, 20)):
            both = self.kill_containerd and chance.random() < 0.2
            with self._outage():
                self.bridge.server.kill()
                self._count(self.done, "kills of the server")
                if both:
                    self.bridge.containerd.kill()
                    self._count(self.done, "kills of containerd")
                time.sleep(chance.choice((0, 0, 0.2, 1.5)))
                self.bridge.server.start()
                if both:
                    self.bridge.containerd.start()
                time.sleep(_DIAL)

    # What came of it

    def attempt(self, what: str, action: Callable[[], object]) -> bool:
        """Do something, and count it. Return whether it was done."""
        began = time.monotonic()
        try:
            action()
        except CtrFailed as error:
            if self._was_away(began):
                self._count(self.excused, f"{what} during an outage")
                time.sleep(0.5)
            else:
                self._lost(what, str(error))
            return False
        self._count(self.done, what)
        return True

    @contextlib.contextmanager
    def _outage(self) -> Iterator[None]:
        began = time.monotonic()
        with self._lock:
            self._away.append((began, None))
        yield
        with self._lock:
            self._away[-1] = (began, time.monotonic())

    def _was_away(self, since: float) -> bool:
        """Return whether the server or containerd was away at any time since then."""
        with self._lock:
            return any(end is None or end >= since for _, end in self._away)

    def _count(self, where: Counter[str], what: str) -> None:
        with self._lock:
            where[what] += 1

    def _lost(self, what: str, why: str) -> None:
        with self._lock:
            self.losses.append(f"{what}: {why}")
        print(f"LOSS {what}: {why}", file=sys.stderr, flush=True)

    def rage(self, minutes: float) -> None:
        """Have all of it go on for some minutes."""
        works: list[Callable[[], None]] = [Client(self, number).go_on for number in range(CLIENTS)]
        works += [partial(self.commands, number) for number in range(2)]
        works.append(self.kills)
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60 * minutes
        while time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
            time.sleep(1)
        self.ending.set()
        for thread in threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._lost("a part of the storm ended", repr(error))

    def settle(self) -> dict[str, object]:
        """Compare both sides, check the store, remove everything, and return the figures."""
        running = self.bridge
        for what, action in (
            ("lists", running.check_lists),
            ("check", running.check_store),
            ("contents", self._look_at_all),
            ("what is left", lambda: running.check_empty(of_store=True)),
        ):
            try:
                action()
            except Exception as error:
                self._lost(what, "".join(traceback.format_exception(error)))
        return {
            "done": dict(sorted(self.done.items())),
            "excused": dict(sorted(self.excused.items())),
            "losses": len(self.losses),
            "what was lost": self.losses[:20],
            "leaked mounts": len(mounts_below(running.server.root)) + len(running.containerd.mounts()),
            "processes left": running.containerd.processes(),
        }

    def _look_at_all(self) -> None:
        """Read in each container that runs what was written there."""
        containerd = self.bridge.containerd
        running = [line.split()[0] for line in containerd.lines("tasks", "ls")[1:] if "RUNNING" in line]
        for container in running:
            # Its name may not be there, if it was started in an outage.
            containerd.exec(container, f'md5sum -c -s /sums; test ! -s /own -o "$(cat /own)" = {container}')


class Client:
    """A client of containerd: it pulls, runs, writes, reads and removes, in an order of its own."""

    def __init__(self, storm: Storm, number: int) -> None:
        self._storm = storm
        self._number = number
        self._containerd = storm.bridge.containerd
        self._chance = random.Random(f"{storm.seed} client {number}")
        self._pulled: dict[str, int] = {}
        self._staying: list[str] = []
        self._serial = 0

    def go_on(self) -> None:
        """Go on until the storm ends."""
        works = (self.pull, self.run, self.run, self.run, self.stay, self.look, self.look, self.leave, self.untag)
        while not self._storm.ending.is_set():
            self._serial += 1
            work = self._chance.choice(works) if self._pulled else self.pull
            work()

    def pull(self) -> None:
        """Pull an image, or pull it again, with or without telling the server which layers it is about to make."""
        which = self._chance.randrange(IMAGES)
        name = f"{self._storm.host}/storm-{which}:{self._number}"
        what, pull = self._chance.choice(
            (("pull", self._containerd.pull), ("pull with labels", self._containerd.pull_with_labels))
        )
        if self._storm.attempt(what, partial(pull, name)):
            self._pulled[name] = which

    def run(self) -> None:
        """Run a container that compares all of its files with their sums."""
        name, which = self._chance.choice(list(self._pulled.items()))
        script = f'md5sum -c -s /sums; test "$(cat /id)" = {which}'
        self._storm.attempt("run", partial(self._containerd.run, name, f"c{self._number}-{self._serial}", script))

    def stay(self) -> None:
        """Start a container that goes on, and write its name into it."""
        if len(self._staying) >= 3:
            return
        name, container = self._chance.choice(list(self._pulled)), f"c{self._number}-{self._serial}"

        def start() -> None:
            self._containerd.start_container(name, container)
            self._containerd.exec(container, f"echo {container} >/own")

        if self._storm.attempt("stay", start):
            self._staying.append(container)
        else:
            self._remove(container)

    def look(self) -> None:
        """Read what was written into a container that has gone on, and compare all of its files."""
        if self._staying:
            container = self._chance.choice(self._staying)
            script = f'md5sum -c -s /sums; test "$(cat /own)" = {container}'
            self._storm.attempt("look", partial(self._containerd.exec, container, script))

    def leave(self) -> None:
        """Remove a container that has gone on."""
        if self._staying:
            container = self._staying.pop(self._chance.randrange(len(self._staying)))
            self._storm.attempt("leave", partial(self._containerd.remove_container, container))

    def untag(self) -> None:
        """Remove an image, and wait for the collector or not."""
        name = self._chance.choice(list(self._pulled))
        del self._pulled[name]
        sync = self._chance.choice(((), ("--sync",)))
        self._storm.attempt("untag", partial(self._containerd.ctr, "images", "rm", *sync, name))

    def _remove(self, container: str) -> None:
        """Remove a container that may be half there. What cannot be removed now is removed at the end."""
        with contextlib.suppress(CtrFailed):
            self._containerd.remove_container(container)


def main() -> None:
    """Let it rage, and print the figures as JSON. The status is 1 if something is lost or left."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("minutes", type=float)
    parser.add_argument("--driver", choices=DRIVERS, default="overlay2")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kill-containerd", action="store_true", help="now and then, containerd is killed as well")
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="layerstore-storm-")))
        root = directory / "store"
        if arguments.driver == "btrfs":
            root = stack.enter_context(btrfs_file_system()) / "store"
        host = stack.enter_context(docker_registry(directory / "registry")).host
        for number in range(IMAGES):
            layout = images.image_layout(directory / "layout", images.summed(number, "storm"))
            for tag in ("store", *map(str, range(CLIENTS))):
                copy_in(layout, f"{host}/storm-{number}:{tag}")
        running = stack.enter_context(bridge(arguments.driver, root))
        storm = Storm(running, host, directory, seed, kill_containerd=arguments.kill_containerd)
        storm.rage(arguments.minutes)
        figures = {"driver": arguments.driver, "minutes": arguments.minutes, "seed": seed, **storm.settle()}
        print(json.dumps(figures, indent=1))
        if storm.losses:
            print(running.server.log()[-6000:], file=sys.stderr)
    sys.exit(bool(storm.losses or figures["leaked mounts"] or figures["processes left"]))


if __name__ == "__main__":
    main()
