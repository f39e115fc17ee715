"""`python -m benchmarks.engines`: pull and run through ctr, with containerd's overlayfs snapshotter and with ours.

One containerd has both: its own, and `layerstore-snapshotter` with the driver overlay2. In each round both do each
piece of work once, in turn. The processor's time is that of ctr, of containerd and of our server; shims and runc do the
same for both. Only as root.

    python -m benchmarks.engines --work /var/tmp --rounds 5 --output engines.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import inputs
from benchmarks.contests.registries import Packed, put_image
from benchmarks.daemons import containerd_daemon, registry
from benchmarks.measuring import Measured, Run, ratio

OWN: Final = "overlayfs"
OURS: Final = "layerstore"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_BUSYBOX: Final = Path("/bin/busybox")
_PAUSE, _TRIES = 0.1, 200


class Engine:
    """A containerd with both snapshotters, and what they are measured by."""

    def __init__(self, ctr: list[str], host: str, server: int, image: str) -> None:
        self._ctr = ctr
        self._image = f"{host}/{image}"
        self._processes = (_pid_of("containerd", ctr[2]), server)
        self._serial = 0

    def ctr(self, *words: str) -> None:
        """Run ctr."""
        subprocess.run([*self._ctr, *words], check=True, capture_output=True)

    def measured(self, action: Callable[[], object]) -> Run:
        """Do something, and return what it has cost."""
        before, ticks = resource.getrusage(resource.RUSAGE_CHILDREN), self._ticks()
        began = time.perf_counter()
        action()
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(seconds, own + (self._ticks() - ticks) / _TICKS, 0)

    def _ticks(self) -> int:
        """Return the processor's time of the daemons so far, with that of children that have ended."""
        total = 0
        for process in self._processes:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
        return total

    def pull(self, snapshotter: str) -> None:
        """Pull the image, and unpack it."""
        self.ctr("images", "pull", "--plain-http", "--snapshotter", snapshotter, self._image)

    def run(self, snapshotter: str, times: int) -> None:
        """Run a container that ends at once, some times."""
        for _ in range(times):
            self._serial += 1
            self.ctr("run", "--rm", "--snapshotter", snapshotter, self._image, f"c{self._serial}", "/bin/true")

    def forget(self) -> None:
        """Remove the image, with its blobs and its snapshots."""
        self.ctr("images", "rm", "--sync", self._image)


def main() -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description="Pull and run through ctr: containerd's own snapshotter, and ours.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=12_000, help="small files of the image, in 7 layers")
    parser.add_argument("--megabytes", type=int, default=120, help="large files of the image, in one layer")
    parser.add_argument("--runs", type=int, default=10, help="containers in each measured run")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    if os.geteuid() or not _BUSYBOX.exists():
        sys.exit("this needs root, containerd, docker-registry and a static /bin/busybox")
    works = {
        "pull": {OWN: Measured("fetch, unpack, commit"), OURS: Measured("the same")},
        "run": {OWN: Measured("prepare, mount, run, remove"), OURS: Measured("the same")},
    }
    with engine(arguments.work, arguments.entries, arguments.megabytes << 20) as one:
        for name in (OWN, OURS):  # what is loaded at the first use is not measured
            one.pull(name)
            one.run(name, 1)
            one.forget()
        for number in range(arguments.rounds):
            order = (OWN, OURS) if number % 2 == 0 else (OURS, OWN)
            for name in order:
                print(f"round {number + 1} of {arguments.rounds}: {name}", file=sys.stderr)
                works["pull"][name].runs.append(one.measured(partial(one.pull, name)))
                works["run"][name].runs.append(one.measured(partial(one.run, name, arguments.runs)))
                one.forget()
    print("\n".join(table(works)))
    if arguments.output is not None:
        figures = {work: {name: found.as_json() for name, found in both.items()} for work, both in works.items()}
        sizes = {"entries": arguments.entries, "megabytes": arguments.megabytes, "runs": arguments.runs}
        arguments.output.write_text(json.dumps({"sizes": sizes, "work": figures}, indent=1) + "\n")


def table(works: dict[str, dict[str, Measured]]) -> Iterator[str]:
    """Yield the lines of the figures: medians, and the ratios of single rounds."""
    yield f"{'':24} {'s':>8} {'processor s':>12}  ratio (least to most), ratio of processor time"
    for work, both in works.items():
        for name, found in both.items():
            runs = [run for run in found.runs if run is not None]
            processor = sorted(run.processor for run in runs)[len(runs) // 2]
            wall = ratio(found.seconds, both[OWN].seconds)
            cpu = ratio([run.processor for run in runs], [run.processor for run in both[OWN].runs if run is not None])
            assert wall is not None
            assert cpu is not None
            ratios = f"{wall.median:.2f} ({wall.least:.2f} to {wall.most:.2f}), {cpu.median:.2f}"
            yield f"{work + ' ' + name:24} {found.median:8.2f} {processor:12.2f}  {ratios}"


@contextmanager
def engine(place: Path, entries: int, large: int) -> Iterator[Engine]:
    """Start a registry with the image, our server, and a containerd."""
    with ExitStack() as stack:
        work = stack.enter_context(short_directory(place))
        host = stack.enter_context(registry(work))
        if host is None:
            sys.exit("docker-registry is not installed")
        put_image(host, "image:1", _layers(work, entries, large))
        ctr, server, _ = stack.enter_context(both(work))
        yield Engine(ctr, host, server, "image:1")


@contextmanager
def short_directory(place: Path) -> Iterator[Path]:
    """Make a directory with a short name for the length of a `with` block: a socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(dir=place, prefix="lsb-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def both(work: Path) -> Iterator[tuple[list[str], int, Path]]:
    """Start our server and a containerd. Yield the command line of ctr, and the server's process and its socket."""
    with ExitStack() as stack:
        address = work / "s.sock"
        program = Path(sys.executable).with_name("layerstore-snapshotter")
        options = ["--root", str(work / "store"), "--driver", "overlay2", "--address", str(address)]
        log = stack.enter_context((work / "server.log").open("wb"))
        server = stack.enter_context(subprocess.Popen([program, *options], stdout=log, stderr=log))
        stack.callback(server.terminate)
        for _ in range(_TRIES):
            if address.exists():
                break
            time.sleep(_PAUSE)
        ctr = stack.enter_context(containerd_daemon(work, {OURS: address}))
        if ctr is None:
            sys.exit("containerd is not installed, or does not start")
        yield ctr, server.pid, address


def _layers(work: Path, entries: int, large: int) -> list[Packed]:
    """Return layers as of an application: a base, some of small files, one of large files, and a small one on top."""
    plains = []
    for number, part in enumerate((2, 4, 4, 4, 4, 1, 1)):
        plains.append(work / f"small-{number}.tar")
        inputs.small_files(plains[-1], entries * part // 20, start=100 * number)
    base = work / "base.tar"
    with tarfile.open(base, "w") as tar:
        for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
        tar.add(_BUSYBOX, "bin/busybox")
        link = tarfile.TarInfo("bin/true")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    found = []
    for plain in (base, *plains):
        packed = plain.with_suffix(".tar.gz")
        inputs.compress(plain, packed)
        found.append(Packed(packed, inputs.digest_of(packed), inputs.digest_of(plain)))
        plain.unlink()
    big, packed = work / "large.tar", work / "large.tar.gz"
    inputs.large_files(big, packed, large)
    found.append(Packed(packed, inputs.digest_of(packed), inputs.digest_of(big)))
    big.unlink()
    return found


def _pid_of(program: str, address: str) -> int:
    """Return the process of a daemon of which a socket is below a directory."""
    home = str(Path(address).parent)
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].decode(errors="replace").endswith(program) and f"{home}.toml".encode() in words:
            return int(entry.name)
    raise RuntimeError(f"no process of {program} for {address}")


if __name__ == "__main__":
    main()
