"""Images with a static busybox: what a container needs to run, and nothing that must be fetched."""

from __future__ import annotations

import gzip
import shutil
from functools import cache
from hashlib import md5
from pathlib import Path
from random import Random

from layerstore_core.base.digests import DiffID, chain_ids
from tests import tars
from tests.images.archives import ImageSpec, oci_files, sha256, tar_files
from tests.registry.images import MTIME, layout

BUSYBOX = Path("/bin/busybox")
APPLETS = b"cat echo ls md5sum mkdir mv rm sh sleep stat sync test touch true wc".split()
#: Names of images in archives; a registry's address replaces the first part for a pull.
NAME, OTHER = "localhost/busybox:1", "localhost/other:1"


def why_not() -> str:
    """Return why the images cannot be made here. Empty if they can."""
    if not BUSYBOX.exists() or b"statically linked" not in _kind(BUSYBOX):
        return "there is no static /bin/busybox (Debian's package busybox-static)"
    return ""


def _kind(path: Path) -> bytes:
    """Return words on how a program is linked: without a name of an interpreter it is static."""
    return b"dynamically linked" if b"ld-linux" in path.read_bytes()[:4096] else b"statically linked"


@cache
def base() -> bytes:
    """Return the layer with busybox and the directories that runc mounts on."""
    directories = (b"bin/", b"dev/", b"etc/", b"proc/", b"run/", b"sys/", b"tmp/", b"old/")
    return tars.tar(
        *(tars.directory(name, mtime=MTIME) for name in directories),
        tars.entry(b"bin/busybox", BUSYBOX.read_bytes(), mode=0o755, mtime=MTIME),
        *(tars.entry(b"bin/" + name, typeflag=b"2", linkname=b"busybox", mtime=MTIME) for name in APPLETS),
        tars.entry(b"etc/motd", b"base\n", mtime=MTIME),
        tars.entry(b"old/file", b"hidden later\n", mtime=MTIME),
    )


def upper(number: int) -> bytes:
    """Return a layer that changes a file, adds one, removes one and replaces a directory."""
    return tars.tar(
        tars.entry(b"etc/motd", b"layer %d\n" % number, mtime=MTIME),
        tars.entry(b"only-%d" % number, b"%d\n" % number, uid=1000, gid=1000, mode=0o640, mtime=MTIME),
        tars.directory(b"old/", mtime=MTIME),
        tars.entry(b"old/.wh..wh..opq", mtime=MTIME),
        tars.entry(b"old/new-%d" % number, b"", mtime=MTIME),
    )


@cache
def image(layers: int = 3, first: int = 1, name: str = NAME) -> ImageSpec:
    """Return an image: busybox and `layers - 1` layers on it, numbered from `first` on."""
    tars_ = (base(), *(upper(first + number) for number in range(layers - 1)))
    packed = [gzip.compress(layer, 1, mtime=0) for layer in tars_]
    return ImageSpec(tars_, names=(name,), packed=packed, extra={"config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}})


@cache
def summed(number: int, name: str) -> ImageSpec:
    """Return an image of several layers, with sums of all files that `md5sum -c /sums` compares in a container.

    Images with the same number modulo 3 share two layers, and all share the first. The content of the others is random,
    and the same each time.
    """
    random = Random(number)
    files: dict[bytes, bytes] = {}
    layers = [base()]
    for source in (Random(number % 3), random, random):
        own = {b"data/%d" % source.randrange(300): source.randbytes(source.randrange(20_000)) for _ in range(60)}
        files |= own
        layers.append(tars.tar(*(tars.entry(path, data, mtime=MTIME) for path, data in own.items())))
    gone = random.choice(list(files))
    del files[gone]
    sums = b"".join(b"%s  /%s\n" % (md5(data).hexdigest().encode(), path) for path, data in files.items())
    top = {b"sums": sums, b"id": b"%d\n" % number, gone.replace(b"/", b"/.wh."): b""}
    layers.append(tars.tar(*(tars.entry(path, data, mtime=MTIME) for path, data in top.items())))
    packed = [gzip.compress(layer, 1, mtime=0) for layer in layers]
    return ImageSpec(layers, names=(name,), packed=packed, extra={"config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}})


def chain(image: ImageSpec) -> list[str]:
    """Return the chain IDs of an image's layers, from its base on."""
    return [str(one) for one in chain_ids([DiffID(sha256(layer)) for layer in image.layers])]


def archive(path: Path, *images: ImageSpec) -> Path:
    """Write an archive with an OCI layout, which `ctr images import` and `layerstore load` read."""
    path.write_bytes(tar_files(oci_files(*images)))
    return path


def image_layout(directory: Path, image: ImageSpec) -> Path:
    """Write an OCI layout that skopeo can copy to a registry as the image "image"."""
    shutil.rmtree(directory, ignore_errors=True)
    return layout(directory, image)
