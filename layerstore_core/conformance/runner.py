"""Run the kit on an installed driver, in its own process."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from layerstore_core.conformance.results import Run, run_from
from layerstore_core.driver import registry
from layerstore_core.errors import ConfigError, LayerStoreError

_TESTS: Final = """\
from layerstore_core.conformance import DriverConformance


class TestInstalledDriver(DriverConformance):
    driver = {driver!r}
    options = {options!r}
"""


#: pytest's exit code for a wrong use of it.
_USAGE: Final = 4


@dataclass(frozen=True, slots=True)
class Request:
    """The settings of a run.

    Attributes:
        driver: the name of an installed driver.
        options: options for the driver.
        root: a directory on the file system that the driver needs. `None` for a temporary one.
        only: the groups to run. Empty for all.
        test: an expression of pytest that chooses tests by their names. Empty for all.
        seed: the seed of the random sequences. `None` for a random one.
        speed: whether to measure the speed too.
        examples: the number of random sequences to try. `None` for the kit's default.
        replay: a script of the group "model" to replay.
        scripts: the directory in which a sequence that fails is written. `None` for the working directory.
    """

    driver: str
    options: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    only: Sequence[str] = ()
    test: str = ""
    seed: int | None = None
    speed: bool = False
    examples: int | None = None
    replay: Path | None = None
    scripts: Path | None = None


def run_installed(request: Request, output: IO[bytes] | None = None) -> Run:
    """Run the kit.

    Args:
        request: the settings of the run.
        output: the file for pytest's own output. `None` discards the output.

    Raises:
        ConfigError: a package that the kit needs is not installed, or the request, or the driver's declaration of its
            known limits, cannot be used.
        DriverNotFound: there is no such driver.
        LayerStoreError: pytest ended without a report.
    """
    require_extra()
    registry.load_driver(request.driver)
    with tempfile.TemporaryDirectory(prefix="layerstore-conformance-") as name:
        directory = Path(name)
        (directory / "test_installed.py").write_text(
            _TESTS.format(driver=request.driver, options=dict(request.options)), encoding="utf-8"
        )
        # With its own file, pytest does not read the settings of the working directory.
        (directory / "pytest.ini").write_text("[pytest]\n")
        report = directory / "report.json"
        with tempfile.TemporaryFile() as log:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *_arguments(request, directory, report)],
                stdout=output or log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
                check=False,
            )
            # 0: all tests passed; 1: some failed; 5: there was no test.
            if done.returncode not in (0, 1, 5) or not report.exists():
                log.seek(0)
                raise _problem(done.returncode, log.read().decode("utf-8", "replace"))
        run = run_from(json.loads(report.read_text(encoding="utf-8")))
    if not run.drivers:
        raise ConfigError(f"no test was run: no test of the kit has the name {request.test!r}")
    return run


def _problem(code: int, log: str) -> LayerStoreError:
    """Return the error for a run without a report. What pytest says of a wrong use is the message."""
    _, found, message = log.rpartition("ERROR: ")
    if code == _USAGE and found:
        return ConfigError(message.strip())
    return LayerStoreError(f"the tests could not be run (pytest ended with {code}):\n{log[-4000:]}")


def require_extra() -> None:
    """Check that the packages that the kit needs in addition to core are installed.

    Raises:
        ConfigError: a package is missing. The message says what to install.
    """
    for module in ("pytest", "hypothesis"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"the conformance kit needs {module}, which is not installed: "
                "pip install 'layerstore-core[conformance]'"
            )


def _arguments(request: Request, directory: Path, report: Path) -> list[str]:
    arguments = [
        *("-p", "layerstore_core.conformance.plugin"),
        *("-p", "no:cacheprovider"),
        *("-c", str(directory / "pytest.ini"), "--rootdir", str(directory), "-q", "--tb=short"),
        *("--conformance-report", str(report)),
        *("--conformance-scripts", str((request.scripts or Path.cwd()).absolute())),
    ]
    if request.root is not None:
        arguments += ["--conformance-root", str(request.root.absolute())]
    only = ["model"] if request.replay is not None else list(request.only)
    for group in only:
        arguments += ["--conformance-only", group]
    # The seed is in the report, so that any run can be repeated.
    seed = secrets.randbits(32) if request.seed is None else request.seed
    arguments += ["--hypothesis-seed", str(seed)]
    if request.test:
        arguments += ["-k", request.test]
    if request.speed:
        arguments.append("--conformance-speed")
    if request.examples is not None:
        arguments += ["--conformance-examples", str(request.examples)]
    if request.replay is not None:
        arguments += ["--conformance-replay", str(request.replay.absolute())]
    return [*arguments, str(directory)]
