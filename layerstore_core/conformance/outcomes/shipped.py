"""The report of the kit that a driver's package comes with: a file `conformance.json` in the package.

Nothing of the package is imported. The file is read with a limit, and not trusted: whoever made the package wrote it.
"""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from layerstore_core.conformance.outcomes.results import JUDGED
from layerstore_core.driver.registry import InstalledDriver

NAME: Final = "conformance.json"
#: A report of the whole kit has some hundred kilobytes.
_MOST_BYTES: Final = 8 << 20


class _Group(BaseModel):
    group: str = Field(max_length=64)
    verdict: Literal["passed", "limited", "incomplete", "failed", "not tried", "measured"]


class _Driver(BaseModel):
    driver: str = Field(max_length=64)
    version: str = Field(max_length=64)
    verdict: Literal["conforms", "incomplete", "failed", "not tried"]
    summary: str = Field(max_length=200)
    groups: list[_Group] = Field(max_length=100)


class _Report(BaseModel):
    layerstore_core: str = Field(max_length=64)
    date: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    drivers: list[_Driver] = Field(max_length=100)


class ShippedReport(NamedTuple):
    """What a package's report says of a driver.

    Attributes:
        verdict: the verdict, as in the report; `"damaged"` if the report cannot be used.
        summary: the verdict in words; why the report cannot be used.
        groups: the number of groups that passed, also with limits. 0 for a damaged report.
        version: the version of the package that was tested.
        core: the version of core that tested it.
        date: the day of the test.
    """

    verdict: str
    summary: str
    groups: int = 0
    version: str = ""
    core: str = ""
    date: str = ""


def shipped_report(driver: InstalledDriver) -> ShippedReport | None:
    """Return what the report in a driver's package says. Return `None` if there is none."""
    path = _find(driver)
    if path is None:
        return None
    try:
        report = _Report.model_validate_json(_read(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return ShippedReport("damaged", f"{NAME}: {place + ': ' if place else ''}{first['msg']}"[:200])
    except (OSError, ValueError) as error:
        return ShippedReport("damaged", f"{NAME}: {getattr(error, 'strerror', None) or error}")
    names = _names(driver)
    own = next((one for one in report.drivers if one.driver in names), None)
    if own is None:
        return ShippedReport("damaged", f"{NAME}: it is not about this driver")
    verdicts = {group.group: group.verdict for group in own.groups}
    passed = sum(verdicts.get(name) in ("passed", "limited") for name in JUDGED)
    if own.verdict == "conforms" and {"failed", "incomplete", "not tried"} & set(verdicts.values()):
        return ShippedReport("damaged", f"{NAME}: it says that the driver conforms, and that a group did not pass")
    return ShippedReport(own.verdict, own.summary, passed, own.version, report.layerstore_core, report.date)


def _names(driver: InstalledDriver) -> set[str]:
    """Return the name of a driver, and other names that its package gives to the same class."""
    own = driver.entry_point
    try:
        others = own.dist.entry_points if own.dist is not None else ()
        return {driver.name, *(one.name for one in others if (one.group, one.value) == (own.group, own.value))}
    except Exception:  # damaged metadata
        return {driver.name}


def _find(driver: InstalledDriver) -> Path | None:
    """Return the report next to the driver's module, or above it in the same distribution."""
    parts = driver.entry_point.module.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    folders = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    for folder in folders:
        for place in _places(driver, folder):
            if os.path.lexists(place):
                return place
    return None


def _places(driver: InstalledDriver, folder: str) -> Iterator[Path]:
    try:
        distribution = driver.entry_point.dist
        for file in (distribution.files or ()) if distribution is not None else ():
            if str(file) == f"{folder}/{NAME}":
                yield Path(str(file.locate()))
    except Exception:  # damaged metadata: the package is found as an import finds it
        pass
    top, _, rest = folder.partition("/")
    try:
        spec = importlib.util.find_spec(top)  # of a name without dots nothing is imported; an editable package is found
    except (ImportError, ValueError):
        return
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield Path(place, rest, NAME)


def _read(path: Path) -> bytes:
    """Read a file of limited size.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, or no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
    return data
