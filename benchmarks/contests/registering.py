"""Registering: the contenders that make a tree of a tar, and those that do a part of that work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.contenders import Contender, in_both_engines, layerstore, making, python, shell
from benchmarks.contests.engines import engines
from benchmarks.workshop import Sample, Workshop, extraction

ALL_OF_IT: Final = "hash, tar-split, extraction, commit; no flush"
#: GNU tar's name where another program inflates, so that the sum of both can be compared.
UNCOMPRESSED: Final = "GNU tar -x, not compressed"
_EXTRACTALL: Final = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall('x', filter='tar')"
_INFLATE: Final = """
import sys
from isal import igzip_lib
inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
with open(sys.argv[1], "rb", buffering=0) as file:
    while not inflate.eof:
        inflate.decompress(file.read(1 << 20) if inflate.needs_input else b"", 1 << 20)
"""


def small(shop: Workshop) -> list[Contender]:
    """Return the contenders for a raw tar of small files."""
    return [*_ours(shop.small.tar), *_peers(shop.small.tar), *engines(shop, shop.small)]


def realistic(shop: Workshop) -> list[Contender]:
    """Return the contenders for the realistic layer."""
    return [*_ours(shop.real.tar), *_peers(shop.real.tar), *engines(shop, shop.real)]


def large(shop: Workshop) -> list[Contender]:
    """Return the contenders for a raw tar of few large files."""
    return [*_ours(shop.large[0]), *_peers(shop.large[0])]


def compressed(shop: Workshop) -> list[Contender]:
    """Return the contenders for small files, compressed."""
    return [*_compressed(shop.small), *engines(shop, shop.small, packed=True)]


def compressed_large(shop: Workshop) -> list[Contender]:
    """Return the contenders for few large files, compressed."""
    plain, packed = shop.large
    return [*_ours(packed), *_inflaters(packed), _tar(UNCOMPRESSED, plain)]


def piped(shop: Workshop) -> list[Contender]:
    """Return the contenders for the same compressed layer from a file, and through a pipe."""
    packed = str(shop.small.packed)
    found = []
    for driver in ("vfs", "overlay2"):
        ways: Mapping[str, list[str]] = {
            "from a file": layerstore("register", packed, driver=driver),
            "through a pipe": shell(
                'tar=$1; shift; cat "$tar" | "$@"', packed, *layerstore("register", "-", driver=driver)
            ),
        }
        found += [
            Contender(f"layerstore, {driver}, {way}", ALL_OF_IT, command, needs_root=driver == "overlay2")
            for way, command in ways.items()
        ]
    return in_both_engines(found)


def _compressed(sample: Sample) -> list[Contender]:
    packed = sample.packed
    inflating = ["tar", "-xzf", str(packed), "-C", "x"]
    return [
        *_ours(packed),
        *_inflaters(packed),
        _tar(UNCOMPRESSED, sample.tar),
        Contender("GNU tar -xz", "inflate, extraction", inflating, "tar", making("x")),
    ]


def _ours(tar: Path) -> list[Contender]:
    return in_both_engines(
        Contender(
            f"layerstore, {driver}",
            ALL_OF_IT,
            layerstore("register", str(tar), driver=driver),
            needs_root=driver == "overlay2",
        )
        for driver in ("vfs", "overlay2")
    )


def _peers(tar: Path) -> list[Contender]:
    name = str(tar)
    return [
        _tar("GNU tar -x", tar),
        Contender("bsdtar -x", "extraction", ["bsdtar", "-xf", name, "-C", "x"], "bsdtar", making("x")),
        Contender("sha256sum", "hash", ["sha256sum", name], "sha256sum"),
        Contender("Python tarfile", "extraction, no attributes", python(_EXTRACTALL, name)),
    ]


def _tar(name: str, tar: Path) -> Contender:
    return Contender(name, "extraction", extraction(tar, "x"), "tar", making("x"))


def _inflaters(packed: Path) -> list[Contender]:
    name = str(packed)
    programs = [("igzip", "-dc"), ("libdeflate-gunzip", "-c"), ("pigz", "-dc"), ("gzip", "-dc")]
    return [
        Contender("isal in Python", "inflate", python(_INFLATE, name)),
        *(Contender(f"{one} {flag}", "inflate", [one, flag, name], one) for one, flag in programs),
    ]
