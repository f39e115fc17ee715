"""The methods of the protocol, by name. Each takes its arguments, and returns the fields of its answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, Final

from layerstore_core import ChangeKind, LayerStream
from layerstore_docker_plugin.lent import InitRequest, LentDriver, has_hook
from layerstore_docker_plugin.messages import Arguments
from layerstore_docker_plugin.problems import BadRequest

Answer = dict[str, Any]
#: A method whose answer is JSON.
Method = Callable[[LentDriver, Arguments], Answer]
#: A method whose answer is bytes.
Stream = Callable[[LentDriver, Arguments], AbstractContextManager[BinaryIO]]
#: The kinds of changes, as Docker numbers them (moby, `pkg/archive/changes.go`).
_KINDS: Final = {ChangeKind.MODIFY: 0, ChangeKind.ADD: 1, ChangeKind.DELETE: 2}

#: The versions of the additions to Docker's protocol.
_VERSIONS: Final = (1,)
#: The additional methods, and the hook that the driver needs for each; `None` for none.
_HOOKS: Final[dict[str, str | None]] = {
    "LayerIDs": "layer_ids",
    "CheckLayer": "check_layer",
    "RepairLayer": "repair_layer",
    "CheckHome": "check_home",
    "RepairHome": "repair_home",
    "ParentOf": "parent_of",
    "Mounts": "mounts",
    "Seal": "seal",
    "Flush": None,
}


def _activate(lent: LentDriver, given: Arguments) -> Answer:
    return {"Implements": ["GraphDriver"]}


def _init(lent: LentDriver, given: Arguments) -> Answer:
    options: dict[str, str] = {}
    with lent.driver() as driver:
        name = driver.name
    for word in given.texts("Opts"):
        key, equals, value = word.partition("=")
        key = key.removeprefix(f"{name}.").strip()
        if not equals or not key:
            raise BadRequest(f"{given.method}: the storage option {word!r} is not of the form KEY=VALUE")
        options[key] = value
    request = InitRequest(given.text("Home"), options, tuple(given.ranges("UIDMaps")), tuple(given.ranges("GIDMaps")))
    lent.init(request, restarted=not given.peer.version)
    return {}


def _capabilities(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        found = driver.capabilities
    return {
        "Capabilities": {
            "ReproducesExactDiffs": found.reproduces_exact_diffs,
            "MaxDepth": found.max_depth,
            "ParallelApply": found.parallel_apply,
            "Quota": found.quota,
            "SharesInodes": found.shares_inodes,
        }
    }


def _status(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        fields = [("Driver", driver.name), ("Home", str(driver.home)), ("Mounted Layers", str(lent.mounted_layers))]
        return {"Status": [list(pair) for pair in (*fields, *driver.status())]}


def _create(lent: LentDriver, given: Arguments) -> Answer:
    with lent.changing(layer := given.layer()) as driver:
        driver.create(layer, given.parent(), given.table("StorageOpt"))
    return {}


def _create_read_write(lent: LentDriver, given: Arguments) -> Answer:
    with lent.changing(layer := given.layer()) as driver:
        driver.create_read_write(layer, given.parent(), given.text("MountLabel"), given.table("StorageOpt"))
    return {}


def _get(lent: LentDriver, given: Arguments) -> Answer:
    path = lent.get(given.layer(), given.text("MountLabel"))
    status = os.stat(path)  # by which a client sees whether it sees this mount
    return {"Dir": path, "Device": status.st_dev, "Inode": status.st_ino}


def _put(lent: LentDriver, given: Arguments) -> Answer:
    lent.put(given.layer(), whole=given.flag("All"))
    return {}


def _remove(lent: LentDriver, given: Arguments) -> Answer:
    lent.remove(given.layer())
    return {}


def _exists(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"Exists": driver.exists(given.layer())}


def _cleanup(lent: LentDriver, given: Arguments) -> Answer:
    lent.cleanup()
    return {}


def _metadata(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"Metadata": driver.metadata(given.layer())}


def _changes(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        found = driver.changes(given.layer(), given.parent())
    # A name that is not UTF-8 has surrogates, which JSON writes as escapes; Docker shows other characters instead.
    return {"Changes": [{"Path": os.fsdecode(one.path), "Kind": _KINDS[one.kind]} for one in found]}


def _diff_size(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"Size": driver.diff_size(given.layer(), given.parent())}


def _apply_diff(lent: LentDriver, given: Arguments) -> Answer:
    assert given.body is not None
    stream = LayerStream.over(given.body)
    with lent.changing(layer := given.layer("id")) as driver:
        size = driver.apply_diff(layer, given.parent("parent"), stream)
        stream.drain()
    return {"Size": size}


@contextmanager
def _diff(lent: LentDriver, given: Arguments) -> Iterator[BinaryIO]:
    with lent.driver() as driver, driver.diff(given.layer(), given.parent()) as file:
        yield file


def _version(lent: LentDriver, given: Arguments) -> Answer:
    known = [version for version in given.numbers("Versions") if version in _VERSIONS]
    if not known:
        raise BadRequest(f"{given.method}: this server knows the versions {', '.join(map(str, _VERSIONS))}")
    given.peer.version = max(known)
    with lent.driver() as driver:
        return {
            "Version": given.peer.version,
            "Driver": driver.name,
            "Directory": str(driver.home),
            "Methods": [name for name, hook in _HOOKS.items() if hook is None or has_hook(driver, hook)],
        }


def _layer_ids(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"IDs": driver.layer_ids()}


def _check_layer(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"Problems": driver.check_layer(given.layer(), given.parent())}


def _repair_layer(lent: LentDriver, given: Arguments) -> Answer:
    with lent.changing(layer := given.layer()) as driver:
        return {"Done": driver.repair_layer(layer, given.parent(), proved=given.flag("Proved"))}


def _check_home(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        # A client from before there was `Full` relies on a check that reads everything.
        return {"Problems": driver.check_home(full=given.flag("Full", missing=True))}


def _repair_home(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"Done": driver.repair_home()}


def _parent_of(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"Parent": driver.parent_of(given.layer(), given.parent())}


def _mounts(lent: LentDriver, given: Arguments) -> Answer:
    with lent.changing(layer := given.layer()) as driver:
        found = driver.mounts(layer, read_only=given.flag("ReadOnly"))
    return {"Mounts": [{"Type": one.type, "Source": one.source, "Options": list(one.options)} for one in found]}


def _seal(lent: LentDriver, given: Arguments) -> Answer:
    return {"Sealed": lent.seal(given.layer())}


def _flush(lent: LentDriver, given: Arguments) -> Answer:
    lent.flush()
    return {}


METHODS: Final[dict[str, Method]] = {
    "Plugin.Activate": _activate,
    "GraphDriver.Init": _init,
    "GraphDriver.Capabilities": _capabilities,
    "GraphDriver.Status": _status,
    "GraphDriver.Create": _create,
    "GraphDriver.CreateReadWrite": _create_read_write,
    "GraphDriver.Get": _get,
    "GraphDriver.Put": _put,
    "GraphDriver.Remove": _remove,
    "GraphDriver.Exists": _exists,
    "GraphDriver.Cleanup": _cleanup,
    "GraphDriver.GetMetadata": _metadata,
    "GraphDriver.Changes": _changes,
    "GraphDriver.DiffSize": _diff_size,
    "Layerstore.Version": _version,
    "Layerstore.LayerIDs": _layer_ids,
    "Layerstore.CheckLayer": _check_layer,
    "Layerstore.RepairLayer": _repair_layer,
    "Layerstore.CheckHome": _check_home,
    "Layerstore.RepairHome": _repair_home,
    "Layerstore.ParentOf": _parent_of,
    "Layerstore.Mounts": _mounts,
    "Layerstore.Seal": _seal,
    "Layerstore.Flush": _flush,
}

#: The methods whose request is a tar, with the arguments in the query.
UPLOADS: Final[dict[str, Method]] = {"GraphDriver.ApplyDiff": _apply_diff}

#: The methods whose answer is bytes.
STREAMS: Final[dict[str, Stream]] = {"GraphDriver.Diff": _diff}
