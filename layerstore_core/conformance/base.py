"""What every group of tests stands on: what a test author says of a driver, and the bench it is tried on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from layerstore_core.conformance.recorder import FILE_SYSTEM, NOTE
from layerstore_core.conformance.rig import Bench, file_system_of
from layerstore_core.errors import DriverNotSupported


class ConformanceTests:
    """The base of all groups; a test author subclasses `DriverConformance`.

    Attributes:
        driver: the driver's name: that of its entry point.
        options: options for the driver, as a configuration file would have them.
        factory: the driver's class, or a function that takes a `DriverContext`, where no entry point offers it.
            Put a function into `staticmethod`.
    """

    driver: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}
    factory: ClassVar[Callable[..., Any] | None] = None

    #: The group that a mixin's tests belong to.
    group: ClassVar[str] = ""

    def make_root(self, tmp_path_factory: pytest.TempPathFactory) -> AbstractContextManager[Path]:
        """A directory on the file system that the driver needs, for all tests of the class.

        Override it as a context manager (`contextlib.contextmanager`) that makes a file system, mounts it, yields
        the directory, and takes all away again. The default is a directory of pytest's.
        """
        return _directory(tmp_path_factory)

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest, conformance_root: Path) -> Iterator[Bench]:
        """A fresh root with an instance of the driver, and a look at what is left when the test has ended."""

        def note(text: str) -> None:
            request.node.user_properties.append((NOTE, text))

        directory = conformance_root / secrets.token_hex(4)
        # A function in a class would become a method.
        factory = type(self).__dict__.get("factory", type(self).factory)
        factory = factory.__func__ if isinstance(factory, staticmethod) else factory
        try:
            bench = Bench(_name_of(type(self)), factory, self.options, directory, note)
        except DriverNotSupported as error:
            pytest.skip(f"the driver says that it cannot work here: {error}")
        request.node.user_properties.append((FILE_SYSTEM, file_system_of(bench.root)))
        with bench:
            yield bench


def _name_of(suite: type[ConformanceTests]) -> str:
    name = suite.driver or getattr(suite.factory, "driver_name", "")
    if not name:
        raise pytest.UsageError(
            f'{suite.__qualname__} does not say which driver it tests: add a line such as driver = "mydriver", the '
            "name of its entry point in the group layerstore.drivers"
        )
    return str(name)


@contextmanager
def _directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("conformance")
