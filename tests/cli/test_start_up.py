"""What commands load: upper bounds by name. Most of the time of a short command is that of loading modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import tar_of
from tests.cli.modules import loaded, own

#: Modules that take a millisecond or more, and that no command on layers needs.
SLOW = frozenset(
    {
        "asyncio", "csv", "email", "fastcrc", "google", "importlib.metadata", "importlib_metadata", "isal", "json",
        "logging", "loguru", "multiprocessing", "pydantic", "pydantic_core", "pydantic_settings", "random", "rich",
        "shutil", "sqlite3", "ssl", "subprocess", "tempfile", "tomllib", "traceback", "urllib3", "zipfile",
    }
)  # fmt: skip
#: What reads or writes tars and trees. Commands that do neither do not need it.
OF_CONTENT = ("diff", "images", "maintenance", "registry", "streams", "tar", "tarsplit", "unpack", "verify", "view")


def of_packages(modules: set[str], names: tuple[str, ...]) -> set[str]:
    return {module for module in own(modules) if module.partition(".")[2].partition(".")[0] in names}


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, ...]:
    """The global options for a store of one layer and one writable layer, `w`."""
    options = ("--root", "store", "--driver", "vfs")
    (tmp_path / "a.tar").write_bytes(tar_of({"a": b"a"}))
    for words in (("register", "a.tar"), ("rw", "create", "w")):
        loaded(tmp_path, *options, *words)
    return options


def test_the_version_is_printed_by_three_modules(tmp_path: Path) -> None:
    modules = loaded(tmp_path, "--version")
    assert own(modules) == {"layerstore_core", "layerstore_core._version", "layerstore_core.cli"}
    assert modules <= {*own(modules), "__future__", "gc"}


@pytest.mark.parametrize(
    ("words", "most"),
    [(("ls",), 94), (("rw", "mount", "w"), 98), (("rw", "umount", "w"), 97), (("rw", "rm", "w"), 98)],
    ids=lambda words: words[-2 if "w" in words else 0] if isinstance(words, tuple) else "",
)
def test_a_command_without_content_loads_records_locks_and_the_driver(
    words: tuple[str, ...], most: int, store: tuple[str, ...], tmp_path: Path
) -> None:
    modules = loaded(tmp_path, *store, *words)
    assert modules & (SLOW | {"ctypes", "hashlib"}) == set()
    assert of_packages(modules, OF_CONTENT) == set()
    assert len(own(modules)) <= most


def test_a_writable_layer_on_a_layer_is_created_without_images(store: tuple[str, ...], tmp_path: Path) -> None:
    (chain,) = (path.name for path in (tmp_path / "store/image/vfs/layerdb/sha256").iterdir())
    modules = loaded(tmp_path, *store, "rw", "create", "x", "--parent", chain)
    assert modules & (SLOW - {"shutil"}) == set()
    assert of_packages(modules, ("images", "registry", "tar", "tarsplit", "verify", "view")) == set()


def test_a_small_tar_is_registered_without_images_and_compression(store: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(tar_of({"b": b"b"}))
    modules = loaded(tmp_path, *store, "register", "b.tar")
    assert modules & (SLOW - {"fastcrc", "isal", "google"}) == set()
    assert of_packages(modules, ("diff", "images", "maintenance", "registry", "verify", "view")) == set()
    assert len(own(modules)) <= 140
