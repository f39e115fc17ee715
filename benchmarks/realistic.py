"""A layer as programs write them: the benchmark's headline.

Each entry has a PAX header with times below the second, as those of bsdtar, of GNU tar with `--format=pax`, and of
Python. There are symbolic and hard links, long names, several owners, and extended attributes on some files.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from benchmarks import inputs

#: The average of the files' bytes. Files are cut, and now and then one is repeated, so that layers of all machines have
#: as much.
_AVERAGE: Final = 6_300
_LEAST: Final = 512
_REPEATED: Final = 400_000
_SECONDS: Final = 1_700_000_000
#: The owners of directories, each with the files that are in it, in turn.
_OWNERS: Final = ((0, 0), (1000, 1000), (0, 0), (33, 33), (0, 0), (65534, 65534))
#: One file in so many has a symbolic link to it, one has a hard link to it, and one has an attribute.
_SYMBOLIC, _HARD, _ATTRIBUTE = 24, 48, 50
#: Directory of one file in eight: with it, names are longer than the fields of a header.
_DEEP: Final = "srv/application/node_modules/@organisation/a-package/node_modules/@organisation/one-that-it-needs/dist"


def realistic_files(target: Path, entries: int) -> None:
    """Write a tar of `entries` entries: 260 MB with 40,000."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, (info, data) in enumerate(islice(_entries(), entries)):
            fraction = f"{number * 7919 % 10**9:09}"
            # The three times that GNU tar has for each entry.
            for key, age in (("mtime", 0), ("atime", 600), ("ctime", 300)):
                info.pax_headers = {**info.pax_headers, key: f"{_SECONDS + number // 100 + age}.{fraction}"}
            tar.addfile(info, io.BytesIO(data))


def _entries() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield entries without end, each with its payload. Directories come before what is in them."""
    known: set[Path] = set()
    owners = cycle(_OWNERS)
    owner, left = _OWNERS[0], 0
    for number, (name, path) in enumerate(inputs.source_files()):
        name = name.replace(inputs.LIBRARY, "/usr/lib/python3", 1)
        name = f"{_DEEP}/{name}" if number % 8_000 >= 7_000 else name
        for parent in reversed(Path(name).parents[:-1]):
            if parent not in known:
                known.add(parent)
                owner = next(owners)
                yield _info(str(parent), tarfile.DIRTYPE, owner, mode=0o755), b""
        left += _AVERAGE
        with open(path, "rb") as file:
            data = file.read(max(_LEAST, min(left, inputs.MAX_FILE)))
        if data and left > _REPEATED:
            data = (data * (left // len(data) + 1))[:left]
        left -= len(data)
        file_info = _info(name, tarfile.REGTYPE, owner, mode=0o755 if path.endswith(".so") else 0o644)
        file_info.size = len(data)
        if not number % _ATTRIBUTE:
            file_info.pax_headers = {"SCHILY.xattr.user.mime_type": "text/plain"}
        yield file_info, data
        if not number % _SYMBOLIC:
            yield _info(f"{name}.link", tarfile.SYMTYPE, owner, mode=0o777, target=Path(name).name), b""
        if not number % _HARD:
            yield _info(f"{name}.same", tarfile.LNKTYPE, owner, mode=0o644, target=name), b""


def _info(name: str, kind: bytes, owner: tuple[int, int], *, mode: int, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    info.uid, info.gid = owner
    return info
