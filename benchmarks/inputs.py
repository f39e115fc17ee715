"""What is worked on, made from what every machine has: Python's standard library and /usr/share, repeated or cut to size."""

from __future__ import annotations

import io
import os
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SOURCES: Final = (sysconfig.get_path("stdlib"), "/usr/share")
#: No single file takes more than this of an input, so that inputs of different machines are alike.
_MAX_FILE: Final = 1 << 20
_TIME: Final = 1_700_000_000


def _files() -> Iterator[tuple[str, str]]:
    """Regular files again and again: a name for each, new in each round, and where it is."""
    for number in range(1 << 20):
        for source in _SOURCES:
            for where, directories, names in os.walk(source):
                directories.sort()
                for name in sorted(names):
                    path = os.path.join(where, name)
                    if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.R_OK):
                        yield f"round-{number}{path}", path


def small_files(target: Path, entries: int) -> None:
    """Write a tar of `entries` files and directories, with owners and times that are the same everywhere."""
    made = 0
    known: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT, copybufsize=1 << 20) as tar:
        for name, path in _files():
            above = [str(one) for one in reversed(Path(name).parents) if str(one) not in known and str(one) != "."]
            for directory in above:
                known.add(directory)
                info = tarfile.TarInfo(directory)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, _TIME
                tar.addfile(info)
            info = tarfile.TarInfo(name)
            with open(path, "rb") as file:
                data = file.read(_MAX_FILE)
            info.size, info.mode, info.mtime = len(data), 0o644, _TIME
            tar.addfile(info, io.BytesIO(data))
            made += 1 + len(above)
            if made >= entries:
                return


def large_files(target: Path, size: int) -> None:
    """Write a tar of four files that are `size` bytes together, of bytes that do not compress."""
    block = os.urandom(1 << 20)
    count = size // 4 >> 20

    class Repeated(io.RawIOBase):
        def read(self, length: int = -1) -> bytes:
            return block[:length]

    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT, copybufsize=1 << 20) as tar:
        for number in range(4):
            info = tarfile.TarInfo(f"large-{number}")
            info.size, info.mtime = count << 20, _TIME
            tar.addfile(info, Repeated())  # type: ignore[arg-type]


def docker_archive(target: Path, layer: Path, diff_id: str) -> None:
    """Wrap a layer in an image that `docker load` takes."""
    config = f'{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}'
    manifest = '[{"Config":"config.json","RepoTags":["bench:latest"],"Layers":["layer.tar"]}]'
    with tarfile.open(target, "w") as tar:
        for name, text in (("config.json", config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
        tar.add(layer, "layer.tar")
