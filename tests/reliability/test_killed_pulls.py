"""A pull that is killed at random moments: the next one receives only what is missing, and nothing is left at the end.

A registry in this process counts the bytes. With LAYERSTORE_RELIABILITY=1 the image has 1 GB.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.images import Images
from layerstore_core.images.remote.receive.downloads import CONNECTIONS
from layerstore_core.images.remote.receive.leftovers import MAX_AGE, downloads_directory
from layerstore_core.images.remote.receive.partial_file import read_table
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests import tars
from tests.registry.fake_content import OCI_LAYER, OCI_MANIFEST, descriptor
from tests.registry.fake_registry import FakeRegistry
from tests.reliability.figures import note
from tests.reliability.thorough import SEED, THOROUGH

#: The sizes of the image's layers, in MiB. The last one has many small files instead.
LAYERS = (600, 300, 80) if THOROUGH else (10, 3)
SMALL_FILES = 20_000 if THOROUGH else 500
KILLS = 10

pytestmark = pytest.mark.timeout(3600 if THOROUGH else 300)
#: What of one connection may be lost with a process: a piece that is not written yet, and the kernel's buffers.
ON_ITS_WAY = 8 << 20
PATIENCE = 120 if THOROUGH else 30
MIB = 1 << 20


@dataclass(frozen=True)
class Large:
    """A large image in a registry.

    Attributes:
        sizes: the sizes of its layers as they are stored, by digest.
        diff_ids: the diff IDs of the layers, by digest.
    """

    fake: FakeRegistry
    sizes: dict[str, int]
    diff_ids: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.fake.host}/large:1"

    def sent(self) -> int:
        """Return how many bytes of layers were sent since the log was cleared."""
        return sum(self.fake.log.sent(f"GET .*/blobs/{digest}") for digest in self.sizes)


def parts(number: int) -> Iterator[bytes]:
    """Yield the tar of a layer in pieces of one member."""
    noise = random.Random(number)
    if number < len(LAYERS):
        for count in range(LAYERS[number] // 2 or 1):
            yield tars.entry(b"large/%d-%d" % (number, count), noise.randbytes(2 * MIB))
    else:
        for count in range(SMALL_FILES):
            yield tars.entry(b"small/%d/%d" % (count % 100, count), noise.randbytes(count % 3000))
    yield tars.END


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    directory = tmp_path_factory.mktemp("large")
    with FakeRegistry() as fake:
        sizes, diff_ids, descriptors = {}, {}, []
        for number in range(len(LAYERS) + 1):
            path, diff_id, deflate = directory / str(number), hashlib.sha256(), zlib.compressobj(1, wbits=31)
            with path.open("wb") as file:
                for part in parts(number):
                    diff_id.update(part)
                    file.write(deflate.compress(part))
                file.write(deflate.flush())
            with path.open("rb") as file:
                blob = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # not in the memory of this process
            path.unlink()
            digest = fake.add_blob("large", memoryview(blob))
            sizes[digest] = len(blob)
            diff_ids[digest] = f"sha256:{diff_id.hexdigest()}"
            descriptors.append({"mediaType": f"{OCI_LAYER}+gzip", "digest": digest, "size": len(blob)})
        config = {
            "os": "linux",
            "architecture": "amd64",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids.values())},
        }
        data = json.dumps(config).encode()
        fake.add_blob("large", data)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "layers": descriptors,
            "config": descriptor(data, "application/vnd.oci.image.config.v1+json"),
        }
        fake.add_manifest("large", document, OCI_MANIFEST, "1")
        yield Large(fake, sizes, diff_ids)


def open_store(root: Path) -> LayerStore:
    return LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none"))


def begin(root: Path, large: Large) -> subprocess.Popen[str]:
    """Begin a pull in a process of its own."""
    command = [sys.executable, "-m", "layerstore_core", "--root", root, "--driver", "vfs", "pull", large.name]
    surroundings = {**os.environ, "LAYERSTORE_DURABILITY": "none"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings)


def missing(root: Path, large: Large) -> int:
    """Return how many bytes of layers neither the store nor the files of downloads have."""
    with open_store(root) as store:
        known = {str(layer.diff_id) for layer in store.layers().values()}
    total = 0
    for digest, size in large.sizes.items():
        if large.diff_ids[digest] in known:
            continue
        total += size
        path = downloads_directory(root) / digest.replace(":", "/")
        if path.exists():
            with path.open("rb") as file:
                total -= sum(end - start for start, end in read_table(file.fileno(), size) or ())
    return total


def assert_sound(root: Path) -> None:
    """Check that nothing is damaged, and that no name was given to a part of an image."""
    with open_store(root) as store:
        assert store.load_problems == []
        assert check_store(store, full=True) == []


def listing(root: Path) -> list[str]:
    """Return the files below a root. Of the trees of layers, which are named at random, only the number counts."""
    found = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).parts
        if relative[0] != "vfs" and not path.is_dir():
            found.append("/".join(relative))
    return [*found, f"{len(list(root.glob('vfs/*/*')))} trees"]


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process, if it has not ended."""
    process.kill()
    process.communicate()


def kill_at(process: subprocess.Popen[str], large: Large, count: int) -> None:
    """Kill a pull when so many bytes of layers were sent to it."""
    end = time.monotonic() + PATIENCE
    while large.sent() < count and process.poll() is None:
        assert time.monotonic() < end, "the pull does not go on"
        time.sleep(0.001)
    kill(process)


def finish(root: Path, large: Large) -> float:
    """Pull to the end; return for how long it took, in seconds."""
    began = time.monotonic()
    process = begin(root, large)
    out, err = process.communicate(timeout=10 * PATIENCE)
    assert process.returncode == 0, err
    assert out.strip() == large.fake.repository("large").tags["1"]
    return time.monotonic() - began


@pytest.fixture(scope="module")
def whole(large: Large, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Pull without an interruption. Return the root, and for how long it took."""
    root = tmp_path_factory.mktemp("whole") / "root"
    seconds = finish(root, large)
    with open_store(root) as store:
        collect_garbage(store)
    return root, seconds


def test_killed_at_ten_random_moments(large: Large, whole: tuple[Path, float], tmp_path: Path) -> None:
    chance = random.Random(SEED)
    root = tmp_path / "root"
    sent = 0
    for number in range(KILLS):
        left = missing(root, large) if root.exists() else sum(large.sizes.values())
        large.fake.log.clear()
        process = begin(root, large)
        if number < KILLS - 3:  # while bytes come, or are unpacked meanwhile
            kill_at(process, large, int(left * chance.uniform(0, 0.4)))
        else:
            time.sleep(chance.uniform(0, whole[1]))
            kill(process)
        assert large.sent() <= left, "what was here was sent again"
        sent += large.sent()
        assert_sound(root)
    left = missing(root, large)
    lost = sent + left - sum(large.sizes.values())
    print(f"{KILLS} kills: {lost} bytes were sent and not used")
    assert lost <= KILLS * CONNECTIONS * ON_ITS_WAY
    large.fake.log.clear()
    finish(root, large)
    assert large.sent() == left
    assert_sound(root)
    with open_store(root) as store:
        assert [image.names for image in Images(store).all()] == [(large.name,)]
        collect_garbage(store)
    assert listing(root) == listing(whole[0])
    with open_store(root) as store, open_store(whole[0]) as other:
        assert set(store.layers()) == set(other.layers())
    note("pulls killed at random", KILLS, 0)


def test_killed_and_never_pulled_again(large: Large, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with open_store(root) as store:
        collect_garbage(store)
    before = listing(root)
    large.fake.log.clear()
    kill_at(begin(root, large), large, sum(large.sizes.values()) // 2)
    old = time.time() - MAX_AGE - 60
    for path in downloads_directory(root).rglob("*"):
        os.utime(path, (old, old))
    with open_store(root) as store:
        collect_garbage(store)
        assert check_store(store, full=True) == []
    assert listing(root) == before
