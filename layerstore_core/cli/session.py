"""The global options of one run, and the store they lead to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from layerstore_core.cli import output
from layerstore_core.errors import done_before, while_doing

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig
    from layerstore_core.store.store import LayerStore

T = TypeVar("T")


@dataclass
class Session:
    """What stood before the command; `None` and empty mean that the option was not given."""

    root: Path | None = None
    driver: str | None = None
    driver_options: dict[str, str] = field(default_factory=dict)
    config_file: Path | None = None
    json: bool = False
    verbosity: int = 0
    log_json: bool = False
    #: Not even warnings: a shell is completing a word.
    silent: bool = False

    def config(self) -> StoreConfig:
        """Switch logging on, and read the configuration.

        Raises:
            ConfigError: a setting is unknown or cannot be used.
        """
        from layerstore_core import log
        from layerstore_core.config.load import load_config

        if not self.silent:
            log.configure(self.verbosity, json=self.log_json)
        overrides: dict[str, Any] = {}
        if self.root is not None:
            overrides["root"] = self.root
        if self.driver is not None:
            overrides["driver"] = self.driver
        return load_config(self.config_file, driver_options=self.driver_options, **overrides)

    def open(self, *, create: bool = False, reading: bool = False) -> LayerStore:
        """Open the store; use it as a context manager.

        Args:
            create: make a store where there is none. Only a command that puts something in asks for it: a
                mistyped root is to be told, not made.
            reading: nothing is to be changed. Then a root that a Docker daemon has to itself can be opened, too.

        Raises:
            LayerStoreError: there is no store, or the configuration or the driver cannot be used.
            OSError: the root cannot be read or written.
        """
        config = self.config()
        from layerstore_core.errors import RootInUse
        from layerstore_core.store.store import LayerStore

        try:
            with while_doing(f"opening the store {config.root}"):
                try:
                    store = LayerStore.open(config, create=create)
                except RootInUse:
                    if not reading:
                        raise
                    store = LayerStore.open(config, read_only=True)
        except PermissionError as error:
            _tell_owner(error, config.root)
            raise
        _tell_other_drivers(store)
        return store

    def answer(self, document: Mapping[str, Any], lines: Callable[[], Iterable[str]]) -> None:
        """Write the answer to standard output: `document` with `--json`, otherwise `lines()`.

        Raises:
            OutputClosed: nobody reads it any more.
            OSError: it cannot be written.
        """
        if self.json:
            output.write_document(document)
        else:
            output.write_lines(lines())

    def answer_for(self, action: Callable[[], T], answer: Callable[[T], None]) -> T:
        """Do something to several objects, and answer; where it fails half way, answer for what was done, too.

        Args:
            action: does it; its error's attribute `done`, if there is one, is what it would have returned.
            answer: answers for what was done.

        Returns:
            What was done.
        """
        try:
            done = action()
        except BaseException as error:
            partly = done_before(error)
            if partly is not None:
                with suppress(output.OutputClosed, OSError):  # the error matters more
                    answer(partly)
            raise
        answer(done)
        return done


def _tell_owner(error: PermissionError, root: Path) -> None:
    try:
        owner = os.stat(root).st_uid
    except OSError:
        return
    if owner != os.geteuid():
        error.add_note(f"it belongs to user {owner}, and this is user {os.geteuid()}")


def _tell_other_drivers(store: LayerStore) -> None:
    """Warn a user who sees an empty store that the layers are there, with another driver."""
    from layerstore_core.driver.prior import prior_drivers
    from layerstore_core.log import logger

    present = prior_drivers(store.root)
    if present and store.driver_name not in present:
        logger.warning(
            "{} has no layers of driver {}, but some of {}: to use those, name the driver (--driver, LAYERSTORE_DRIVER)",
            store.root,
            store.driver_name,
            " and ".join(present),
        )
