"""Find out whether the driver of a store needs a user namespace, and enter one for it.

A driver says with its class attribute `user_namespace` that an ordinary user can use it as root of a user namespace
with mounts of its own, and not otherwise.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn, Unpack

from layerstore_core.base.threads import rest
from layerstore_core.driver import registry
from layerstore_core.driver.prior import chosen_drivers
from layerstore_core.driver.probe import Probe, probe
from layerstore_core.driver.select import names_by_priority
from layerstore_core.errors import LayerStoreError, UserNamespaceError
from layerstore_core.rootless.rights import Missing, missing_to_mount

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig
    from layerstore_core.config.settings import Settings

#: The child's answer begins with this.
_DONE: Final = b"done:"


def needs_namespace(config: StoreConfig) -> bool:
    """Return whether the driver that a store uses, or a new store would use, needs a namespace that this process lacks.

    For a new store without a named driver, the drivers are probed in the order of priority, each in the surroundings
    that it needs. Other errors than "no" are left to the opening of the store.
    """
    try:
        if config.driver is not None:
            return driver_needs_namespace(config.driver)
        prior = chosen_drivers(config.root)
        if prior:
            return len(prior) == 1 and driver_needs_namespace(registry.entry_point_of(prior[0]))
        return missing_to_mount() is not Missing.NOTHING and _is_first_choice(config)
    except (LayerStoreError, OSError):
        return False


def driver_needs_namespace(name: str) -> bool:
    """Return whether a driver needs a namespace that this process lacks.

    Raises:
        DriverNotFound, AmbiguousDriver: as for `registry.load_driver`.
    """
    return registry.wants_user_namespace(registry.load_driver(name)) and missing_to_mount() is not Missing.NOTHING


def enter_user_namespace(config: StoreConfig | None = None, /, **overrides: Unpack[Settings]) -> bool:
    """Move this process into a user namespace, if the driver of a store needs one in order to mount.

    The command line does this by itself. A program calls it first thing: before it starts a thread, and before it opens
    a store. For root, for drivers that mount nothing, and in a namespace that allows mounts already, it does nothing.
    The process becomes root of the namespace, and so do the processes that it starts. Environment, current directory,
    open files and locks stay as they are. Mounts end with the user's last process in the namespace.

    Args:
        config: the settings of the store, all of them; `None`: from arguments, environment, files and defaults.
        overrides: settings by name (`root`, `driver`, …), which take precedence over all others.

    Returns:
        Whether the process was moved.

    Raises:
        UserNamespaceError: the kernel, newuidmap or newgidmap refuses, or the process has several threads. The process
            is where it was. Then a store with such a driver can still be read, as far as its files can be.
        ConfigError: a setting cannot be used.
    """
    if config is None:
        from layerstore_core.config.load import load_config

        config = load_config(**overrides)
    elif overrides:
        config = config.with_overrides(**overrides)
    if not needs_namespace(config):
        return False
    from layerstore_core.rootless.enter import enter

    return enter()


def probe_in_namespace(name: str, config: StoreConfig) -> Probe:
    """Return whether a driver would work under a root, in a user namespace that a child process enters.

    Args:
        name: the driver's name.
        config: the root and the options of drivers.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    rest()  # a child that is forked while there are threads may find locks that are never released
    pid = os.fork()
    if pid == 0:
        _probe_as_child(writing, name, config)
    os.close(writing)
    try:
        with open(reading, "rb") as file:
            answer = file.read()
    finally:
        os.waitpid(pid, 0)
    if answer.startswith(_DONE):
        reason = os.fsdecode(answer.removeprefix(_DONE))
    else:
        reason = "the process that tried the driver in a user namespace has died"
    return Probe(not reason, reason)


def _probe_as_child(fd: int, name: str, config: StoreConfig) -> NoReturn:
    """Enter a namespace, write to a pipe why the driver does not work there, and end this process."""
    try:
        from layerstore_core.rootless.enter import enter

        try:
            enter()
            reason = probe(name, config).reason
        except UserNamespaceError as error:
            reason = str(error)
        with open(fd, "wb") as file:
            file.write(_DONE + os.fsencode(reason))
    finally:
        os._exit(0)


def _is_first_choice(config: StoreConfig) -> bool:
    """Return whether the first driver by priority that works here is one that needs a namespace."""
    for name in names_by_priority(config):
        if driver_needs_namespace(name):
            if probe_in_namespace(name, config).works:
                return True
        elif probe(name, config).works:
            return False
    return False
