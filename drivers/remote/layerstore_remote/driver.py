"""The driver: each hook is a call to a server."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final, cast

import layerstore_core
from layerstore_core import Capabilities, hookimpl
from layerstore_core.errors import ConfigError, DriverNotSupported, LayerStoreError
from layerstore_remote.claim import Note
from layerstore_remote.home import RemoteHome
from layerstore_remote.paths import ServerPaths
from layerstore_remote.server import Caller, Facts, Server

if TYPE_CHECKING:
    from pathlib import Path

    from layerstore_core import Change, DriverContext, LayerStream, MountSpec
    from layerstore_remote.answers import Answer
    from layerstore_remote.options import RemoteOptions

#: A server with Docker's methods alone may count the users of a mount. It is asked this often to unmount at most.
_MOST_USERS: Final = 64


class RemoteDriver:
    """A driver whose layers are kept by a server in another process.

    Nothing is asked of the server before the first hook that needs it.

    Args:
        context: the surroundings of this instance.

    Raises:
        ConfigError: the option `address` is missing.
    """

    contract: ClassVar = 1
    Options: ClassVar = "layerstore_remote.options:RemoteOptions"

    def __init__(self, context: DriverContext) -> None:
        options = _options_of(context)
        self._context = context
        self._options = options
        self._paths = ServerPaths(options.address, options.server_path, options.local_path)
        self._home = RemoteHome(Note(context.home), adopt=options.adopt)
        self._server = Server(
            options.address,
            connect_timeout=options.connect_timeout,
            timeout=options.timeout,
            home=_home_of(context.home, options),
            id_mapping=context.id_mapping,
            recognize=self._recognize,
        )
        #: Where this instance has mounted layers.
        self._mounted: dict[str, str] = {}
        self._flushes: bool | None = None

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Ask the server what it is.

        Raises:
            ConfigError: the option `address` is missing.
            DriverNotSupported: the server does not answer as a graph driver.
        """
        driver = cls(context)
        try:
            _ = driver._server.facts
        except ConfigError:
            raise
        except (LayerStoreError, OSError) as error:
            raise DriverNotSupported(str(error)) from error
        finally:
            driver._server.connections.close()

    # Layers

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        self._create("GraphDriver.Create", layer_id, parent_id, "", storage_opt)

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self._create("GraphDriver.CreateReadWrite", layer_id, parent_id, mount_label, storage_opt)
        self._flush()

    @hookimpl
    def remove(self, layer_id: str) -> None:
        if self._has_nothing():
            return
        if self._is_ours:
            self._server.call("GraphDriver.Remove", ID=layer_id)
        elif self._exists(layer_id):
            self._unmount_counted(layer_id)
            self._server.call("GraphDriver.Remove", ID=layer_id)
        self._mounted.pop(layer_id, None)

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return not self._has_nothing() and self._exists(layer_id)

    @hookimpl
    def layer_ids(self) -> list[str] | None:
        if not self._server.has("LayerIDs"):
            return None
        if self._has_nothing():
            return []
        found = self._server.call("Layerstore.LayerIDs", long=True, repeatable=True).texts("IDs")
        return [layer_id for layer_id in found if not self._home.is_mark(layer_id)]

    @hookimpl
    def check_layer(self, layer_id: str, parent_id: str) -> list[str] | None:
        if self._has_nothing() or not self._server.has("CheckLayer"):
            return None
        return self._server.call("Layerstore.CheckLayer", repeatable=True, ID=layer_id, Parent=parent_id).texts(
            "Problems"
        )

    @hookimpl
    def parent_of(self, layer_id: str, parent_id: str) -> str | None:
        if self._has_nothing() or not self._server.has("ParentOf"):
            return None
        answer = self._server.call("Layerstore.ParentOf", repeatable=True, ID=layer_id, Parent=parent_id)
        return answer.get("Parent", str) if answer.has("Parent") else None

    @hookimpl
    def repair_layer(self, layer_id: str, parent_id: str, proved: bool) -> list[str] | None:
        if self._has_nothing() or not self._server.has("RepairLayer"):
            return None
        return self._server.call("Layerstore.RepairLayer", ID=layer_id, Parent=parent_id, Proved=proved).texts("Done")

    @hookimpl
    def check_home(self, full: bool) -> list[str] | None:
        if self._has_nothing() or not self._server.has("CheckHome"):
            return None
        return self._server.call("Layerstore.CheckHome", repeatable=True, Full=full).texts("Problems")

    @hookimpl
    def repair_home(self) -> list[str] | None:
        if self._has_nothing() or not self._server.has("RepairHome"):
            return None
        return self._server.call("Layerstore.RepairHome").texts("Done")

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        if self._has_nothing():
            raise _no_layer(layer_id)
        with self._missing_is_known(layer_id):
            answer = self._server.call("GraphDriver.GetMetadata", repeatable=True, ID=layer_id)
        found: dict[Any, Any] = answer.get("Metadata", dict, {})
        if not all(isinstance(value, str) for value in found.values()):
            raise answer.bad("metadata that is not all text")
        # Drivers that have nothing to tell of a layer may not look for it.
        if set(found) <= {"ID"} and not self._exists(layer_id):
            raise _no_layer(layer_id)
        return found

    # Mounts

    @hookimpl
    def get(self, layer_id: str, mount_label: str) -> str:
        if self._has_nothing():
            raise _no_layer(layer_id)
        with self._missing_is_known(layer_id):
            answer = self._server.call("GraphDriver.Get", ID=layer_id, MountLabel=mount_label)
        try:
            seen = (answer.get("Device", int, 0), answer.get("Inode", int, 0)) if answer.has("Inode") else None
            path = self._paths.tree(answer.get("Dir", str, ""), seen)
        except LayerStoreError:
            self._server.call("GraphDriver.Put", ID=layer_id, All=True)
            raise
        self._mounted[layer_id] = path
        return path

    @hookimpl
    def put(self, layer_id: str) -> None:
        if self._has_nothing():
            return
        if self._is_ours:
            self._server.call("GraphDriver.Put", ID=layer_id, All=True)
        else:
            self._unmount_counted(layer_id)
        self._mounted.pop(layer_id, None)

    def gives_mounts(self) -> bool:
        """Return whether the server's driver has the hook `mounts`."""
        return self._server.has("Mounts")

    @hookimpl
    def mounts(self, layer_id: str, read_only: bool) -> list[MountSpec] | None:
        if self._has_nothing():
            raise _no_layer(layer_id)
        if not self._server.has("Mounts"):
            return None
        answer = self._server.call("Layerstore.Mounts", repeatable=True, ID=layer_id, ReadOnly=read_only)
        return [self._mount_of(answer, one) for one in answer.get("Mounts", list, [])] or None

    @hookimpl
    def seal(self, layer_id: str) -> bool | None:
        if self._has_nothing():
            raise _no_layer(layer_id)
        if not self._server.has("Seal"):
            if not self._exists(layer_id):
                raise _no_layer(layer_id)
            return None
        sealed = self._server.call("Layerstore.Seal", ID=layer_id).get("Sealed", bool, False)
        self._flush()
        return sealed

    # The driver itself

    @hookimpl
    def status(self) -> list[tuple[str, str]]:
        facts = self._server.facts
        rows = [("Server", self._options.address), ("Server driver", facts.driver or "unknown")]
        if facts.directory:
            rows.append(("Server directory", facts.directory))
        answer = self._server.call("GraphDriver.Status", repeatable=True)
        for row in answer.get("Status", list, []):
            if not isinstance(row, list) or len(row) != 2 or not all(isinstance(text, str) for text in row):
                raise answer.bad("a status that is not pairs of text")
            rows.append((row[0], row[1]))
        return rows

    @hookimpl
    def capabilities(self) -> Capabilities:
        options = self._options
        found, answer = self._capabilities()
        depth = found.get("MaxDepth")
        if answer is not None and depth is not None and (type(depth) is not int or depth < 1):
            raise answer.bad("a MaxDepth that is no number of layers")
        return Capabilities(
            reproduces_exact_diffs=(
                _said(found, "ReproducesExactDiffs")
                if options.reproduces_exact_diffs is None
                else options.reproduces_exact_diffs
            )
            and options.diffs != "store",
            max_depth=depth if options.max_depth is None else options.max_depth,
            quota=_said(found, "Quota") if options.quota is None else options.quota,
            shares_inodes=_said(found, "SharesInodes"),
        )

    # The diff family. What a hook answers with `None`, the store does itself, in the mounted trees.

    @hookimpl
    def apply_diff(self, layer_id: str, parent_id: str, diff: LayerStream) -> int | None:
        if self._options.diffs == "store":
            return None
        size = self._server.apply_diff(layer_id, parent_id, diff)
        self._flush()
        return size

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO | None:
        if self._options.diffs == "store":
            return None
        return cast("BinaryIO", self._server.diff(layer_id, parent_id))

    @hookimpl
    def changes(self, layer_id: str, parent_id: str) -> list[Change] | None:
        if not self._compares:
            return None
        answer = self._server.call("GraphDriver.Changes", long=True, repeatable=True, ID=layer_id, Parent=parent_id)
        found = [self._change_of(answer, one) for one in answer.get("Changes", list, [])]
        return sorted(found, key=lambda change: change.path)

    @hookimpl
    def diff_size(self, layer_id: str, parent_id: str) -> int | None:
        if not self._compares:
            return None
        return self._server.call("GraphDriver.DiffSize", repeatable=True, ID=layer_id, Parent=parent_id).size("Size")

    # Internals

    @property
    def _is_ours(self) -> bool:
        """Whether the server has the additions to Docker's methods."""
        return self._server.facts.version > 0

    @property
    def _compares(self) -> bool:
        """Whether the server is asked for changes and sizes."""
        return self._options.diffs == "server" or (self._options.diffs == "auto" and self._is_ours)

    def _recognize(self, caller: Caller, facts: Facts, user: int) -> None:
        self._paths.trusted = user in (0, os.geteuid())
        self._home.recognize(
            lambda layer_id: caller.call("GraphDriver.Exists", ID=layer_id).get("Exists", bool, False),
            facts.driver,
            facts.text,
            self._options.address,
        )

    def _has_nothing(self) -> bool:
        """Return whether the store has no layers at the server yet."""
        if self._home.is_claimed() and not self._home.to_adopt:
            return False
        if self._home.to_adopt and not self._context.read_only:
            self._home.claim(self._server, self._flush)
            return False
        self._home.require_own(self._server)
        return not self._home.to_adopt

    def _exists(self, layer_id: str) -> bool:
        return self._server.call("GraphDriver.Exists", repeatable=True, ID=layer_id).get("Exists", bool, False)

    def _create(
        self, method: str, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self._home.claim(self._server, self._flush)
        if not self._is_ours:
            # The errors of such a server are texts only, and the class of an error matters here.
            if self._exists(layer_id):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), layer_id)
            if parent_id and not self._exists(parent_id):
                raise _no_layer(parent_id)
        options = dict(storage_opt) or None
        self._server.call(method, ID=layer_id, Parent=parent_id, MountLabel=mount_label, StorageOpt=options)

    def _unmount_counted(self, layer_id: str) -> None:
        """Unmount a layer at a server that may count its users, and may have counted some that have died."""
        from layerstore_core.sdk import is_mount_point  # lazy: seldom needed

        path = self._mounted.get(layer_id)
        for _ in range(_MOST_USERS):
            self._server.call("GraphDriver.Put", ID=layer_id)
            if path is None or not is_mount_point(path):
                return
        raise LayerStoreError(
            f"the server at {self._options.address} leaves layer {layer_id} mounted at {path}, though it was asked "
            f"{_MOST_USERS} times to unmount it: see its log, unmount it, and start the server again"
        )

    def _flush(self) -> None:
        """Have what the server has written on disk, if its files are not on the file system that the store flushes."""
        if not self._server.has("Flush"):
            return
        if self._flushes is None:
            self._flushes = not self._same_file_system()
        if self._flushes:
            self._server.call("Layerstore.Flush")

    def _same_file_system(self) -> bool:
        directory = self._server.facts.directory
        try:
            there = os.stat(self._paths.translated(directory)).st_dev if directory else None
            return there == os.stat(self._context.home).st_dev
        except (OSError, LayerStoreError):
            return False

    def _capabilities(self) -> tuple[dict[str, Any], Answer | None]:
        from layerstore_remote.errors import ServerError

        try:
            answer = self._server.call("GraphDriver.Capabilities", repeatable=True)
        except ServerError:
            return {}, None  # plugins for the first versions of Docker have no such method
        return answer.get("Capabilities", dict, {}), answer

    def _missing_is_known(self, layer_id: str) -> _MissingIsKnown:
        return _MissingIsKnown(self, layer_id)

    def _mount_of(self, answer: Answer, fields: Any) -> MountSpec:
        if isinstance(fields, dict):
            kind, source, options = fields.get("Type"), fields.get("Source"), fields.get("Options") or []
            if (
                isinstance(kind, str)
                and isinstance(source, str)
                and isinstance(options, list)
                and all(isinstance(option, str) for option in options)
            ):
                return self._paths.mount(kind, source, options)
        raise answer.bad("mounts that are none")

    def _change_of(self, answer: Answer, fields: Any) -> Change:
        if isinstance(fields, dict):
            path, kind = fields.get("Path"), fields.get("Kind", 0)
            kinds = layerstore_core.ChangeKind.MODIFY, layerstore_core.ChangeKind.ADD, layerstore_core.ChangeKind.DELETE
            if isinstance(path, str) and path.startswith("/") and type(kind) is int and 0 <= kind < len(kinds):
                name = answer.path_bytes(path)
                if b"\0" not in name and b".." not in name.split(b"/"):
                    return layerstore_core.Change(name, kinds[kind])
        raise answer.bad("changes that are none")


class _MissingIsKnown:
    """A context manager: an error about a layer that the server does not have becomes `FileNotFoundError`."""

    def __init__(self, driver: RemoteDriver, layer_id: str) -> None:
        self._driver = driver
        self._layer_id = layer_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from layerstore_remote.errors import ServerError

        if isinstance(error, ServerError) and not self._driver.exists(self._layer_id):
            raise _no_layer(self._layer_id) from error


def _options_of(context: DriverContext) -> RemoteOptions:
    if not context.options:
        raise ConfigError(
            "driver remote needs the option address, the socket of its server: --driver-opt address=/run/NAME.sock, "
            "or a table drivers.remote in the configuration file"
        )
    return cast("RemoteOptions", context.options)


def _home_of(home: Path, options: RemoteOptions) -> str:
    if options.home is not None:
        return options.home
    return f"{options.server_path}/layers" if options.server_path is not None else str(home / "server")


def _said(found: Mapping[str, Any], name: str) -> bool:
    return found.get(name) is True


def _no_layer(layer_id: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), layer_id)
