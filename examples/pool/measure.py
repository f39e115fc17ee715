"""Measure what drivers need for a set of related images: space, and the time of registering each of them.

    sudo python examples/pool/measure.py /var/tmp/pool-images

The images are root file systems of Debian that mmdebstrap makes, one layer each, if they are not in the directory yet:
a minimal one, the same made again, and eight with more packages. Nobody told them of each other, so no layer is
the same: it is the set that a pool is made for. Any other directory of tars does, too.

Each driver gets a new file system (ext4 or btrfs) in a file in the same directory. What is used is asked of the file
system, and of `du`, when all is on disk. Times are the sums of all `layerstore register` commands: by the clock, and of
the processors, in the programs and in the kernel.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: The images by name, and the packages that each has besides those of a minimal Debian.
IMAGES = {
    "base": "",
    "again": "",
    "python": "python3",
    "nginx": "nginx-light",
    "git": "git",
    "curl": "curl,openssh-client",
    "postgres": "postgresql-client",
    "ruby": "ruby",
    "php": "php-cli",
    "build": "build-essential",
}
#: What is measured: the name in the table, the file system, and the words of the command line.
CASES = {
    "vfs": ("ext4", ["--driver", "vfs"]),
    "overlay2": ("ext4", ["--driver", "overlay2"]),
    "pool, links": ("ext4", ["--driver", "pool", "--driver-opt", "sharing=links"]),
    "btrfs": ("btrfs", ["--driver", "btrfs"]),
    "pool, links, on btrfs": ("btrfs", ["--driver", "pool", "--driver-opt", "sharing=links"]),
    "pool, reflinks, on btrfs": ("btrfs", ["--driver", "pool", "--driver-opt", "sharing=reflinks"]),
}
SIZE = 32 << 30
MIB = 1 << 20


@dataclass
class Result:
    """What one driver has needed.

    Attributes:
        used: bytes that the file system has given out.
        du: bytes that `du` finds in the driver's home, each file once.
        inodes: the number of files there.
        wall: seconds that registering took by the clock.
        processor: seconds of the processors.
        create: seconds of the processors for a writable layer of the last image.
        freed: bytes that removing all images and collecting garbage has given back.
    """

    used: int = 0
    du: int = 0
    inodes: int = 0
    wall: float = 0.0
    processor: float = 0.0
    create: float = 0.0
    freed: int = 0


def make_images(directory: Path, suite: str) -> None:
    """Make the images that are missing."""
    for name, packages in IMAGES.items():
        tar = directory / f"{name}.tar"
        if not tar.exists():
            include = [f"--include={packages}"] if packages else []
            partial = tar.with_suffix(".part.tar")
            subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", *include, suite, partial], check=True)
            partial.rename(tar)


@contextmanager
def file_system(directory: Path, kind: str) -> Iterator[Path]:
    """Make a file system in a file, and mount it for the length of a `with` block."""
    image, mounted = directory / "file-system.img", directory / "mounted"
    with open(image, "wb") as file:
        file.truncate(SIZE)
    mounted.mkdir(exist_ok=True)
    try:
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
        try:
            yield mounted
        finally:
            subprocess.run(["umount", mounted], check=True)
    finally:
        image.unlink()
        mounted.rmdir()


def used_on(path: Path) -> int:
    """Return the bytes that a file system has given out, when all is on disk."""
    os.sync()
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def processor() -> float:
    """Return the seconds of the processors that commands have taken so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(tars: list[Path], kind: str, words: list[str], directory: Path) -> Result:
    """Register all tars on a new file system, and remove them."""
    result = Result()
    with file_system(directory, kind) as mounted:
        root = mounted / "root"
        command = [sys.executable, "-m", "layerstore_core", "--root", str(root), *words]
        subprocess.run([*command, "info"], check=True, capture_output=True)
        before = used_on(mounted)
        chains = []
        for tar in tars:
            subprocess.run(["cat", tar], check=True, stdout=subprocess.DEVNULL)  # into memory, for all drivers alike
            started, processor_before = time.monotonic(), processor()
            done = subprocess.run([*command, "register", tar], check=True, capture_output=True, text=True)
            result.wall += time.monotonic() - started
            result.processor += processor() - processor_before
            chains.append(done.stdout.strip())
        result.used = used_on(mounted) - before
        du = subprocess.run(["du", "-s", "--block-size=1", root], check=True, capture_output=True, text=True)
        result.du = int(du.stdout.split()[0])
        du = subprocess.run(["du", "-s", "--inodes", root], check=True, capture_output=True, text=True)
        result.inodes = int(du.stdout.split()[0])
        processor_before = processor()
        subprocess.run([*command, "rw", "create", "work", "--parent", chains[-1]], check=True, capture_output=True)
        result.create = processor() - processor_before
        subprocess.run([*command, "rw", "rm", "work"], check=True, capture_output=True)
        full = used_on(mounted)
        subprocess.run([*command, "rm", *chains], check=True, capture_output=True)
        subprocess.run([*command, "gc"], check=True, capture_output=True)
        result.freed = full - used_on(mounted)
    return result


def table_of(results: dict[str, Result], tars: list[Path]) -> str:
    """Return the results as a table for a document, with ratios to the first of them."""
    one = next(iter(results.values()))
    lines = [
        f"{len(tars)} images, {sum(tar.stat().st_size for tar in tars) / MIB:.0f} MiB of tars",
        "",
        "| driver | used, MiB | to vfs | `du` | files | register, s | processor, s | to vfs | writable, s | freed |",
        "| --- " + "| ---: " * 9 + "|",
    ]
    for name, result in results.items():
        lines.append(
            f"| {name} | {result.used / MIB:.0f} | {result.used / one.used:.2f} | {result.du / MIB:.0f} "
            f"| {result.inodes} | {result.wall:.1f} | {result.processor:.1f} "
            f"| {result.processor / one.processor:.2f} | {result.create:.2f} | {result.freed / MIB:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make the images, measure, and print a table."""
    parser = argparse.ArgumentParser(description="Measure space and time of drivers for related images. Needs root.")
    parser.add_argument("directory", type=Path, help="where the tars are, or are made; has the file systems meanwhile")
    parser.add_argument("--suite", default="bookworm", help="the suite of Debian that images are made of")
    parser.add_argument("--only", action="append", choices=CASES, help="measure only this; may be repeated")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    if not list(options.directory.glob("*.tar")):
        make_images(options.directory, options.suite)
    tars = sorted(options.directory.glob("*.tar"))
    results = {}
    for name in options.only or CASES:
        kind, words = CASES[name]
        results[name] = measure(tars, kind, words, options.directory)
        print(name, results[name], file=sys.stderr, flush=True)
    print(table_of(results, tars))


if __name__ == "__main__":
    main()
