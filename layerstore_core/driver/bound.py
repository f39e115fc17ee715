"""A driver as the store calls it: with checked return values, counted mounts, the fallback and the wrappers."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import pluggy

from layerstore_core.driver import hookspecs
from layerstore_core.driver.capabilities import Capabilities
from layerstore_core.driver.fallback import Fallback
from layerstore_core.driver.mount_spec import MountSpec
from layerstore_core.driver.mounts import MountCounts, label_of
from layerstore_core.errors import ConfigError, DriverContractError
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.log import logger, wants_details

if TYPE_CHECKING:
    from layerstore_core.diff.change import Change
    from layerstore_core.driver.context import DriverContext
    from layerstore_core.driver.hookspecs import FileGetter
    from layerstore_core.tar.layer_stream import LayerStream
    from layerstore_core.verify.difference import Difference
    from layerstore_core.verify.expected import LayerEntry

_T = TypeVar("_T")

#: The form of an ID in the contract. Any other text could lead out of a driver's home as a path, so no hook that makes,
#: mounts or removes gets it.
_LAYER_ID: Final = r"[a-z0-9-]{1,128}"

#: What is passed on of the sentences of a driver about its home: how many, and how many characters of each.
_MOST_SENTENCES: Final = 100
_LONGEST_SENTENCE: Final = 1000


class BoundDriver:
    """One driver instance, registered in its own plugin manager.

    Its methods are those of the contract (`layerstore_core.driver.hookspecs`). `get` and `put` are counted. Text that
    cannot be an ID is an unknown ID for `remove`, `exists` and `get`; `create` and `create_read_write` refuse it.

    Args:
        name: the driver's name on disk.
        instance: the driver, as the entry point's class has created it.
        context: the context that it was created with.
        locks: the locks of the root.
        mounts_directory: the directory in which mounts are recorded.
        wrappers: plugins that wrap the driver's hooks, each with its name.

    Raises:
        DriverContractError: the driver lacks a required hook, or has a hook that cannot be called.
    """

    def __init__(
        self,
        name: str,
        instance: object,
        context: DriverContext,
        *,
        locks: RootLocks,
        mounts_directory: Path,
        wrappers: Iterable[tuple[str, object]] = (),
    ) -> None:
        self.name: Final = name
        self.home: Final = context.home
        self.plugins: Final = _Plugins(hookspecs.PROJECT)
        self.plugins.add_hookspecs(hookspecs)
        self._instance: Final = instance
        self._register(instance, f"driver {name}")
        self._check_required(name)
        self.plugins.register(Fallback(self, context.id_mapping), "fallback")
        for wrapper_name, wrapper in wrappers:
            self._register(wrapper, f"wrapper {wrapper_name}")
        if wants_details():
            _log_calls(self.plugins, name)
        hook = self.plugins.hook
        self._hook: Final = hook
        self._mounts = MountCounts(mounts_directory, locks, self._mount, lambda layer_id: hook.put(layer_id=layer_id))
        self._core: Final = context.core_access()
        self._core.bind(name, self._mounts, locks, self.mounted)

    def __repr__(self) -> str:
        return f"<BoundDriver {self.name} at {self.home}>"

    # Layers

    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        """See `hookspecs.create`.

        Raises:
            ValueError: the new ID has not the form of an ID.
        """
        _check_new_id(layer_id)
        self._hook.create(layer_id=layer_id, parent_id=parent_id, storage_opt=storage_opt)

    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """See `hookspecs.create_read_write`.

        Raises:
            ValueError: the new ID has not the form of an ID.
        """
        _check_new_id(layer_id)
        self._hook.create_read_write(
            layer_id=layer_id, parent_id=parent_id, mount_label=mount_label, storage_opt=storage_opt
        )

    def remove(self, layer_id: str) -> None:
        """See `hookspecs.remove`."""
        if not re.fullmatch(_LAYER_ID, layer_id):
            return
        self._mounts.remove(layer_id, lambda layer_id: self._hook.remove(layer_id=layer_id))

    def exists(self, layer_id: str) -> bool:
        """See `hookspecs.exists`."""
        if not re.fullmatch(_LAYER_ID, layer_id):
            return False
        return self._answer("exists", self._hook.exists(layer_id=layer_id), bool)

    def layer_ids(self) -> list[str] | None:
        """See `hookspecs.layer_ids`. Return `None` if the driver cannot list its layers."""
        found = self._hook.layer_ids()
        return None if found is None else self._answer("layer_ids", found, list)

    def check_layer(self, layer_id: str, parent_id: str) -> list[str]:
        """See `hookspecs.check_layer`."""
        return self._answer("check_layer", self._hook.check_layer(layer_id=layer_id, parent_id=parent_id), list)

    def check_tree(self, layer_id: str, parent_id: str, entries: Iterable[LayerEntry]) -> list[Difference]:
        """See `hookspecs.check_tree`."""
        found = self._hook.check_tree(layer_id=layer_id, parent_id=parent_id, entries=entries)
        return self._answer("check_tree", found, list)

    def parent_of(self, layer_id: str, parent_id: str) -> str | None:
        """See `hookspecs.parent_of`."""
        found = self._hook.parent_of(layer_id=layer_id, parent_id=parent_id)
        return None if found is None else self._answer("parent_of", found, str)

    def repair_layer(self, layer_id: str, parent_id: str, *, proved: bool) -> list[str]:
        """See `hookspecs.repair_layer`. No process mounts or removes the layer at the same time."""
        with self._mounts.changing(layer_id):
            done = self._hook.repair_layer(layer_id=layer_id, parent_id=parent_id, proved=proved)
            return self._answer("repair_layer", done, list)

    def check_home(self, *, full: bool) -> list[str]:
        """See `hookspecs.check_home`."""
        return self._sentences("check_home", self._hook.check_home(full=full))

    def repair_home(self) -> list[str]:
        """See `hookspecs.repair_home`."""
        return self._sentences("repair_home", self._hook.repair_home())

    # Mounts

    def get(self, layer_id: str, mount_label: str = "", *, keep: bool = False) -> str:
        """Mount the layer, or count one more user. See `hookspecs.get` and `MountCounts.get`."""
        _check_known_id(layer_id)
        return self._mounts.get(layer_id, mount_label, keep=keep)

    def put(self, layer_id: str) -> None:
        """Count one user less. Unmount after the last."""
        self._mounts.put(layer_id)

    def end_kept_mount(self, layer_id: str) -> bool:
        """End a mount of `get(…, keep=True)`. Return whether there was one."""
        return self._mounts.end_kept(layer_id)

    def kept_mounts(self) -> list[str]:
        """Return the layers that `get(…, keep=True)` has left mounted, in this process or another, sorted."""
        return self._mounts.kept()

    def is_used(self, layer_id: str) -> bool:
        """Return whether this store uses the layer's mount."""
        return self._mounts.is_used(layer_id)

    def is_mounted(self, layer_id: str) -> bool:
        """Return whether any process uses the layer's mount, or it is to stay mounted."""
        return self._mounts.is_mounted(layer_id)

    @contextmanager
    def mounted(self, layer_id: str, mount_label: str = "") -> Iterator[str]:
        """Mount the layer for the length of a `with` block. The block gets the path of its tree."""
        path = self.get(layer_id, mount_label)
        try:
            yield path
        finally:
            self.put(layer_id)

    def adopt_mounts(self) -> None:
        """See `MountCounts.adopt`."""
        self._mounts.adopt(self.exists)

    def stale_mounts(self) -> list[str]:
        """Return the layers whose mounts are stale: the processes that used them have died."""
        return self._mounts.stale()

    def unmount_stale(self, layer_id: str) -> None:
        """Unmount a layer of `stale_mounts()`, if its mount is still stale."""
        self._mounts.unmount_stale(layer_id)

    def close(self) -> None:
        """Release the mounts that this store uses. From now on the driver may not ask the core for anything."""
        try:
            self._mounts.close()
        finally:
            self._core.unbind(self._mounts)

    # Layers that the caller mounts by itself

    @cached_property
    def gives_mounts(self) -> bool:
        """Whether the driver itself has the hook `mounts`. Otherwise `mounts` keeps layers mounted."""
        if not any(hook.plugin is self._instance for hook in self._hook.mounts.get_hookimpls()):
            return False
        ask = getattr(self._instance, "gives_mounts", None)
        return True if ask is None else self._answer("gives_mounts", ask(), bool)

    def mounts(self, layer_id: str, *, read_only: bool) -> list[MountSpec]:
        """See `hookspecs.mounts`.

        If the driver has no such hook, the layer is mounted, and stays mounted until `end_kept_mount`, `seal` or
        `remove`. The answer is a bind mount of its path.
        """
        _check_known_id(layer_id)
        with self._mounts.changing(layer_id):
            found = self._hook.mounts(layer_id=layer_id, read_only=read_only)
        if found is None:
            return [MountSpec.bind(self.get(layer_id, keep=True), read_only=read_only)]
        if not isinstance(found, list) or not found or not all(map(_is_mount, found)):
            raise DriverContractError(
                f"driver {self.name}: its hook mounts returned {found!r}, not a list of MountSpec: each with a type, a "
                "source and a tuple of options, and an absolute path as the source of a bind mount"
            )
        return found

    def seal(self, layer_id: str) -> bool:
        """See `hookspecs.seal`. A mount of `mounts` or `get(…, keep=True)` is ended before.

        Raises:
            OSError: a process still uses the layer by `get` (EBUSY).
        """
        _check_known_id(layer_id)
        self._mounts.end_kept(layer_id)
        with self._mounts.changing(layer_id):
            if self._mounts.is_used(layer_id) or self._mounts.is_mounted(layer_id):
                raise OSError(errno.EBUSY, f"layer {layer_id} is still mounted by a process; release it first")
            return self._answer("seal", self._hook.seal(layer_id=layer_id), bool)

    # The driver itself

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the driver can do; asked once."""
        return self._answer("capabilities", self._hook.capabilities(), Capabilities)

    def status(self) -> list[tuple[str, str]]:
        """See `hookspecs.status`."""
        fields = self._answer("status", self._hook.status(), list)
        try:
            return [(str(key), str(value)) for key, value in fields]
        except (TypeError, ValueError) as error:
            raise DriverContractError(
                f"driver {self.name}: its hook status returned {fields!r}, which are not pairs"
            ) from error

    def metadata(self, layer_id: str) -> dict[str, str]:
        """See `hookspecs.metadata`."""
        return self._answer("metadata", self._hook.metadata(layer_id=layer_id), dict)

    def cleanup(self) -> None:
        """See `hookspecs.cleanup`."""
        self._hook.cleanup()

    # The diff family

    def apply_diff(self, layer_id: str, parent_id: str, diff: LayerStream) -> int:
        """See `hookspecs.apply_diff`."""
        return self._size("apply_diff", self._hook.apply_diff(layer_id=layer_id, parent_id=parent_id, diff=diff))

    def diff(self, layer_id: str, parent_id: str) -> BinaryIO:
        """See `hookspecs.diff`."""
        stream: BinaryIO = self._with_methods("diff", self._hook.diff(layer_id=layer_id, parent_id=parent_id), "read")
        return stream

    def changes(self, layer_id: str, parent_id: str) -> list[Change]:
        """See `hookspecs.changes`."""
        return self._answer("changes", self._hook.changes(layer_id=layer_id, parent_id=parent_id), list)

    def diff_size(self, layer_id: str, parent_id: str) -> int:
        """See `hookspecs.diff_size`."""
        return self._size("diff_size", self._hook.diff_size(layer_id=layer_id, parent_id=parent_id))

    def usage(self, layer_id: str, parent_id: str) -> tuple[int, int]:
        """See `hookspecs.usage`."""
        found = self._answer("usage", self._hook.usage(layer_id=layer_id, parent_id=parent_id), tuple)
        if len(found) != len(("bytes", "files")):
            raise DriverContractError(
                f"driver {self.name}: its hook usage returned {found!r}, not the numbers of bytes and files"
            )
        return self._size("usage", found[0]), self._size("usage", found[1])

    def diff_getter(self, layer_id: str) -> FileGetter:
        """See `hookspecs.diff_getter`."""
        getter: FileGetter = self._with_methods("diff_getter", self._hook.diff_getter(layer_id=layer_id), "open")
        return getter

    # Checks of what third-party code returns

    def _mount(self, layer_id: str, mount_label: str) -> str:
        path = self._answer("get", self._hook.get(layer_id=layer_id, mount_label=mount_label), str)
        if not os.path.isabs(path):
            raise DriverContractError(f"driver {self.name}: its hook get returned {path!r}, not an absolute path")
        if mount_label and not self._labels_mounts and label_of(path) != mount_label:
            # `MountCounts` unmounts it, unless others use it.
            raise ConfigError(
                f"the driver {self.name} labels no mounts, and the layer was created without the label "
                f"{mount_label!r}; leave the mount label out"
            )
        return path

    @cached_property
    def _labels_mounts(self) -> bool:
        """Whether the driver's `get` takes a mount label at all. One that does not would ignore it silently."""
        implementations = self._hook.get.get_hookimpls()
        return any("mount_label" in one.argnames for one in implementations if not (one.wrapper or one.hookwrapper))

    def _answer(self, hook: str, value: object, kind: type[_T]) -> _T:
        if not isinstance(value, kind):
            raise DriverContractError(
                f"driver {self.name}: its hook {hook} returned {type(value).__name__}, not {kind.__name__}"
            )
        return value

    def _sentences(self, hook: str, value: object) -> list[str]:
        """Check an answer that is a list of sentences, and shorten it."""
        found = self._answer(hook, value, list)
        if not all(isinstance(one, str) for one in found):
            raise DriverContractError(f"driver {self.name}: its hook {hook} returned a list in which not all is text")
        sentences = [one if len(one) <= _LONGEST_SENTENCE else f"{one[:_LONGEST_SENTENCE]}…" for one in found]
        if len(found) > _MOST_SENTENCES:
            sentences[_MOST_SENTENCES - 1 :] = [f"and {len(found) - _MOST_SENTENCES + 1} more of this kind"]
        return sentences

    def _size(self, hook: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise DriverContractError(f"driver {self.name}: its hook {hook} returned {value!r}, not a size in bytes")
        return value

    def _with_methods(self, hook: str, value: Any, method: str) -> Any:
        if not all(callable(getattr(value, name, None)) for name in (method, "close")):
            raise DriverContractError(
                f"driver {self.name}: its hook {hook} returned {type(value).__name__}, "
                f"which has no methods {method} and close"
            )
        return value

    def _register(self, plugin: Any, name: str) -> None:
        try:
            self.plugins.register(plugin, name)
            # Without this check, an unknown hook or a misspelt argument would be found late or never.
            self.plugins.check_pending()
        except pluggy.PluginValidationError as error:
            raise DriverContractError(f"{name} does not follow the contract for drivers: {error}") from error

    def _check_required(self, name: str) -> None:
        missing = [hook for hook in hookspecs.REQUIRED_HOOKS if not getattr(self.plugins.hook, hook).get_hookimpls()]
        if missing:
            raise DriverContractError(
                f"driver {name} lacks the hooks {', '.join(missing)}, which every driver must implement "
                "(with @hookimpl; see layerstore_core.driver.hookspecs)"
            )


class _Plugins(pluggy.PluginManager):
    """The hooks of a driver. More than half of an object's attributes are Python's own, and no hooks.

    pluggy's search in them took a fifth of opening a store.
    """

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


def _log_calls(plugins: pluggy.PluginManager, driver: str) -> None:
    """Log each call of a hook: its IDs and labels, its time in seconds, and its error or the size that it returns."""
    calls = threading.local()

    def before(hook: str, methods: object, arguments: Mapping[str, Any]) -> None:
        calls.began = [*getattr(calls, "began", ()), time.monotonic()]  # a hook may call another one

    def after(outcome: pluggy.Result[Any], hook: str, methods: object, arguments: Mapping[str, Any]) -> None:
        *calls.began, start = calls.began
        words = [value for value in arguments.values() if isinstance(value, str) and value]
        end = ""
        if outcome.exception is not None:
            end = f": {type(outcome.exception).__name__}: {outcome.exception}"
        elif type(outcome.get_result()) is int:
            end = f": {outcome.get_result()} bytes"
        logger.debug("driver {}: {} {} in {:.4f} s{}", driver, hook, " ".join(words), time.monotonic() - start, end)

    plugins.add_hookcall_monitoring(before, after)


def _is_mount(found: Any) -> bool:
    if not isinstance(found, MountSpec) or not isinstance(found.options, tuple):
        return False
    texts = all(isinstance(text, str) for text in (found.type, found.source, *found.options))
    return texts and bool(found.type) and (found.type != "bind" or os.path.isabs(found.source))


def _check_known_id(layer_id: str) -> None:
    if not re.fullmatch(_LAYER_ID, layer_id):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), layer_id)


def _check_new_id(layer_id: str) -> None:
    if not re.fullmatch(_LAYER_ID, layer_id):
        raise ValueError(f"{layer_id!r} is not a layer ID: 1 to 128 characters of a-z, 0-9 and the hyphen")
