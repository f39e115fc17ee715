"""Fixtures that install packages with drivers, as pip would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from layerstore_core.base.plugins import EntryPoint

Install = Callable[..., None]

#: The source of a driver that works. Each test adds its own part.
DRIVER = """
from tests.store.drivers import SmallestDriver
from layerstore_core import hookimpl, Capabilities, ConfigError, DriverNotSupported
from pydantic import BaseModel, ConfigDict, Field

class Driver(SmallestDriver):
    pass
"""


@pytest.fixture(autouse=True)
def no_settings_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's own settings from the environment of the tests."""
    for name in list(os.environ):
        if name.startswith(("LAYERSTORE_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Yield a function that installs a package from its module's source and its entry points."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules = []

    def install_(
        package: str,
        source: str = "",
        *,
        drivers: str = "",
        wrappers: str = "",
        metadata: str | None = None,
        entry_points: str | None = None,
    ) -> None:
        module = package.replace("-", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(DRIVER + dedent(source))
        info = site / f"{module}-1.2.dist-info"
        info.mkdir()
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n"
        (info / "METADATA").write_text(metadata)
        lines = [f"[layerstore.drivers]\n{dedent(drivers)}" if drivers else ""]
        lines += [f"[layerstore.wrappers]\n{dedent(wrappers)}" if wrappers else ""]
        (info / "entry_points.txt").write_text("\n".join(lines) if entry_points is None else entry_points)

    yield install_
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that hides the drivers that are really installed, except some."""
    from layerstore_core.base.plugins import installed

    def hide(*names: str) -> None:
        def entry_points() -> dict[str, list[EntryPoint]]:
            return {
                group: [point for point in points if not _is_real(point) or point.name in names]
                for group, points in real().items()
            }

        real = installed._entry_points
        monkeypatch.setattr(installed, "_entry_points", entry_points)

    return hide


def _is_real(point: object) -> bool:
    return getattr(point, "value", "").startswith("layerstore_")
