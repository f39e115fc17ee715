"""A private containerd: its data, state, sockets, name space and containers belong to the tests and end with them.

Its programs are Debian's: containerd, containerd-shim-runc-v2, ctr and runc. Nothing leaves the machine.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.driver_roots import mounts_below

PATIENCE = 60
#: containerd's own snapshotters that need nothing but a directory.
OWN_SNAPSHOTTERS = ("native", "overlayfs")
#: Plugins that these tests do not use. Some of them look for devices or for other file systems at each start.
_DISABLED = (
    "grpc.v1.cri",
    "snapshotter.v1.aufs",
    "snapshotter.v1.btrfs",
    "snapshotter.v1.devmapper",
    "snapshotter.v1.zfs",
)


@cache
def why_not(*more: str) -> str:
    """Return why no containerd can be started here. Empty if one can. `more` are further programs that a test needs."""
    if os.geteuid() != 0:
        return "containerd needs the rights of root"
    packages = {"ctr": "containerd", "containerd-shim-runc-v2": "containerd", "ctr-remote": "stargz-snapshotter"}
    for program in ("containerd", "ctr", "containerd-shim-runc-v2", "runc", *more):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian's package {packages.get(program, program)})"
    return ""


class CtrFailed(Exception):
    """A call of ctr has failed. Its message has the arguments and what ctr said."""


class Containerd:
    """A containerd that can be killed and started again on the same data.

    Attributes:
        directory: everything of it, but for the sockets of shims, which containerd has below /run.
        name_space: the name space of containerd that `ctr` is told to use. At first it is one that no other containerd
            of the machine has; runc makes control groups of this name.
        snapshotter: what `ctr` is told to use, where a command of it can be told.
    """

    def __init__(self, directory: Path, snapshotter: str, proxies: Mapping[str, Path], *, cri: bool = False) -> None:
        self.directory = directory
        self.snapshotter = snapshotter
        self._groups = self.name_space = f"layerstore-{secrets.token_hex(4)}"
        self._address = directory / "containerd.sock"
        self._config = directory / "config.toml"
        self._log = directory / "containerd.log"
        disabled = [f"io.containerd.{name}" for name in _DISABLED if not (cri and name.endswith("cri"))]
        self._config.write_text(
            f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
            f"disabled_plugins = {json.dumps(disabled)}\n"
            f'[grpc]\naddress = "{self._address}"\n'
            f'[ttrpc]\naddress = "{directory}/ttrpc.sock"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\npath = "{directory}/opt"\n'
            # Collection is as it comes: tests that need one ask for it, see `collect`.
            + f'[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "{snapshotter}"\n' * cri
            + "".join(f'[proxy_plugins.{name}]\ntype = "snapshot"\naddress = "{at}"\n' for name, at in proxies.items())
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Path:
        """The socket that clients connect to."""
        return self._address

    @property
    def data(self) -> Path:
        """The directory with images, their blobs, and the data of containerd's own snapshotters."""
        return self.directory / "root"

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                ["containerd", "--config", self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=without_notify_socket(),
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.log()[-4000:]
            assert time.monotonic() < deadline, f"containerd does not answer: {self.log()[-4000:]}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        command = ["ctr", "--address", self._address, "--connect-timeout", "1s", "version"]
        return self._address.exists() and not subprocess.run(command, check=False, capture_output=True).returncode

    def stop(self) -> None:
        """Stop it as an operator does. Containers go on."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def kill(self) -> None:
        """Kill it. Containers go on."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait()

    def ctr_process(self, *words: str | Path, program: str = "ctr") -> subprocess.Popen[bytes]:
        """Start ctr. The caller waits for it, or kills it."""
        return subprocess.Popen(
            [program, "--address", str(self._address), "--namespace", self.name_space, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def ctr(self, *words: str | Path, program: str = "ctr") -> str:
        """Run ctr. Return its standard output."""
        return self.ctr_bytes(*words, program=program).decode(errors="surrogateescape")

    def ctr_bytes(self, *words: str | Path, program: str = "ctr") -> bytes:
        """Run ctr. Return its standard output.

        Raises:
            CtrFailed: it failed.
        """
        with self.ctr_process(*words, program=program) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said = err.decode(errors="replace") + out.decode(errors="replace")
            raise CtrFailed(f"{program} {' '.join(map(str, words))}: status {process.returncode}: {said.strip()}")
        return out

    def lines(self, *words: str | Path) -> list[str]:
        return self.ctr(*words).splitlines()

    def import_(self, archive: Path) -> None:
        """Import an archive of images, and unpack them."""
        self.ctr("images", "import", "--snapshotter", self.snapshotter, archive)

    def pull(self, name: str) -> None:
        """Pull an image in clear, and unpack it."""
        self.ctr("images", "pull", "--plain-http", "--snapshotter", self.snapshotter, name)

    def pull_process(self, name: str) -> subprocess.Popen[bytes]:
        """Begin to pull an image. The caller waits for the process, or kills it."""
        return self.ctr_process("images", "pull", "--plain-http", "--snapshotter", self.snapshotter, name)

    def pull_with_labels(self, name: str) -> None:
        """Pull an image as clients do that tell the snapshotter which layer they are about to make.

        Debian's ctr 1.6 does not: it fetches all layers first. `Pull` of containerd's library does, which the CRI
        plugin and ctr-remote call; so does ctr of containerd 2.
        """
        words = ("images", "rpull", "--plain-http", "--snapshotter", self.snapshotter, name)
        self.ctr(*words, program="ctr-remote")

    def run(self, image: str, container: str, script: str) -> None:
        """Run a script in a container, and check that it succeeds: `sh -e`.

        Output would not do: ctr 1.6 may end before it has all of it, if the machine is busy.
        """
        words = ("--snapshotter", self.snapshotter, "--rm", image, container)
        self.ctr("run", *words, "/bin/sh", "-ec", script)

    def start_container(self, image: str, container: str) -> None:
        """Start a container that goes on until it is killed."""
        self.ctr("run", "--snapshotter", self.snapshotter, "--detach", image, container, "/bin/sleep", "100000")

    def exec(self, container: str, script: str) -> None:
        """Run a script in a container that goes on, and check that it succeeds: `sh -e`."""
        name = f"exec-{secrets.token_hex(4)}"
        self.ctr("tasks", "exec", "--exec-id", name, container, "/bin/sh", "-ec", script)

    def remove_container(self, container: str) -> None:
        """Kill a container's task if it has one, and remove both."""
        try:
            self.ctr("tasks", "rm", "--force", container)
        except CtrFailed as error:
            if "not found" not in str(error):
                raise
        self.ctr("containers", "rm", container)

    def snapshots(self) -> dict[str, tuple[str, str]]:
        """Return containerd's own list: parents and kinds ("Committed") of snapshots by names."""
        header, *rows = self.lines("snapshots", "--snapshotter", self.snapshotter, "ls")
        parent, kind = header.index("PARENT"), header.index("KIND")
        return {row[:parent].rstrip(): (row[parent:kind].rstrip(), row[kind:].rstrip()) for row in rows}

    def keys(self, kind: str = "") -> set[str]:
        """Return the names of containerd's snapshots, of one kind or of all."""
        return {key for key, (_, its) in self.snapshots().items() if not kind or its == kind}

    def collect(self) -> None:
        """Have containerd's garbage collector run, and wait for it: ctr can only ask for that with something to remove.

        It compares its list with a snapshotter's only if it has removed a snapshot of that since the last time. What
        was left when the snapshotter was away stays until then.
        """
        words = ("snapshots", "--snapshotter", self.snapshotter)
        self.ctr("leases", "create", "--id", "collect")
        self.ctr(*words, "prepare", "collect")
        self.ctr(*words, "rm", "collect")
        self.ctr("leases", "rm", "--sync", "collect")

    def remove_all_images(self) -> None:
        """Remove the names of all images, and what only they kept."""
        if names := self.lines("images", "ls", "--quiet"):
            self.ctr("images", "rm", "--sync", *names)

    def clear(self) -> None:
        """Remove all containers, and the leases of clients that were killed, which else hold for a day."""
        for container in self.lines("containers", "ls", "--quiet"):
            self.remove_container(container)
        if leases := self.lines("leases", "ls", "--quiet"):
            self.ctr("leases", "rm", *leases)

    def processes(self) -> list[str]:
        """Return the command lines of processes that belong to it: shims, and what runs in containers."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                groups = (entry / "cgroup").read_text()
            except OSError:  # it has ended
                continue
            shim = "containerd-shim" in words and str(self._address) in words
            if shim or f"/{self._groups}/" in groups:
                found.append(f"{entry.name}: {words or 'a kernel thread or a process that ends'}")
        return found

    def mounts(self) -> list[str]:
        """Return the mount points below its directory."""
        return mounts_below(self.directory)

    def destroy(self) -> None:
        """Kill everything of it, and unmount what is left. For the end of a test, whether it has failed or not."""
        self.kill()
        for _ in range(200):
            running = [int(line.partition(":")[0]) for line in self.processes()]
            for number in running:
                try:
                    os.kill(number, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if not running:
                break
            time.sleep(0.02)
        for point in self.mounts():
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
        for controller in Path("/sys/fs/cgroup").glob(f"**/{self._groups}"):
            for group in [*controller.glob("*/"), controller]:
                try:
                    group.rmdir()
                except OSError:
                    pass


def without_notify_socket() -> dict[str, str]:
    """Return the environment without systemd's socket, to which a daemon in a test would report."""
    return {
        name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "CONTAINERD_SNAPSHOTTER")
    }


@contextmanager
def containerd(
    snapshotter: str, proxies: Mapping[str, Path] | None = None, *, cri: bool = False
) -> Iterator[Containerd]:
    """Run a containerd for the length of a `with` block. Afterwards nothing of it runs or is mounted."""
    # A socket's path may have at most 107 bytes. pytest's directories are longer.
    directory = Path(tempfile.mkdtemp(prefix="layerstore-ctr-"))
    engine = Containerd(directory, snapshotter, proxies or {}, cri=cri)
    try:
        engine.start()
        yield engine
    finally:
        engine.destroy()
        shutil.rmtree(directory)
