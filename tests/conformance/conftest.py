"""What an author of a driver does: install a package with a driver, and run the kit on it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
#: A driver that is correct but for names of more than 200 bytes.
FUSSY = """
    import errno, os
    from layerstore_core import hookimpl, unpack_layer
    from tests.conformance.mutants.base import Correct

    KNOWN_LIMITS = {}

    class FussyDriver(Correct):
        driver_name = "fussy"

        @hookimpl
        def apply_diff(self, layer_id, parent_id, diff):
            size = unpack_layer(diff, str(self.tree(layer_id)))
            for _, _, names in os.walk(self.tree(layer_id)):
                if any(len(name) > 200 for name in names):
                    raise OSError(errno.ENAMETOOLONG, "no name may have more than 200 bytes")
            return size
"""


@dataclass
class Author:
    """A directory in which packages are installed, and programs run."""

    directory: Path

    @property
    def site(self) -> Path:
        return self.directory / "site"

    def install(self, source: str = FUSSY, *, name: str = "fussy", limits: str = "") -> Path:
        """Install a package with a driver `FussyDriver`, and return its module.

        Args:
            source: the package's module.
            name: the driver's name.
            limits: the mapping of known limits, as Python; empty for a package without the entry point.
        """
        package = self.site / f"layerstore_{name}"
        package.mkdir(parents=True, exist_ok=True)
        module = package / "__init__.py"
        module.write_text(dedent(source).replace("KNOWN_LIMITS = {}", f"KNOWN_LIMITS = {limits or '{}'}"))
        info = self.site / f"layerstore_driver_{name}-1.5.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: layerstore-driver-{name}\nVersion: 1.5\n")
        points = f"[layerstore.drivers]\n{name} = layerstore_{name}:FussyDriver\n"
        if limits:
            points += f"[layerstore.known_limits]\n{name} = layerstore_{name}:KNOWN_LIMITS\n"
        (info / "entry_points.txt").write_text(points)
        return module

    def environment(self) -> dict[str, str]:
        # With PYTHONDONTWRITEBYTECODE each run of pytest would compile the kit once more. With CI or BUILD_NUMBER
        # pytest repeats whole messages in its summary.
        dropped = ("LAYERSTORE", "PYTEST_", "PYTHONDONTWRITEBYTECODE", "CI", "BUILD_NUMBER")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {
            **kept,
            "PYTHONPATH": f"{self.site}{os.pathsep}{ROOT}",
            "XDG_CACHE_HOME": str(self.directory / "cache"),
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "layerstore_core", "conformance", *words]

    def conformance(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `layerstore conformance`."""
        return self._run(self.command(*words), code)

    def pytest(self, suite: str, *words: str, node: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run pytest on a test module, or on a node of it, such as `::TestMine::test_it`."""
        (self.directory / "test_own.py").write_text(dedent(suite))
        own = ["-c", "/dev/null", "--rootdir", str(self.directory), "-q", "-p", "no:cacheprovider"]
        return self._run([sys.executable, "-m", "pytest", *own, *words, f"{self.directory}/test_own.py{node}"], code)

    def _run(self, command: list[str], code: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done


def flat(text: str) -> str:
    """Return text with single spaces, as columns have no fixed width."""
    return " ".join(text.split())


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path)
