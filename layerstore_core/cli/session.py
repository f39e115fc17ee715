"""The global options of one command line, and the store that they select."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from layerstore_core.base.kernels import keep_memory
from layerstore_core.cli import output
from layerstore_core.errors import UserNamespaceError, done_before, while_doing

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig
    from layerstore_core.store.store import LayerStore

T = TypeVar("T")


@dataclass(repr=False, eq=False)  # what is not generated does not delay the start
class Session:
    """The options before the command; `None` or empty means that the option was not given."""

    root: Path | None = None
    driver: str | None = None
    driver_options: dict[str, str] = field(default_factory=dict)
    config_file: Path | None = None
    json: bool = False
    verbosity: int = 0
    log_json: bool = False
    #: Log nothing, not even warnings: a shell is completing a word.
    silent: bool = False
    #: Why the command runs in no user namespace, although the driver needs one.
    outside_because: UserNamespaceError | None = None

    def config(self) -> StoreConfig:
        """Set up logging, and read the configuration.

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

    def open(
        self,
        *,
        create: bool = False,
        adding: bool = False,
        reading: bool = False,
        content: bool | None = None,
        lasting: bool = False,
    ) -> LayerStore:
        """Open the store; use the result as a context manager.

        Args:
            create: create the store if there is none. Only commands that add something set this: for the others,
                a mistyped root has to be an error and not a new store.
            adding: the command makes a layer, in a store that there is.
            reading: the command changes nothing. It may then also open a root that a Docker daemon has locked.
            content: whether the command reads or writes files of layers, and not only records. For an ordinary user it
                then runs in a user namespace, if the driver needs one. The default is that commands which read do not.
            lasting: the command leaves a mount behind.

        Raises:
            UserNamespaceError: the mount that is to last would end with this process.
            LayerStoreError: there is no store, or the configuration or the driver cannot be used.
            OSError: the root cannot be read or written.
        """
        config = self.config()
        if not reading if content is None else content:
            self._enter_namespace(config, create=create, only_for_owners=reading, lasting=lasting)
        if create or adding:
            # Such a command gets and frees memory for all of a layer's bytes, a piece at a time, and ends soon.
            keep_memory()
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
            _add_owner(error, config.root)
            raise
        _warn_of_other_drivers(store)
        return store

    def _enter_namespace(self, config: StoreConfig, *, create: bool, only_for_owners: bool, lasting: bool) -> None:
        """Enter a user namespace if the driver needs one; if none can be entered, note why.

        Without one, records and many files can still be read, and all that a driver like vfs does can be done.
        """
        from layerstore_core.rootless.rights import Missing, missing_to_mount

        if missing_to_mount() is Missing.NOTHING or not _may_be_written(config.root):
            return
        if not create:
            from layerstore_core.store.locate import has_store

            if not has_store(config.root):
                return
        if only_for_owners:
            from layerstore_core.rootless.subordinate import subordinate_ids

            if not subordinate_ids(os.geteuid()):
                return  # all files belong to this user
        from layerstore_core.driver.namespace import enter_user_namespace, needs_namespace

        if lasting and needs_namespace(config):
            raise UserNamespaceError(
                "the mount would end with this command: the driver mounts in a user namespace, which ends with its "
                "last process. Mount in a shell that stays in it: 'layerstore unshare', or "
                "'layerstore unshare sh -c COMMANDS'"
            )
        try:
            enter_user_namespace(config)
        except UserNamespaceError as error:
            self.outside_because = error

    def answer(self, document: Mapping[str, Any], lines: Callable[[], Iterable[str]]) -> None:
        """Write the answer to standard output: `document` with `--json`, otherwise `lines()`.

        Raises:
            OutputClosed: the reader has closed standard output.
            OSError: it cannot be written.
        """
        if self.json:
            output.write_document(document)
        else:
            output.write_lines(lines())

    def answer_for(self, action: Callable[[], T], answer: Callable[[T], None]) -> T:
        """Change several objects, and write the answer; if that fails half way, write it for the objects changed.

        Args:
            action: changes the objects, and returns the result. If it fails, the attribute `done` of its error, if
                there is one, is the result so far.
            answer: writes the answer for a result.

        Returns:
            The result of `action`.
        """
        try:
            done = action()
        except BaseException as error:
            partly = done_before(error)
            if partly is not None:
                with suppress(output.OutputClosed, OSError):  # the error of `action` matters more
                    answer(partly)
            raise
        answer(done)
        return done


def _add_owner(error: PermissionError, root: Path) -> None:
    """Add to the error which user owns the root, if that is another user."""
    try:
        owner = os.stat(root).st_uid
    except OSError:
        return
    if owner != os.geteuid():
        error.add_note(f"the store belongs to user {owner}, and this is user {os.geteuid()}")


def _may_be_written(root: Path) -> bool:
    """Return whether this user may write the root, or make it. In another user's root, a namespace gives no rights."""
    while not os.path.lexists(root) and root != root.parent:
        root = root.parent
    return os.access(root, os.W_OK | os.X_OK)


def _warn_of_other_drivers(store: LayerStore) -> None:
    """Warn if the store is empty with this driver, but has layers of another driver."""
    from layerstore_core.driver.prior import prior_drivers
    from layerstore_core.log import logger

    present = prior_drivers(store.root)
    if present and store.driver_name not in present:
        logger.warning(
            "{} has no layers of driver {}, but some of {}; to use those, set the driver (--driver, LAYERSTORE_DRIVER)",
            store.root,
            store.driver_name,
            " and ".join(present),
        )
