"""Homes for the driver on disk and in memory, and functions that make layers."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import pytest
from layerstore_overlay import OverlayDriver
from layerstore_overlay.features import Features
from layerstore_overlay.mount import MountMethod
from layerstore_overlay.mounts import unmount_below
from layerstore_overlay.options import Options

from layerstore_core import DriverContext, IDMapping, LayerStream
from layerstore_core.errors import DriverNotSupported
from layerstore_core.log import driver_logger
from layerstore_core.tar.scanner import TarScanner
from tests.in_gate import in_gate

logger = driver_logger("overlay2", "layerstore_overlay")

#: Long before any test, so that times from a tar differ from those that the kernel sets.
MTIME = 1_700_000_000
PLACES = {"disk": None, "tmpfs": "/dev/shm"}


def entry(name, content=None, *, kind=None, link="", mode=None, uid=0, gid=0, mtime=MTIME, xattrs=None):
    """Return an entry for `layer`: a directory if the name ends with a slash, a file with content, or another type."""
    info = tarfile.TarInfo(name.rstrip("/") if name != "./" else name)
    info.type = kind or (tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE)
    info.mode = mode if mode is not None else (0o755 if info.type == tarfile.DIRTYPE else 0o644)
    info.linkname, info.uid, info.gid, info.mtime = link, uid, gid, mtime
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    data = (content or "").encode()
    info.size = len(data)
    return info, data


def layer(*entries):
    """Return the stream of a tar with these entries; an entry may be a name only."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for one in entries:
            info, data = entry(one) if isinstance(one, str) else one
            tar.addfile(info, io.BytesIO(data))
    return stream(out.getvalue())


def stream(tar):
    """Return a tar's bytes in the form that `apply_diff` gets."""
    file = io.BytesIO(tar)
    return LayerStream(TarScanner(lambda: file.read(1 << 16)))


def build(driver, layer_id, parent_id, *entries):
    """Make a layer of these entries; return its size."""
    driver.create(layer_id, parent_id, {})
    return driver.apply_diff(layer_id, parent_id, layer(*entries))


def why_not():
    """Return why overlays cannot be mounted here; `None` if they can."""
    home = tempfile.mkdtemp(prefix="layerstore-overlay-")
    try:
        OverlayDriver.probe(DriverContext(home=Path(home), logger=logger))
    except DriverNotSupported as error:
        return str(error)
    finally:
        os.rmdir(home)
    return None


@cache
def takes_single_lowers():
    """Return whether this kernel takes lower layers one by one (from Linux 6.8 on)."""
    with tempfile.TemporaryDirectory(prefix="layerstore-overlay-") as directory:
        return Features(os.path.realpath(directory)).takes_single_lowers


def skip_unless_possible(method):
    """Skip the test if the kernel does not have this method of mounting."""
    if method is MountMethod.FSOPEN and not takes_single_lowers():
        pytest.skip("this kernel's overlayfs takes no single lower layers (`lowerdir+`, Linux 6.8)")


@pytest.fixture(scope="session")
def overlay():
    """Skip the test if overlays cannot be mounted."""
    reason = why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture(params=in_gate("tmpfs", of=tuple(PLACES)))
def place(request, overlay):
    """A directory, once on disk and once in memory. All mounts in it are removed at the end."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="layerstore-overlay-", dir=PLACES[request.param])))
    path.chmod(0o755)
    yield path
    unmount_below(str(path))
    shutil.rmtree(path)


@pytest.fixture
def disk(overlay):
    """A directory like `place`, on disk only."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="layerstore-overlay-")))
    path.chmod(0o755)
    yield path
    unmount_below(str(path))
    shutil.rmtree(path)


def make_driver(place, method=MountMethod.AUTO, id_mapping=None, **options):
    context = DriverContext(place / "overlay2", logger, Options.model_validate(options), id_mapping or IDMapping())
    return OverlayDriver(context, mount_method=method)


@pytest.fixture
def driver(place):
    return make_driver(place)


@pytest.fixture
def one_driver(disk):
    """A driver on disk, for tests that do not depend on the file system."""
    return make_driver(disk)


@pytest.fixture(scope="module")
def shared_driver(overlay):
    """One driver, in memory, for all examples of a property test."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="layerstore-overlay-", dir="/dev/shm")))
    yield make_driver(path)
    unmount_below(str(path))
    shutil.rmtree(path)
