"""The methods of the protocol, by name. Each takes its arguments, and returns the fields of its answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, Final

from layerstore_core import ChangeKind, LayerStream
from layerstore_docker_plugin.lent import InitRequest, LentDriver
from layerstore_docker_plugin.messages import Arguments
from layerstore_docker_plugin.problems import BadRequest

Answer = dict[str, Any]
#: A method whose answer is JSON.
Method = Callable[[LentDriver, Arguments], Answer]
#: A method whose answer is bytes.
Stream = Callable[[LentDriver, Arguments], AbstractContextManager[BinaryIO]]
#: The kinds of changes, as Docker numbers them (moby, `pkg/archive/changes.go`).
_KINDS: Final = {ChangeKind.MODIFY: 0, ChangeKind.ADD: 1, ChangeKind.DELETE: 2}


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
    lent.init(InitRequest(given.text("Home"), options, tuple(given.ranges("UIDMaps")), tuple(given.ranges("GIDMaps"))))
    return {}


def _capabilities(lent: LentDriver, given: Arguments) -> Answer:
    with lent.driver() as driver:
        return {"Capabilities": {"ReproducesExactDiffs": driver.capabilities.reproduces_exact_diffs}}


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
    return {"Dir": lent.get(given.layer(), given.text("MountLabel"))}


def _put(lent: LentDriver, given: Arguments) -> Answer:
    lent.put(given.layer())
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
    with lent.driver() as driver:
        size = driver.apply_diff(given.layer("id"), given.parent("parent"), stream)
        stream.drain()
    return {"Size": size}


@contextmanager
def _diff(lent: LentDriver, given: Arguments) -> Iterator[BinaryIO]:
    with lent.driver() as driver, driver.diff(given.layer(), given.parent()) as file:
        yield file


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
}

#: The methods whose request is a tar, with the arguments in the query.
UPLOADS: Final[dict[str, Method]] = {"GraphDriver.ApplyDiff": _apply_diff}

#: The methods whose answer is bytes.
STREAMS: Final[dict[str, Stream]] = {"GraphDriver.Diff": _diff}
