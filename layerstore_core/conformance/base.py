"""The base of every group of tests: the attributes that name the driver, and the rig that a test uses it with."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from layerstore_core.conformance.properties import FAILED, FILE_SYSTEM, KEPT
from layerstore_core.conformance.rig import DriverRig, file_system_of
from layerstore_core.errors import DriverNotSupported


class ConformanceTests:
    """The base of all groups. Test authors subclass `DriverConformance`.

    Attributes:
        driver: the driver's name, which is that of its entry point.
        options: options for the driver, as in a configuration file.
        factory: the driver's class, or a function that takes a `DriverContext`, for a driver without an entry point.
            Put a function into `staticmethod`.
        known_limits: the tests that the driver is known to fail, each with the reason:
            `{"limits: test_long_names": "the file system refuses names of more than 251 bytes"}`. `None`: those that
            the driver's package declares, by an entry point of the group `layerstore.known_limits`.
    """

    driver: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}
    factory: ClassVar[Callable[..., Any] | None] = None
    known_limits: ClassVar[Mapping[str, str] | None] = None

    #: The group of a mixin's tests.
    group: ClassVar[str] = ""

    def make_root(self, tmp_path_factory: pytest.TempPathFactory) -> AbstractContextManager[Path]:
        """Create a directory on the file system that the driver needs, for all tests of the class.

        Override it as a context manager (`contextlib.contextmanager`) that creates a file system, mounts it, yields
        the directory, and removes all again. The default is a temporary directory of pytest's.
        """
        return _directory(tmp_path_factory)

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest, conformance_root: Path) -> Iterator[DriverRig]:
        """Yield a rig: a new root with an instance of the driver. Afterwards remove the layers and the root."""

        def report(kind: str, fact: object) -> None:
            request.node.user_properties.append((kind, fact))

        directory = conformance_root / secrets.token_hex(4)
        log: Path | None = None
        with ExitStack() as stack:
            if request.config.getoption("--conformance-keep", False):
                log = stack.enter_context(_log_beside(directory))
            yield from self._rig(request, directory, report, log)

    def _rig(
        self, request: pytest.FixtureRequest, directory: Path, report: Callable[[str, object], None], log: Path | None
    ) -> Iterator[DriverRig]:
        try:
            rig = DriverRig(name_of(type(self)), type(self).factory, self.options, directory, report)
        except DriverNotSupported as error:
            pytest.skip(f"the driver says that it cannot work here: {error}")
        report(FILE_SYSTEM, file_system_of(rig.root))
        rig.examples = request.config.getoption("--conformance-examples", None) or 0
        with rig:
            yield rig
            if log is not None and request.node.stash.get(FAILED, False):
                os.replace(log, rig.root / "driver.log")
                report(KEPT, [str(rig.root), rig.keep()])


def name_of(suite: type[ConformanceTests]) -> str:
    """Return the name of the driver that a class of tests is for.

    Raises:
        UsageError: the class does not name it.
    """
    name = suite.driver or getattr(suite.factory, "driver_name", "")
    if not name:
        raise pytest.UsageError(
            f'{suite.__qualname__} does not say which driver it tests: add a line such as driver = "mydriver", with '
            "the name of the driver's entry point in the group layerstore.drivers"
        )
    return str(name)


@contextmanager
def _log_beside(directory: Path) -> Iterator[Path]:
    """Write the messages of core and driver, with each call of a hook, to a file next to a directory."""
    from loguru import logger

    from layerstore_core import log

    path = directory.with_suffix(".log")
    log.enable()
    sink = logger.add(
        path, level=0, format="{time:HH:mm:ss.SSS} [{process}] {level} {message}", backtrace=False, diagnose=False
    )
    try:
        yield path
    finally:
        logger.remove(sink)
        path.unlink(missing_ok=True)


@contextmanager
def _directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("conformance")
