"""Reading small files of other programs, each once for as long as it does not change."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

from layerstore_core.errors import ConfigError
from layerstore_core.log import logger

#: Where the files of the whole system are.
SYSTEM = Path("/etc")
#: The most that such a file may have, in bytes.
_LIMIT: Final = 4 << 20
_WHAT_TO_DO: Final = (
    'correct it, or name the registry in a table [registries."HOST"] of the configuration of layerstore, which goes '
    "before this file"
)


def home() -> Path | None:
    """Return the user's home directory; `None` if it is not known."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def in_system(*names: str) -> Path:
    """Return the path of a file of the whole system."""
    return SYSTEM.joinpath(*names)


def in_home(*names: str) -> list[Path]:
    """Return the path of a file in the home directory, as a list: empty if that is not known."""
    there = home()
    return [there.joinpath(*names)] if there else []


def damaged(path: Path, what: str) -> ConfigError:
    """Return the error for a file that cannot be used; `what` is wrong."""
    return ConfigError(f"{path}: {what}; {_WHAT_TO_DO}")


def read_toml(path: Path, *, needed: bool = False) -> dict[str, Any] | None:
    """Return what a TOML file holds; `None` if there is none, or if this user may not read it and it is not `needed`.

    Raises:
        ConfigError: it is damaged, or cannot be read; the message says at which line.
    """
    return _parsed(path, _toml, needed)


def read_json(path: Path, *, needed: bool = False) -> dict[str, Any] | None:
    """Return what a JSON file holds; otherwise as `read_toml`."""
    return _parsed(path, _json, needed)


def _parsed(path: Path, parse: Callable[[bytes], Any], needed: bool) -> dict[str, Any] | None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # reading a FIFO would wait for its other side
            raise damaged(path, "it is not a file")
        return _read(path, parse, (status.st_ino, status.st_mtime_ns, status.st_size))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        if needed:
            raise damaged(path, f"it cannot be read: {error.strerror}") from None
        logger.info("{} is not used: this user may not read it", path)
        return None
    except OSError as error:
        raise damaged(path, f"it cannot be read: {error.strerror}") from None


@lru_cache(maxsize=64)
def _read(path: Path, parse: Callable[[bytes], Any], state: tuple[int, int, int]) -> dict[str, Any]:
    """Read a file in a `state`: what changes when the file is written."""
    with open(path, "rb") as file:
        text = file.read(_LIMIT + 1)
    if len(text) > _LIMIT:
        raise damaged(path, f"it is longer than {_LIMIT >> 20} MiB")
    found = parse(text)
    if isinstance(found, str):
        raise damaged(path, found)
    if not isinstance(found, dict):
        raise damaged(path, "it is not a JSON object")
    return found


def _toml(text: bytes) -> Any:
    import tomllib

    try:
        return tomllib.loads(text.decode())
    except UnicodeDecodeError:
        return "it is not TOML: not UTF-8"
    except (ValueError, RecursionError) as error:
        return f"it is not TOML: {str(error) or 'nested too deeply'}"


def _json(text: bytes) -> Any:
    try:
        return json.loads(text or b"{}")
    except json.JSONDecodeError as error:  # its message may quote nothing of the file, which may hold secrets
        return f"it is not JSON: {error.msg} (at line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):
        return "it is not JSON: not UTF-8, or nested too deeply"


class Table:
    """A table of a file, whose values are checked when they are asked for.

    Args:
        path: the file.
        values: the table.
        where: its place in the file, for messages.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], where: str = "") -> None:
        self.path = path
        self.values = values
        self._where = where

    def text(self, key: str, default: str = "") -> str:
        """Return a text."""
        found: str = self._of(key, str, "a text", default)
        return found

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a truth value."""
        found: bool = self._of(key, bool, "true or false", default)
        return found

    def texts(self, key: str) -> list[str] | None:
        """Return a list of texts; one text counts as a list; `None` if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            self.refuse(key, "is not a list of texts")
        return found

    def table(self, key: str) -> Table:
        """Return an inner table; an empty one if there is none."""
        return Table(self.path, self._of(key, dict, "a table", {}), self._name(key))

    def tables(self, key: str) -> Iterator[Table]:
        """Yield the tables of a list of tables."""
        for number, one in enumerate(self._of(key, list, "a list of tables", [])):
            if not isinstance(one, dict):
                self.refuse(key, "is not a list of tables")
            yield Table(self.path, one, f"{self._name(key)}[{number}]")

    def refuse(self, key: str, what: str) -> NoReturn:
        """Raise the error for a value: `what` is wrong with it."""
        raise damaged(self.path, f"{self._name(key)} {what}")

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def _of(self, key: str, kind: type, words: str, default: Any) -> Any:
        value = self.values.get(key, default)
        if not isinstance(value, kind):
            self.refuse(key, f"is not {words}")
        return value
