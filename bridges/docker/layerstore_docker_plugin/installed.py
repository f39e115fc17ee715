"""Copying installed packages, with all that they need, into a directory of their own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from layerstore_core import DriverNotFound, LayerStoreError

_DRIVERS: Final = "layerstore.drivers"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def distribution_of(driver: str) -> str:
    """Return the name of the distribution that has a driver.

    Raises:
        DriverNotFound: no installed one has it.
    """
    found = [point.dist.name for point in entry_points(group=_DRIVERS, name=driver) if point.dist is not None]
    if not found:
        names = sorted({point.name for point in entry_points(group=_DRIVERS)})
        raise DriverNotFound(
            f"no driver {driver!r} is installed (installed: {', '.join(names) or 'none'}); install its package beside "
            "this program"
        )
    return found[0]


def copy_installed(names: list[str], target: Path) -> list[str]:
    """Copy distributions, and those that they require, into a directory for Python's path.

    Args:
        names: the distributions.
        target: an existing directory.

    Returns:
        What was copied: each distribution with its version, sorted.

    Raises:
        LayerStoreError: one is not installed, or it is not known which packages are its own.
        OSError: a file cannot be copied.
    """
    done: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = _normal(waiting.pop())
        if name in done:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            if name in map(_normal, names):
                raise LayerStoreError(f"{name} is not installed; install it with pip") from None
            continue  # this Python does not need it
        done[name] = found.version
        waiting += _requirements(found)
        _copy(found, target)
    return sorted(f"{name} {version}" for name, version in done.items())


def _requirements(found: Distribution) -> Iterator[str]:
    for line in found.requires or ():
        requirement, _, marker = line.partition(";")
        if "extra" not in marker and (name := _NAME.match(requirement)):
            yield name[0]


def _normal(name: str) -> str:
    """Return the form of a distribution's name in which all spellings are the same (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _copy(found: Distribution, target: Path) -> None:
    has_code = False
    for file in found.files or ():
        if file.is_absolute() or ".." in file.parts or "__pycache__" in file.parts or file.suffix == ".pth":
            continue  # programs, and the paths of packages in a checkout
        source = Path(str(found.locate_file(file)))
        if file.name == "direct_url.json" or not source.is_file():
            continue
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        has_code = has_code or not file.parts[0].endswith(".dist-info")
    if has_code:
        return
    packages = {point.module.partition(".")[0] for point in found.entry_points}
    if not packages:
        raise LayerStoreError(
            f"{found.name} is installed from a checkout in a way that does not say which packages it has; install it "
            "without --editable"
        )
    for package in sorted(packages):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations if spec is not None else None) or ():
            shutil.copytree(place, target / package, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
