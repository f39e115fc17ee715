"""Run the kit on an installed driver, in its own process."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from layerstore_core.conformance.leftovers import remove_root
from layerstore_core.conformance.outcomes.results import Run, run_from
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


#: The number of seconds that a run which is interrupted has for removing what it has made.
_PATIENCE: Final = 60


@dataclass(frozen=True, slots=True)
class Request:
    """The settings of a run.

    Attributes:
        driver: the name of an installed driver.
        options: options for the driver.
        root: a directory on the file system that the driver needs. `None` for a temporary one.
        only: the groups to run. Empty for all.
        test: an expression of pytest that chooses tests by their names. Empty for all.
        quick: whether to run only the tests that catch most faults for their time.
        last_failed: whether to run only the tests that failed in the last run of this driver.
        jobs: the number of processes.
        keep: whether the roots of failed tests are kept.
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
    quick: bool = False
    last_failed: bool = False
    jobs: int = 1
    keep: bool = False
    seed: int | None = None
    speed: bool = False
    examples: int | None = None
    replay: Path | None = None
    scripts: Path | None = None


def run_installed(request: Request, output: IO[bytes] | None = None) -> Run:
    """Run the kit. Nothing that it has made is left if it is interrupted.

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
    if request.jobs > 1:
        _require("xdist", "pytest-xdist", "conformance-tools")
    registry.load_driver(request.driver)
    with tempfile.TemporaryDirectory(prefix="layerstore-conformance-") as name:
        directory = Path(name)
        (directory / "test_installed.py").write_text(
            _TESTS.format(driver=request.driver, options=dict(request.options)), encoding="utf-8"
        )
        # With its own file, pytest does not read the settings of the working directory.
        (directory / "pytest.ini").write_text("[pytest]\n")
        with _own_root(request, directory) as root:
            document = _run(request, directory, root, output)
    run = run_from(document)
    if not run.drivers:
        raise ConfigError(_no_test(request))
    return run


@contextmanager
def _own_root(request: Request, directory: Path) -> Iterator[Path]:
    """Make a directory for the roots of all tests, and remove it with all that is still in it or mounted there."""
    if request.root is not None:
        request.root.mkdir(parents=True, exist_ok=True)
    # What is kept must not be where the run's own files are, which are removed.
    above = request.root.absolute() if request.root is not None else None if request.keep else directory
    root = Path(tempfile.mkdtemp(prefix="layerstore-kept-" if request.keep else "conformance-", dir=above))
    # An ordinary user's namespace, or another user, has to get through.
    root.chmod(0o755)
    try:
        yield root
    except BaseException:
        remove_root(root)  # no report would name what was kept
        raise
    if not request.keep:
        remove_root(root)
    elif not os.listdir(root):
        os.rmdir(root)


def _run(request: Request, directory: Path, root: Path, output: IO[bytes] | None) -> dict[str, Any]:
    report = directory / "report.json"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *_arguments(request, directory, root, report)],
            stdin=subprocess.DEVNULL,
            stdout=output or log,
            stderr=log,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )
        try:
            code = process.wait()
        except BaseException:
            _stop(process)
            raise
        # 0: all tests passed; 1: some failed; 5: there was no test.
        if code not in (0, 1, 5) or not report.exists():
            log.seek(0)
            raise _problem(code, log.read().decode("utf-8", "replace"))
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let pytest tear its tests down, and then end all of its processes."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        process.send_signal(signal.SIGINT)
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _problem(code: int, log: str) -> LayerStoreError:
    """Return the error for a run without a report. What pytest says of a wrong use is the message."""
    _, found, message = log.rpartition("ERROR: ")
    if code == _USAGE and found:
        return ConfigError(message.strip())
    return LayerStoreError(f"the tests could not be run (pytest ended with {code}):\n{log[-4000:]}")


def _no_test(request: Request) -> str:
    if request.last_failed:
        return "no test was run: none failed in the last run; run the kit without --last-failed"
    return f"no test was run: no test of the kit that was chosen has the name {request.test!r}"


def require_extra() -> None:
    """Check that the packages that the kit needs in addition to core are installed.

    Raises:
        ConfigError: a package is missing. The message says what to install.
    """
    _require("pytest", "pytest", "conformance")
    _require("hypothesis", "hypothesis", "conformance")


def _require(module: str, package: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"the conformance kit needs {package}, which is not installed: pip install 'layerstore-core[{extra}]'"
        )


def cache_directory() -> Path:
    """Return where the names of the tests that failed last are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "layerstore", "conformance")


def _arguments(request: Request, directory: Path, root: Path, report: Path) -> list[str]:
    arguments = [
        *("-p", "layerstore_core.conformance.plugin"),
        *("-o", f"cache_dir={cache_directory() / request.driver}"),
        *("-c", str(directory / "pytest.ini"), "--rootdir", str(directory), "-q"),
        *("--basetemp", str(directory / "temporary")),
        *("--conformance-root", str(root)),
        *("--conformance-report", str(report)),
        *("--conformance-scripts", str((request.scripts or Path.cwd()).absolute())),
    ]
    only = ["model"] if request.replay is not None else list(request.only)
    for group in only:
        arguments += ["--conformance-only", group]
    # The seed is in the report, so that any run can be repeated.
    seed = secrets.randbits(32) if request.seed is None else request.seed
    arguments += ["--hypothesis-seed", str(seed)]
    if request.test:
        arguments += ["-k", request.test]
    if request.last_failed:
        arguments += ["--last-failed", "--last-failed-no-failures", "none"]
    if request.jobs > 1:
        arguments += ["-n", str(request.jobs), "--dist", "worksteal"]
    for option, given in (
        ("--conformance-quick", request.quick),
        ("--conformance-keep", request.keep),
        ("--conformance-speed", request.speed),
    ):
        if given:
            arguments.append(option)
    if request.examples is not None:
        arguments += ["--conformance-examples", str(request.examples)]
    if request.replay is not None:
        arguments += ["--conformance-replay", str(request.replay.absolute())]
    return [*arguments, str(directory)]
