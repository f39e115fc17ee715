"""The driver as a Docker daemon uses it: opened by Init, with mounts that outlive the server.

The daemon sends Init when it starts, and then only other calls. So what Init has said is kept in a file of the root,
and a server that starts again goes on where the last one has ended::

    <root>/layerstore/docker/<driver>/state.json

The daemon counts its users of a mount only partly. As Docker's own drivers do, this counts each Get, unmounts at the
last Put, and counts a mount that was there before Init as one user (moby, `daemon/graphdriver/counter.go`).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any, Final

from layerstore_core import ConfigError, LayerStoreError
from layerstore_core.errors import BadRecord, RootInUse, while_doing
from layerstore_core.log import logger
from layerstore_core.sdk import inside, make_directory, open_driver

if TYPE_CHECKING:
    from layerstore_core import StoreConfig
    from layerstore_core.sdk import BoundDriver

_LONGEST_STATE: Final = 16 << 20
#: How long an Init that changes settings waits for other calls to end, in seconds.
_PATIENCE: Final = 30.0

#: Makes the settings from the options of a driver, and from ranges of user and group IDs.
Settings = Callable[[Mapping[str, str], Sequence[str], Sequence[str]], "StoreConfig"]


@dataclass(frozen=True)
class InitRequest:
    """What Init says.

    Attributes:
        home: the directory that the daemon has for the driver. This server has its own root, and only shows it.
        options: the daemon's storage options, by name.
        uid_map: ranges of user IDs, `container:host:length`.
        gid_map: ranges of group IDs.
    """

    home: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    uid_map: Sequence[str] = ()
    gid_map: Sequence[str] = ()


class LentDriver:
    """One driver of one root, for any number of threads.

    Args:
        settings: makes the settings of the driver.

    Raises:
        LayerStoreError: the driver cannot be used, or another process uses the root.
        OSError: the root cannot be read or written.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = ExitStack()
        self._driver: BoundDriver | None = None
        self._home = -1
        self._config = settings({}, (), ())
        self._init = InitRequest()
        self._users: dict[str, int] = {}
        self._layers = _KeyedLocks()
        self._calls = Condition()
        self._running = 0
        self._changing = False
        self._saving = Lock()
        self._saved: dict[str, int] = {}
        self._open(None)

    def close(self) -> None:
        """Close the driver. Layers that the daemon has mounted stay mounted."""
        self._driver = None
        self._opened.close()

    @property
    def init_request(self) -> InitRequest:
        """What the last Init has said."""
        return self._init

    @property
    def mounted_layers(self) -> int:
        """How many layers the daemon has mounted."""
        return len(self._users)

    @contextmanager
    def driver(self) -> Iterator[BoundDriver]:
        """Use the driver for the length of a `with` block. Init waits for the end of it if it changes settings."""
        with self._calls:
            self._calls.wait_for(lambda: not self._changing)
            if self._driver is None:
                raise LayerStoreError("the server is stopping")
            self._running += 1
            driver = self._driver
        try:
            yield driver
        finally:
            with self._calls:
                self._running -= 1
                self._calls.notify_all()

    @contextmanager
    def changing(self, layer_id: str) -> Iterator[BoundDriver]:
        """Use the driver alone for one layer, for the length of a `with` block: drivers need not stand two at once."""
        with self._layers.locked(layer_id), self.driver() as driver:
            yield driver

    def init(self, request: InitRequest, *, restarted: bool) -> None:
        """Begin to serve a client.

        Args:
            request: what it has said.
            restarted: whether it is a daemon that has just started, and has no users of mounts yet. Otherwise it is
                one of several connections of a client; then what the daemon has said stays, if it is not contradicted.

        Raises:
            ConfigError: the driver does not know an option, or its layers have other ranges of IDs.
            RootInUse: settings would change while other calls are running.
        """
        with self._calls:
            if not self._calls.wait_for(lambda: not self._changing, _PATIENCE):
                raise RootInUse("another Init is running; try again later")
            self._changing = True
        try:
            if not restarted:
                options = request.options or self._init.options
                request = replace(request, home=self._init.home, options=options)
            if restarted or request != self._init:
                self._apply(request)
            if restarted:
                self._users = dict.fromkeys(self._users, 1)
                self._save(always=True)
        finally:
            with self._calls:
                self._changing = False
                self._calls.notify_all()

    def get(self, layer_id: str, mount_label: str) -> str:
        """Mount a layer, or count one more user. Return the path of its tree."""
        with self.changing(layer_id) as driver:
            path = driver.get(layer_id, mount_label, keep=True)
            self._count(layer_id, self._users.get(layer_id, 0) + 1)
            return path

    def put(self, layer_id: str, *, whole: bool = False) -> None:
        """Count one user less, and unmount the layer after the last. Without a user, nothing happens.

        Args:
            layer_id: the layer.
            whole: there is no user any more: unmount it, whichever process has mounted it.
        """
        with self.changing(layer_id) as driver:
            users = self._users.get(layer_id, 0)
            self._count(layer_id, 0 if whole else users - 1)
            if whole and not driver.end_kept_mount(layer_id):
                driver.unmount_stale(layer_id)
            elif users == 1:
                driver.end_kept_mount(layer_id)

    def seal(self, layer_id: str) -> bool:
        """Make a writable layer read-only without a copy; see the contract's `seal`.

        Raises:
            OSError: the layer is mounted (EBUSY).
        """
        with self.changing(layer_id) as driver:
            if layer_id in self._users:
                raise OSError(errno.EBUSY, "the layer is mounted; send Put first", layer_id)
            return driver.seal(layer_id)

    def remove(self, layer_id: str) -> None:
        """Remove a layer, mounted or not."""
        with self.changing(layer_id) as driver:
            driver.remove(layer_id)
            self._count(layer_id, 0)

    def flush(self) -> None:
        """Wait until all that was written to the driver's home is on disk: syncfs(2).

        The descriptor is open since the driver is, so that no earlier error of writing is missed.
        """
        with self.driver() as driver:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(self._home):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(driver.home))

    def cleanup(self) -> None:
        """Unmount all layers that the daemon has mounted: it has no containers any more."""
        failure: Exception | None = None
        for layer_id in list(self._users):
            try:
                with self.changing(layer_id) as driver:
                    self._count(layer_id, 0)
                    driver.end_kept_mount(layer_id)
            except (LayerStoreError, OSError) as error:
                logger.warning("layer {} stays mounted: {}", layer_id, error)
                failure = failure or error
        with self.driver() as driver:
            driver.cleanup()
        if failure is not None:
            raise failure

    # Init

    def _apply(self, request: InitRequest) -> None:
        settings = self._settings(request.options, request.uid_map, request.gid_map)
        before = self._init
        if (request.uid_map, request.gid_map) != (before.uid_map, before.gid_map):
            known = self._driver.layer_ids() if self._driver is not None else None
            # A driver that cannot list its layers has none before the first Init.
            if known or (known is None and before != InitRequest()):
                raise ConfigError(
                    f"the layers in {self._config.root} were made with the ranges of IDs {_ranges(before)}, and the "
                    f"daemon wants {_ranges(request)}; serve it from another root"
                )
        if settings != self._config:
            with self._calls:
                if not self._calls.wait_for(lambda: self._running == 0, _PATIENCE):
                    raise RootInUse("Init changes the driver's settings while other calls are running; try again later")
            self.close()
            try:
                self._open(request)
            except BaseException:
                self._open(before)
                raise
            if request.uid_map or request.gid_map:
                assert self._driver is not None
                _hand_over(self._driver.home, settings.id_mapping.root_pair()[1])
        self._init = request
        self._save(always=True)

    def _open(self, request: InitRequest | None) -> None:
        """Open the driver as Init has said; `None`: as the last Init of the last server."""
        config, state = self._config, _State()
        if request is not None:
            config = self._settings(request.options, request.uid_map, request.gid_map)
        with ExitStack() as opened:
            driver = opened.enter_context(open_driver(config))
            state = _read(_path(config, driver))
            if request is None and state.init != InitRequest():
                opened.close()
                self._open(state.init)
                return
            home = driver.home if driver.home.is_dir() else config.root  # some drivers make it for the first layer
            self._home = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, self._home)
            self._opened = opened.pop_all()
        self._config, self._driver, self._init = config, driver, request or InitRequest()
        kept = driver.kept_mounts()
        if state.boot != _boot():
            for layer_id in kept:  # the machine has started again since: nothing is mounted
                driver.end_kept_mount(layer_id)
            kept = []
        self._users = {layer_id: max(1, state.users.get(layer_id, 1)) for layer_id in kept}
        self._saved = {}
        self._save(always=True)

    # Counts

    def _count(self, layer_id: str, users: int) -> None:
        if users > 0:
            self._users[layer_id] = users
        else:
            self._users.pop(layer_id, None)
        self._save()

    def _save(self, *, always: bool = False) -> None:
        """Write the state, if it is not as the next server would assume it: one user of each mount."""
        with self._saving:
            several = {layer_id: users for layer_id, users in list(self._users.items()) if users > 1}
            if (always or several != self._saved) and self._driver is not None:
                state = _State(self._init, several, _boot())
                _write(_path(self._config, self._driver), state, durable=always)
                self._saved = several


@dataclass(frozen=True)
class _State:
    """The content of the file: the last Init, the layers with several users, and the boot in which they have them."""

    init: InitRequest = field(default_factory=InitRequest)
    users: Mapping[str, int] = field(default_factory=dict)
    boot: str = ""


class _KeyedLocks:
    """A lock for each key that anyone uses."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._locks: dict[str, tuple[Lock, int]] = {}

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        with self._mutex:
            lock, users = self._locks.get(key, (Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._mutex:
                _, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = lock, users - 1


def has_hook(driver: BoundDriver, hook: str) -> bool:
    """Return whether the driver, or a wrapper of it, has an optional hook."""
    return any(found.plugin_name != "fallback" for found in getattr(driver.plugins.hook, hook).get_hookimpls())


def _hand_over(home: Path, group: int) -> None:
    """Give the directories of a driver without layers to the group of the containers' root, which has to enter them."""
    made = [home] if inside.is_directory(home) else []  # some drivers make it for the first layer
    for path in (*made, *(home / name for name in inside.directory_names(home))):
        with inside.open_directory(path) as fd:
            if os.fstat(fd).st_mode & stat.S_IXGRP:
                os.chown(fd, -1, group)
    for path in home.parents:
        if not path.stat().st_mode & stat.S_IXOTH:
            logger.error("users of containers cannot enter {}, so no container can start; give it mode 0711", path)


def _path(config: StoreConfig, driver: BoundDriver) -> Path:
    return config.root / "layerstore" / "docker" / driver.name / "state.json"


def _read(path: Path) -> _State:
    """Read the state of the last server; raise `BadRecord` if it is damaged, since owners depend on it."""
    try:
        document = json.loads(inside.read(path, _LONGEST_STATE))
        init = document["Init"]
        users = {str(layer): int(count) for layer, count in document["Users"].items()}
        request = InitRequest(str(init["Home"]), dict(init["Options"]), tuple(init["UIDMaps"]), tuple(init["GIDMaps"]))
        return _State(request, users, str(document["Boot"]))
    except FileNotFoundError:
        return _State()
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise BadRecord(
            path, "not the state of a server; remove it, and start the Docker daemon again, which sends Init"
        ) from None


def _write(path: Path, state: _State, *, durable: bool) -> None:
    init = state.init
    document: dict[str, Any] = {
        "Init": {
            "Home": init.home,
            "Options": dict(init.options),
            "UIDMaps": list(init.uid_map),
            "GIDMaps": list(init.gid_map),
        },
        "Users": dict(state.users),
        "Boot": state.boot,
    }
    with while_doing(f"writing {path}"):
        make_directory(path.parent, 0o700)
        partial = path.parent / f".tmp-{secrets.token_hex(8)}"
        try:
            inside.write(partial, json.dumps(document).encode(), 0o644, durable=durable)
            inside.rename(partial, path)
            if durable:
                inside.flush(path.parent)
        except BaseException:
            inside.unlink(partial, missing_ok=True)
            raise


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _ranges(request: InitRequest) -> str:
    if not request.uid_map and not request.gid_map:
        return "none"
    return f"{','.join(request.uid_map)} (users) and {','.join(request.gid_map)} (groups)"
