"""`python -m benchmarks.fleet`: ten hosts pull one image through a mirror, lose the network, and lose the mirror.

Each host is a network namespace with a root of its own and a link of limited rate. The origin is Debian's
docker-registry; the mirror is nginx, whose cache lock lets one request for a piece go upstream while the others wait.
It needs root, iproute2, docker-registry and nginx. Every scene is checked: the program fails if a pull fails, or if the
origin has sent more than it must.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import inputs
from benchmarks.contenders import environment
from benchmarks.contests.registries import Packed, put_image

_BRIDGE: Final = "lsfleet"
_NETWORK: Final = "10.213.7"
_ORIGIN: Final = f"{_NETWORK}.1:5000"
_MIRROR: Final = f"{_NETWORK}.1:5001"
_IMAGE: Final = "fleet/app:1"
_SENT = re.compile(r'"GET (/v2/\S+/blobs/\S+) HTTP/1\.[01]" 20[06] (\d+)')
_TRIES, _PAUSE = 100, 0.1
#: What a host may receive, as a multiple of the image: headers, what is sent again, and what is cut off.
_ALLOWED: Final = 1.25


@dataclass(frozen=True)
class Scene:
    """What was seen while all hosts pulled.

    Attributes:
        name: what happened.
        fastest: the seconds of the shortest pull, from the start of all.
        slowest: those of the longest one.
        sent: the bytes of blobs that the origin has sent.
        received: the most bytes that one host has received, with all headers.
        size: the bytes of all blobs of the image.
    """

    name: str
    fastest: float
    slowest: float
    sent: int
    received: int
    size: int


class Fleet:
    """Hosts with a link each, an origin and a mirror.

    Args:
        work: a directory on a fast file system.
        hosts: the number of hosts.
        rate: the rate of each host's link, as `tc` takes it.
    """

    def __init__(self, work: Path, hosts: int, rate: str) -> None:
        self.work = work
        self.rate = rate
        self.names = [f"lsfleet{number}" for number in range(hosts)]

    @contextmanager
    def network(self) -> Iterator[None]:
        """Make the bridge, the namespaces and their links; remove them at the end."""
        with ExitStack() as undo:
            _ip("link", "add", _BRIDGE, "type", "bridge")
            undo.callback(_ip, "link", "del", _BRIDGE)
            _ip("addr", "add", f"{_NETWORK}.1/24", "dev", _BRIDGE)
            _ip("link", "set", _BRIDGE, "up")
            for number, name in enumerate(self.names):
                _ip("netns", "add", name)
                undo.callback(_ip, "netns", "del", name)
                _ip("link", "add", f"{name}o", "type", "veth", "peer", "name", "eth0", "netns", name)
                _ip("link", "set", f"{name}o", "master", _BRIDGE, "up")
                _ip("-n", name, "addr", "add", f"{_NETWORK}.{number + 10}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
                _ip("-n", name, "link", "set", "lo", "up")
                limit = ["tbf", "rate", self.rate, "burst", "256k", "latency", "50ms"]
                _run(["tc", "qdisc", "add", "dev", f"{name}o", "root", *limit])
            yield

    @contextmanager
    def origin(self) -> Iterator[Path]:
        """Start the origin; yield its log."""
        config, log = self.work / "origin.yml", self.work / "origin.log"
        config.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.work}/origin}}}}\nhttp: {{addr: '{_ORIGIN}'}}\n"
        )
        with log.open("wb") as out:
            server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=out, stderr=out)
            try:
                _wait_for(f"http://{_ORIGIN}/v2/")
                yield log
            finally:
                server.terminate()
                server.wait()

    @contextmanager
    def mirror(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the mirror with an empty cache."""
        home = self.work / "mirror"
        home.mkdir()
        config = home / "nginx.conf"
        config.write_text(MIRROR.format(home=home, mirror=_MIRROR, origin=_ORIGIN))
        server = subprocess.Popen(["nginx", "-c", str(config), "-p", str(home), "-e", str(home / "error.log")])
        try:
            _wait_for(f"http://{_MIRROR}/v2/")
            yield server
        finally:
            server.terminate()
            server.wait()
            shutil.rmtree(home)

    def received(self) -> list[int]:
        """Return the bytes that each host has received since the start."""
        links = (Path("/sys/class/net") / f"{name}o" / "statistics" / "tx_bytes" for name in self.names)
        return [int(link.read_text()) for link in links]

    def pulls(self, scene: str) -> list[subprocess.Popen[bytes]]:
        """Start a pull into a new root on each host."""
        started = []
        for name in self.names:
            root = self.work / scene / name
            root.mkdir(parents=True)
            config = root / "layerstore.toml"
            config.write_text(CONFIG.format(root=root / "store", origin=_ORIGIN, mirror=_MIRROR))
            command = ["ip", "netns", "exec", name, sys.executable, "-m", "layerstore_core", "--config", str(config)]
            with (root / "log").open("wb") as log:
                pull = [*command, "pull", f"{_ORIGIN}/{_IMAGE}"]
                started.append(subprocess.Popen(pull, stdout=log, stderr=log, env=environment()))
        return started


#: The mirror: pieces of blobs are fetched once and kept; what is asked for by a tag is asked for each time.
MIRROR: Final = """\
daemon off;
master_process off;
user root;
pid {home}/pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/temp;
    proxy_cache_path {home}/cache levels=1:2 keys_zone=blobs:10m max_size=20g inactive=30d use_temp_path=off;
    server {{
        listen {mirror};
        location ~ ^/v2/.+/blobs/sha256: {{
            slice 4m;
            proxy_pass http://{origin};
            proxy_http_version 1.1;
            proxy_set_header Range $slice_range;
            proxy_cache blobs;
            proxy_cache_key $uri$slice_range;
            proxy_cache_valid 200 206 30d;
            proxy_cache_lock on;
            proxy_cache_lock_age 5m;
            proxy_cache_lock_timeout 5m;
        }}
        location / {{ proxy_pass http://{origin}; }}
    }}
}}
"""
CONFIG: Final = """\
root = "{root}"
driver = "vfs"

[registries."{origin}"]
plain_http = true
mirrors = ["http://{mirror}"]
"""


def sent(log: Path) -> int:
    """Return the bytes of blobs that the origin has sent."""
    return sum(int(size) for _, size in _SENT.findall(log.read_text(errors="replace")))


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _wait_for(url: str) -> None:
    for _ in range(_TRIES):
        if subprocess.run(["curl", "-sSf", url], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(_PAUSE)
    raise SystemExit(f"{url} does not answer")


def together(fleet: Fleet, log: Path, size: int) -> Scene:
    """All hosts pull at once, and the mirror has nothing: the origin must send each blob once."""
    with fleet.mirror():
        return _scene(fleet, "all at once, the mirror is empty", log, size, lambda _: None)


def cut_off(fleet: Fleet, log: Path, size: int) -> Scene:
    """One host is without a network for ten seconds, in the middle of its pull."""

    def cut(_: list[subprocess.Popen[bytes]]) -> None:
        time.sleep(2)
        _ip("link", "set", f"{fleet.names[0]}o", "down")
        time.sleep(10)
        _ip("link", "set", f"{fleet.names[0]}o", "up")

    with fleet.mirror():
        return _scene(fleet, "one host is cut off for 10 s", log, size, cut)


def without_mirror(fleet: Fleet, log: Path, size: int) -> Scene:
    """The mirror is killed in the middle of all pulls: the origin serves what is missing."""
    with fleet.mirror() as mirror:

        def kill(_: list[subprocess.Popen[bytes]]) -> None:
            time.sleep(2)
            mirror.kill()

        return _scene(fleet, "the mirror is killed", log, size, kill)


def _scene(
    fleet: Fleet, name: str, log: Path, size: int, meanwhile: Callable[[list[subprocess.Popen[bytes]]], None]
) -> Scene:
    place = re.sub("[^a-z]+", "-", name)
    before, received, begun = sent(log), fleet.received(), time.monotonic()
    pulls = fleet.pulls(place)
    meanwhile(pulls)
    ended: dict[int, float] = {}
    while len(ended) < len(pulls):
        for number, pull in enumerate(pulls):
            if number not in ended and pull.poll() is not None:
                ended[number] = time.monotonic() - begun
        time.sleep(0.02)
    for host, pull in zip(fleet.names, pulls, strict=True):
        if pull.returncode:
            raise SystemExit(f"{name}: the pull of {host} fails: {(fleet.work / place / host / 'log').read_text()}")
        _check(fleet.work / place / host / "layerstore.toml")
    shutil.rmtree(fleet.work / place)
    most = max(now - then for now, then in zip(fleet.received(), received, strict=True))
    return Scene(name, min(ended.values()), max(ended.values()), sent(log) - before, most, size)


def _check(config: Path) -> None:
    command = [sys.executable, "-m", "layerstore_core", "--config", str(config), "check", "--full"]
    subprocess.run(command, check=True, capture_output=True, env=environment())


def main() -> None:
    """Play all scenes, print a table, and fail if the origin has sent more than once what a mirror holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--hosts", type=int, default=10, help="number of hosts [%(default)s]")
    parser.add_argument("--rate", default="200mbit", help="rate of each host's link [%(default)s]")
    parser.add_argument("--entries", type=int, default=3_000, help="small files of the image [%(default)s]")
    parser.add_argument("--bytes", type=int, default=300_000_000, help="bytes of its large files [%(default)s]")
    parser.add_argument("--work", default="/dev/shm", help="directory for all files [%(default)s]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layerstore-fleet-", dir=options.work) as at:
        fleet = Fleet(Path(at), options.hosts, options.rate)
        with fleet.network(), fleet.origin() as log:
            size = _publish(Path(at), options.entries, options.bytes)
            scenes = [play(fleet, log, size) for play in (together, cut_off, without_mirror)]
    print(f"{options.hosts} hosts at {options.rate}, {size / 1e6:.0f} MB in three blobs")
    for scene in scenes:
        print(
            f"{scene.name:36} {scene.fastest:6.1f} to {scene.slowest:6.1f} s   "
            f"the origin sent {scene.sent / size:5.2f} x the image, a host received {scene.received / size:.2f} x"
        )
    if max(scene.sent for scene in scenes[:2]) > 1.01 * size:
        raise SystemExit("the origin sent a blob more than once, though the mirror was there")
    if max(scene.received for scene in scenes) > _ALLOWED * size:
        raise SystemExit("a host fetched again what it had received")


def _publish(work: Path, entries: int, large: int) -> int:
    """Upload the image; return the bytes of its layers."""
    layers = []
    for number in range(2):
        plain, packed = work / f"{number}.tar", work / f"{number}.tar.gz"
        inputs.small_files(plain, entries // 2, start=number * 100)
        inputs.compress(plain, packed)
        layers.append((plain, packed))
    layers.append((work / "large.tar", work / "large.tar.gz"))
    inputs.large_files(*layers[-1], large)
    packed_layers = [Packed(packed, inputs.digest_of(packed), inputs.digest_of(plain)) for plain, packed in layers]
    put_image(_ORIGIN, _IMAGE, packed_layers)
    for plain, _ in layers:
        plain.unlink()
    return sum(layer.path.stat().st_size for layer in packed_layers)


if __name__ == "__main__":
    main()
